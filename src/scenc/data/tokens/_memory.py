"""Memory for windows of cells, taken from the system once and used again."""

from __future__ import annotations

import mmap
import weakref
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import DTypeLike, NDArray

# Windows differ a little in size: what is taken for one is to do for the next.
_SPARE_ROOM = 1.125
# Not shared with other processes, which takes longer to clear; Windows has no such choice.
_FLAGS = {"flags": mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS} if hasattr(mmap, "MAP_PRIVATE") else {}


class Memory:
    """Arrays whose memory is used again once neither they nor parts of them are.

    The system clears what it hands out, page by page, which takes as long as reading a window
    does. It is no memory of malloc's, which would keep what is too small by now in pieces.
    """

    def __init__(self) -> None:
        self._spare: list[mmap.mmap] = []

    def __reduce__(self) -> tuple[type[Memory], tuple[()]]:
        # Another process has its own.
        return Memory, ()

    def take(self, size: int, dtype: DTypeLike) -> NDArray[Any]:
        """Return an array of so many values; what is in it is not defined."""
        n_bytes = max(1, size * np.dtype(dtype).itemsize)
        memory = self._spare.pop() if self._spare else None
        if memory is None or len(memory) < n_bytes:
            memory = mmap.mmap(-1, int(_SPARE_ROOM * n_bytes) + 1, **_FLAGS)
        array: NDArray[Any] = np.frombuffer(memory, dtype, size)
        # Slices keep this array alive, since it is not itself a part of one.
        weakref.finalize(array, self._spare.append, memory).atexit = False
        return array

    def forget(self) -> None:
        """Give back what is not in use, and what is as soon as it is not."""
        self._spare = []
