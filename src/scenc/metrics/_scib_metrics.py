from __future__ import annotations

import warnings
from functools import cache
from importlib import import_module
from typing import Any


@cache
def scib_metrics() -> Any:
    """Import scib-metrics, and with it jax and UMAP, at its first use.

    UMAP announces that TensorFlow is absent with a warning; nothing here could use it, so that
    one message is dropped. The import takes 10 to 20 seconds, most of them spent by numba.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings(
            "ignore", message="Tensorflow not installed", category=ImportWarning
        )
        return import_module("scib_metrics")
