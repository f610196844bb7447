"""Rows of counts from any matrix an AnnData can hold, as CSR and without densifying the whole."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np
import scipy.sparse as sp
from anndata.abc import CSCDataset, CSRDataset

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

type Csr = sp.csr_matrix | sp.csr_array

# Cells per chunk where a whole matrix is walked through.
_CHUNK = 4096


class CountRows(ABC):
    """Raw counts of cells, read by row.

    Attributes
    ----------
    shape
        Number of cells and of genes.

    Examples
    --------
    >>> rows = scenc.data.open_rows(adata.X)
    >>> isinstance(rows, scenc.data.CountRows), rows.shape
    (True, (700, 765))
    >>> matrix, positions = rows.select(np.array([5, 2]))
    >>> matrix[positions].shape
    (2, 765)
    >>> for first, block in rows.chunks(size=400):
    ...     print(first, block.shape)
    0 (400, 765)
    400 (300, 765)
    """

    shape: tuple[int, int]

    @property
    def is_plain(self) -> bool:
        """Whether all stored values are known to be of genes that exist, and none to be zero."""
        return False

    @abstractmethod
    def select(self, rows: NDArray[np.int64]) -> tuple[Csr, NDArray[np.int64]]:
        """Return a CSR matrix and where in it the asked-for rows are, in the order asked for."""

    def chunks(self, size: int = _CHUNK) -> Iterator[tuple[int, Csr]]:
        """Walk through all rows in order: (first row, CSR block)."""
        for start in range(0, self.shape[0], size):
            rows = np.arange(start, min(start + size, self.shape[0]))
            block, positions = self.select(rows)
            yield start, block[positions[0] : positions[-1] + 1]


class _MemoryRows(CountRows):
    """CSR in memory: nothing is copied."""

    def __init__(self, matrix: Csr) -> None:
        self._matrix = matrix
        self.shape = matrix.shape

    @property
    def is_plain(self) -> bool:
        n = self._matrix.nnz
        values, columns = self._matrix.data[:n], self._matrix.indices[:n]
        if np.count_nonzero(values) < n:
            return False
        return not n or bool(columns.min() >= 0 and columns.max() < self.shape[1])

    def select(self, rows: NDArray[np.int64]) -> tuple[Csr, NDArray[np.int64]]:
        return self._matrix, rows


class _DenseRows(CountRows):
    """Dense array in memory: only the rows asked for become CSR."""

    def __init__(self, matrix: NDArray[Any]) -> None:
        self._matrix = matrix
        self.shape = matrix.shape

    def select(self, rows: NDArray[np.int64]) -> tuple[Csr, NDArray[np.int64]]:
        return as_csr(self._matrix[rows]), np.arange(len(rows))


class _BackedRows(CountRows):
    """CSR or dense data on disk: rows are read once each, in file order, then put back in order."""

    def __init__(self, matrix: CSRDataset | h5py.Dataset) -> None:
        self._matrix = matrix
        self.shape = tuple(matrix.shape)

    def select(self, rows: NDArray[np.int64]) -> tuple[Csr, NDArray[np.int64]]:
        unique, positions = np.unique(rows, return_inverse=True)
        contiguous = len(unique) > 0 and unique[-1] - unique[0] + 1 == len(unique)
        wanted = slice(unique[0], unique[-1] + 1) if contiguous else unique
        return _canonical(as_csr(self._matrix[wanted])), positions


def as_csr(rows: Any) -> Csr:
    """Return rows as CSR; half precision, which scipy does not know, becomes single."""
    return sp.csr_array(rows.astype(np.float32) if rows.dtype == np.float16 else rows)


def open_rows(matrix: Any, where: str = "X") -> CountRows:
    """Wrap a matrix for reading by row.

    CSC is converted to CSR once (reading rows from columns would touch everything at each batch);
    all else stays as and where it is.

    Parameters
    ----------
    matrix
        scipy CSR/CSC matrix or array, numpy array, or a backed AnnData's X or layer.
    where
        Name of the matrix in error messages.

    Raises
    ------
    TypeError
        The matrix is of a kind that cannot be read by row.

    Examples
    --------
    >>> rows = scenc.data.open_rows(adata.X)
    """
    if isinstance(matrix, CSCDataset):
        matrix = matrix.to_memory()
    if isinstance(matrix, sp.csc_matrix | sp.csc_array):
        matrix = matrix.tocsr()
    if isinstance(matrix, sp.csr_matrix | sp.csr_array):
        return _MemoryRows(_canonical(matrix))
    if isinstance(matrix, CSRDataset | h5py.Dataset):
        return _BackedRows(matrix)
    if isinstance(matrix, np.ndarray) and matrix.ndim == 2:
        return _DenseRows(np.asarray(matrix))
    if hasattr(matrix, "tocsr"):
        return _MemoryRows(matrix.tocsr())
    raise TypeError(
        f"{where} is a {type(matrix).__name__}, which cannot be read by row. "
        "Use a scipy sparse matrix, a numpy array or a backed AnnData."
    )


def _canonical(matrix: Csr) -> Csr:
    """Add up entries that stand twice, which scipy allows and takes as one value."""
    if matrix.has_canonical_format:
        return matrix
    matrix = matrix.copy()
    matrix.sum_duplicates()
    return matrix
