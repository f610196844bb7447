from __future__ import annotations

import os
import shutil
import tempfile
import threading
import weakref
from pathlib import Path
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np
import scipy.sparse as sp

from scenc.data.counts import CountRows, as_csr
from scenc.io import open_file

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from scenc.data.counts import Csr
    from scenc.io import CountMatrix

# Rows that are wanted and lie no further apart are read in one go, with those in between.
GAP = 8
# Values held at a time where columns are turned into rows.
_BLOCK = 2**26


class FileRows(CountRows):
    """Counts in an .h5ad file or zarr store, read by runs of rows.

    The file is opened at the first need, in each process for itself. A matrix that is stored by
    columns is written by rows into a temporary file then, which takes a few passes over it.

    Parameters
    ----------
    path
        The file.
    matrix
        Where in it the counts are.

    Raises
    ------
    ValueError
        At the first need: the matrix is damaged.
    """

    def __init__(self, path: str, matrix: CountMatrix) -> None:
        self.path = path
        self.shape = matrix.shape
        self._matrix = matrix
        self._close()

    def __getstate__(self) -> dict[str, Any]:
        return {"path": self.path, "shape": self.shape, "_matrix": self._matrix}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._close()

    def _close(self) -> None:
        self._node: Any = None
        self._values: Any = None
        self._columns: Any = None
        self._indptr: NDArray[np.int64] | None = None
        self._guard = threading.Lock()
        self._process = 0

    @property
    def n_stored(self) -> NDArray[np.int64] | None:
        """Number of stored values of each row, which may be zeros; ``None`` if dense."""
        self._open()
        return None if self._indptr is None else np.diff(self._indptr)

    def n_stored_of(self, starts: NDArray[np.int64], stops: NDArray[np.int64]) -> int:
        """Return the number of stored values of runs of rows; 0 if dense."""
        self._open()
        if self._indptr is None:
            return 0
        return int((self._indptr[stops] - self._indptr[starts]).sum())

    def span(
        self, start: int, stop: int
    ) -> tuple[NDArray[np.int64], NDArray[Any], NDArray[np.float32]]:
        """Read a run of rows.

        Returns
        -------
        The three arrays of a CSR matrix: where rows begin, columns, values.

        Raises
        ------
        OSError
            The file cannot be read.
        """
        self._open()
        try:
            if self._indptr is None:
                block = as_csr(self._node[start:stop])
                return block.indptr.astype(np.int64), block.indices, block.data.astype(np.float32)
            indptr = self._indptr[start : stop + 1]
            first, last = int(indptr[0]), int(indptr[-1])
            values = self._values[first:last].astype(np.float32, copy=False)
            return indptr - first, self._columns[first:last], values
        except OSError as error:
            # HDF5's message does not name the file.
            raise OSError(
                f"{self.path}: cells {start} to {stop} cannot be read: {error}"
            ) from error

    def select(self, rows: NDArray[np.int64]) -> tuple[Csr, NDArray[np.int64]]:
        unique, positions = np.unique(rows, return_inverse=True)
        blocks, place, n_read = [], np.empty(len(unique), np.int64), 0
        for low, high in runs(unique):
            start, stop = int(unique[low]), int(unique[high - 1]) + 1
            indptr, indices, values = self.span(start, stop)
            blocks.append(sp.csr_array((values, indices, indptr), (stop - start, self.shape[1])))
            place[low:high] = n_read + unique[low:high] - start
            n_read += stop - start
        if not blocks:
            return sp.csr_array((0, self.shape[1]), dtype=np.float32), positions
        return sp.vstack(blocks, format="csr") if len(blocks) > 1 else blocks[0], place[positions]

    def _open(self) -> None:
        with self._guard:
            if self._process == os.getpid():
                return
            node = open_file(self.path)[self._matrix.key]
            if self._matrix.kind == "csc":
                folder = Path(tempfile.mkdtemp(prefix="scenc-"))
                weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True)
                node = rows_of_columns(node, self.shape, folder / "rows.h5")
            if self._matrix.kind != "dense":
                self._indptr = self._checked_indptr(node)
                self._values, self._columns = node["data"], node["indices"]
            self._node, self._process = node, os.getpid()

    def _checked_indptr(self, node: Any) -> NDArray[np.int64]:
        indptr: NDArray[np.int64] = node["indptr"][:].astype(np.int64)
        n_values = node["data"].shape[0]
        good = (
            len(indptr) == self.shape[0] + 1
            and indptr[0] == 0
            and indptr[-1] == n_values == node["indices"].shape[0]
            and bool((np.diff(indptr) >= 0).all())
            and node["indices"].dtype.kind in "iu"
        )
        if not good:
            raise ValueError(f"{self.path}: {self._matrix.key} is damaged: its rows do not add up.")
        return indptr


def runs(rows: NDArray[np.int64]) -> list[tuple[int, int]]:
    """Cut ascending numbers of rows where they lie far apart; begin and end of each part."""
    cuts = np.flatnonzero(np.diff(rows) > GAP) + 1
    bounds = [0, *cuts.tolist(), len(rows)] if len(rows) else [0]
    return list(zip(bounds[:-1], bounds[1:], strict=True))


def rows_of_columns(node: Any, shape: tuple[int, int], path: Path) -> h5py.Group:
    """Write a matrix that is stored by columns into a file, by rows.

    The values are read as often as they are more than what is held at a time.

    Parameters
    ----------
    node
        The matrix.
    shape
        Number of cells and of genes.
    path
        The file to write.

    Returns
    -------
    The new matrix, open.
    """
    indptr = node["indptr"][:].astype(np.int64)
    n_values = int(indptr[-1])
    counts = np.zeros(shape[0], np.int64)
    for start in range(0, n_values, _BLOCK):
        of_rows = np.bincount(node["indices"][start : start + _BLOCK], minlength=shape[0])
        if len(of_rows) > shape[0]:
            raise ValueError(f"A matrix of {shape[0]} rows has values in row {len(of_rows) - 1}.")
        counts += of_rows
    ends = np.concatenate([[0], np.cumsum(counts)])
    file = h5py.File(path, "w")
    data = file.create_dataset("data", n_values, np.float32)
    indices = file.create_dataset("indices", n_values, np.int32)
    file["indptr"] = ends
    low = 0
    while low < shape[0]:
        high = max(low + 1, int(np.searchsorted(ends, ends[low] + _BLOCK, side="right")) - 1)
        values, columns = _rows_between(node, indptr, low, high)
        data[ends[low] : ends[high]] = values
        indices[ends[low] : ends[high]] = columns
        low = high
    return file


def _rows_between(
    node: Any, indptr: NDArray[np.int64], low: int, high: int
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Gather the values of some rows from all columns, row by row."""
    blocks = []
    for start in range(0, int(indptr[-1]), _BLOCK):
        rows = node["indices"][start : start + _BLOCK]
        at = np.flatnonzero((rows >= low) & (rows < high))
        columns = np.searchsorted(indptr, start + at, side="right") - 1
        values = node["data"][start : start + _BLOCK][at].astype(np.float32)
        blocks.append((rows[at], values, columns))
    if not blocks:
        return np.zeros(0, np.float32), np.zeros(0, np.int64)
    rows, values, columns = (np.concatenate(parts) for parts in zip(*blocks, strict=True))
    order = np.argsort(rows, kind="stable")
    return values[order], columns[order]
