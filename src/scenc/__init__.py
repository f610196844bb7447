"""Single-cell transformers with the gene and expression encoding of your choice."""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from scenc import benchmark, data, datasets, genes, metrics, model, nn, pl, tasks, train
    from scenc.model import Model

__all__ = [
    "Model",
    "benchmark",
    "data",
    "datasets",
    "genes",
    "metrics",
    "model",
    "nn",
    "pl",
    "tasks",
    "train",
]
__version__ = version("scenc")


def __getattr__(name: str) -> Any:
    """Import a public name at its first use: the command line must not wait for torch and scvi."""
    if name == "Model":
        return import_module("scenc.model").Model
    if name in __all__:
        return import_module(f"scenc.{name}")
    raise AttributeError(f"module 'scenc' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
