"""Arrays of HDF5 files that are stored as they are, read without HDF5."""

from __future__ import annotations

import os
import weakref
from bisect import bisect_right
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import h5py
    from numpy.typing import NDArray


class RawArray:
    """A one-dimensional array in pieces that stand somewhere in a file, uncompressed.

    HDF5 looks at every piece of an array by itself, copies it into a cache of its own, and holds
    a lock meanwhile, which takes several times as long as reading does. Files are read rather than
    mapped: a file that is cut short is an error then, not the end of the process, and what is read
    does not count as the process's memory.

    Parameters
    ----------
    path
        The file.
    dtype
        Type of the values.
    starts
        Number of the first value of each piece, and of the end of the last.
    offsets
        Where in the file each piece begins, in bytes.
    """

    def __init__(
        self, path: str, dtype: np.dtype[Any], starts: list[int], offsets: list[int]
    ) -> None:
        self._file = os.open(path, os.O_RDONLY)
        weakref.finalize(self, os.close, self._file)
        self._dtype = dtype
        self._starts = starts
        self._offsets = offsets
        self.shape = (starts[-1],)

    def __getitem__(self, wanted: slice) -> NDArray[Any]:
        """Read values from one on and up to another.

        Raises
        ------
        OSError
            They cannot be read.
        """
        start, stop, _ = wanted.indices(self._starts[-1])
        values = np.empty(max(0, stop - start), self._dtype)
        size = self._dtype.itemsize
        view = values.view(np.uint8)
        piece = bisect_right(self._starts, start) - 1
        low = start
        while low < stop:
            high = min(stop, self._starts[piece + 1])
            offset = self._offsets[piece] + (low - self._starts[piece]) * size
            self._fill(view[(low - start) * size : (high - start) * size], offset)
            low, piece = high, piece + 1
        return values

    def _fill(self, view: NDArray[np.uint8], offset: int) -> None:
        while len(view):
            n_read = os.preadv(self._file, [view], offset)
            if not n_read:
                raise OSError("the file ends before its values do")
            view, offset = view[n_read:], offset + n_read


def raw_array(dataset: h5py.Dataset) -> RawArray | None:
    """Return an array of an open file as a raw one; ``None`` if it is not stored as it is."""
    file = dataset.file
    if (
        not hasattr(os, "preadv")
        or file.driver != "sec2"
        or file.userblock_size
        or dataset.ndim != 1
        or not dataset.shape[0]
        or dataset.dtype.kind not in "iuf"
        or not dataset.dtype.isnative
        or dataset.is_virtual
        or dataset.external is not None
    ):
        return None
    pieces = _pieces(dataset)
    if pieces is None:
        return None
    starts, offsets = pieces
    ends = offsets + np.diff(starts) * dataset.dtype.itemsize
    if offsets.min() < 0 or ends.max() > os.path.getsize(file.filename):
        return None
    # Pieces that follow upon each other in the file are one.
    new = np.concatenate([[True], offsets[1:] != ends[:-1]])
    return RawArray(
        file.filename,
        dataset.dtype,
        [*starts[:-1][new].tolist(), dataset.shape[0]],
        offsets[new].tolist(),
    )


def _pieces(dataset: h5py.Dataset) -> tuple[NDArray[np.int64], NDArray[np.int64]] | None:
    """Return where pieces of an array begin, in values with the array's end, and in bytes."""
    n_values, itemsize = dataset.shape[0], dataset.dtype.itemsize
    if dataset.chunks is None:
        offset = dataset.id.get_offset()
        return None if offset is None else (np.array([0, n_values]), np.array([offset]))
    if dataset.id.get_create_plist().get_nfilters():
        return None
    size = dataset.chunks[0]
    offsets = np.full(-(-n_values // size), -1, np.int64)

    def note(chunk: Any) -> None:
        number = chunk.chunk_offset[0] // size
        if number < len(offsets) and chunk.size == size * itemsize:
            offsets[number] = min(chunk.byte_offset, 2**62)

    dataset.id.chunk_iter(note)
    # A chunk without a place was never written, and holds what HDF5 fills in.
    if offsets.min() < 0:
        return None
    return np.append(np.arange(len(offsets)) * size, n_values), offsets
