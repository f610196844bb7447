from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def kept_threads() -> Iterator[None]:
    """Restore PyTorch's number of threads afterwards.

    numba shares its pool of threads, and on its first parallel loop sets it to all cores, whatever
    the user or a cluster has asked for.
    """
    n_threads = torch.get_num_threads()
    try:
        yield
    finally:
        torch.set_num_threads(n_threads)
