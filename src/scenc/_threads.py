from __future__ import annotations

import os
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


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


def in_parts(work: Callable[[int, int], None], n: int) -> None:
    """Share out ``work(0, n)`` over as many threads as PyTorch computes with, and wait for it.

    Parameters
    ----------
    work
        Does numbers ``start`` to ``end - 1``. It sees one thread of PyTorch's, no autocast, and
        keeps no gradients.
    n
        How many there are to do.
    """
    n_parts = min(torch.get_num_threads(), n)
    if n_parts < 2:
        with torch.no_grad():
            work(0, n)
        return
    ends = [n * part // n_parts for part in range(n_parts + 1)]
    list(_pool(torch.get_num_threads()).map(torch.no_grad()(work), ends, ends[1:]))


@cache
def _pool(n_threads: int) -> ThreadPoolExecutor:
    """Return so many threads that each compute alone."""
    started = threading.Barrier(n_threads)

    def begin() -> None:
        torch.set_num_threads(1)
        started.wait()

    pool = ThreadPoolExecutor(n_threads, "scenc", begin)
    list(pool.map(str, range(n_threads)))
    # Of this thread it was not changed, but of those that others may start from now on.
    torch.set_num_threads(n_threads)
    return pool


# A forked process has no threads but one.
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_pool.cache_clear)
