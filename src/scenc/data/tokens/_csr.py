"""Counts over one vocabulary, whichever columns they come from.

Files name their genes in different orders, and have genes that a model does not know. A gene map
says what each column is, and rows are brought to the vocabulary as they are read:

    columns        3    8    9   12        of one row, as it is stored
    values         4    2    1    2
    gene_map      71    5   -2   -1        of these columns: COUNTED, UNKNOWN
    genes         71    5                  what is kept
    library size   4 +  2 +  1             UNKNOWN adds nothing: as if the file did not have it

No matrix is reordered or copied for it, so that cells of many files can be shuffled while they are
read. Genes that a model leaves out as little variable stay `COUNTED`: otherwise x~ (eq. 2) of the
others would depend on how many genes it knows.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numba import njit
from numba.extending import overload

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from scipy.sparse import csr_array, csr_matrix

# Values of a gene map at columns that are no gene of the vocabulary: left out altogether, or no
# tokens and yet counted in the library size.
UNKNOWN, COUNTED = -1, -2


class GeneRows(NamedTuple):
    """Counts of cells by the genes of a vocabulary, none of them zero.

    These are the arrays of a CSR matrix, without scipy's wish to make them all of one type.

    A library size is the sum of a cell's counts, also of genes that the matrix lacks but that are
    `COUNTED`, shape ``(n_cells,)``; ``None``: there are no such genes, the rows' sums are meant.
    """

    indptr: NDArray[np.int64]
    indices: NDArray[Any]
    data: NDArray[Any]
    library_sizes: NDArray[np.float64] | None


NO_ROWS = GeneRows(
    np.zeros(1, np.int64), np.zeros(0, np.int32), np.zeros(0, np.float32), np.zeros(0)
)


class Joined:
    """Rows over one vocabulary, put one after the other into arrays that are allocated once.

    Parameters
    ----------
    n_rows
        Number of rows to come.
    room
        Number of values to expect; more take longer.
    """

    def __init__(self, n_rows: int, room: int) -> None:
        self._genes = np.empty(room, np.int32)
        self._values = np.empty(room, np.float32)
        self._indptr = np.zeros(n_rows + 1, np.int64)
        self._library_sizes = np.zeros(n_rows)
        self._n_rows = 0

    def add(
        self,
        indptr: NDArray[Any],
        indices: NDArray[Any],
        values: NDArray[Any],
        rows: NDArray[np.int64],
        gene_map: NDArray[np.int32] | NDArray[np.int64],
    ) -> bool:
        """Take rows of a CSR matrix over to the vocabulary, without zeros and unknown genes.

        Returns
        -------
        Whether all columns exist.
        """
        n, end = int(self._indptr[self._n_rows]), self._n_rows + len(rows)
        missing = n + int((indptr[rows + 1] - indptr[rows]).sum()) - len(self._genes)
        if missing > 0:
            room = missing + n
            self._genes = np.concatenate([self._genes, np.empty(room, np.int32)])
            self._values = np.concatenate([self._values, np.empty(room, np.float32)])
        good: bool = _keep_known(
            indptr, indices, values, rows, gene_map, self._genes, self._values,
            self._indptr[self._n_rows : end + 1], self._library_sizes[self._n_rows : end],
        )  # fmt: skip
        self._n_rows = end
        return good

    def rows(self) -> GeneRows:
        """Return what has been put in."""
        n = self._indptr[self._n_rows]
        return GeneRows(self._indptr, self._genes[:n], self._values[:n], self._library_sizes)


def longest_first(
    counts: csr_matrix | csr_array | GeneRows,
    rows: NDArray[np.int64],
    gene_map: NDArray[np.int64] | None = None,
) -> NDArray[np.int64]:
    """Return positions in `rows` by the number of non-zero genes of the vocabulary, largest first.

    Arguments are those of `Tokenizer`. What a cell has beyond the vocabulary makes no tokens, and
    may be most of it. Without a gene map all stored values are such genes', and need no look.
    """
    if gene_map is None:
        known = counts.indptr[rows + 1] - counts.indptr[rows]
    else:
        known = _count_known(counts.indptr, counts.indices, counts.data, rows, gene_map)
    return np.argsort(-known, kind="stable")


@njit(cache=True, nogil=True)
def _count_known(indptr, indices, values, rows, gene_map):  # type: ignore[no-untyped-def]
    """Count the non-zero genes of the vocabulary in rows of a CSR matrix.

    Columns that do not exist count for nothing: what makes tokens of the rows refuses them.
    """
    counts = np.zeros(len(rows), np.int64)
    n_columns = np.uint64(len(gene_map))
    for i in range(len(rows)):
        n = 0
        for j in range(indptr[rows[i]], indptr[rows[i] + 1]):
            column = np.uint64(indices[j])
            if column < n_columns:
                n += (gene_map[column] >= 0) & (values[j] != 0)
        counts[i] = n
    return counts


@njit(cache=True, nogil=True)
def _keep_known(  # type: ignore[no-untyped-def]
    indptr, indices, values, rows, gene_map, genes, kept, ends, library_sizes
):
    """Copy what is known of rows, from where `ends` begins; say whether all columns exist."""
    n = ends[0]
    for i in range(len(rows)):
        start, stop = indptr[rows[i]], indptr[rows[i] + 1]
        n_known, library_sizes[i] = copy_known(
            indices[start:stop], values[start:stop], gene_map, genes[n:], kept[n:]
        )
        if n_known < 0:
            return False
        n += n_known
        ends[i + 1] = n
    return True


@njit(cache=True, nogil=True)
def copy_known(  # type: ignore[no-untyped-def]
    columns, values, gene_map, genes, kept
):
    """Copy what is known of one row.

    Parameters
    ----------
    columns, values
        The row.
    gene_map
        Vocabulary index of each column, `UNKNOWN` or `COUNTED`.
    genes, kept
        Where genes and their values are written, with room for as many as there are columns.

    Returns
    -------
    The number of non-zero genes of the vocabulary, -1 if there are columns that do not exist, and
    the cell's library size.
    """
    n = len(columns)
    if not _translate(columns, gene_map, genes[:n]):
        return -1, 0.0
    copy(values, kept)
    n_known, library_size = _add_up(genes[:n], kept[:n])
    if n_known < n:
        # Written everywhere and moved on from what is kept only: no branch that chance decides.
        place = 0
        for j in range(n):
            gene, value = genes[j], kept[j]
            genes[place], kept[place] = gene, value
            place += (gene >= 0) & (value != 0)
    return n_known, library_size


# Each loop does one simple thing, so that compilers turn it into vector instructions: together
# they are several times as fast as one loop that does all of it.


@njit(cache=True, nogil=True)
def _translate(columns, gene_map, genes):  # type: ignore[no-untyped-def]
    """Write the gene of each column; say whether all columns exist."""
    if not len(columns):
        return True
    smallest = largest = columns[0]
    for j in range(len(columns)):
        smallest, largest = min(smallest, columns[j]), max(largest, columns[j])
    if smallest < 0 or largest >= len(gene_map):
        return False
    for j in range(len(columns)):
        # An index without sign needs no look at whether it counts from the end.
        genes[j] = gene_map[np.uint64(columns[j])]
    return True


@njit(cache=True, nogil=True, fastmath={"reassoc"})
def _add_up(genes, values):  # type: ignore[no-untyped-def]
    """Count the non-zero genes of the vocabulary, and sum up the library size."""
    library_size, n_known = 0.0, 0
    for j in range(len(genes)):
        library_size += np.float64(values[j]) if genes[j] != UNKNOWN else 0.0
        n_known += (genes[j] >= 0) & (values[j] != 0)
    return n_known, library_size


def as_type(values: NDArray[Any], room: NDArray[Any]) -> NDArray[Any]:
    """Return values as the type of other ones, which they are copied to if theirs differs."""
    if values.dtype == room.dtype:
        return values
    copy(values, room)
    return room[: len(values)]


@overload(as_type)
def _compiled_as_type(values, room):  # type: ignore[no-untyped-def]
    if values.dtype == room.dtype:
        return lambda values, room: values

    def converted(values, room):  # type: ignore[no-untyped-def]
        copy(values, room)
        return room[: len(values)]

    return converted


@njit(cache=True, nogil=True)
def copy(values: NDArray[Any], room: NDArray[Any]) -> None:
    """Copy values to the beginning of a room, which a loop does faster than numba's slices."""
    for j in range(len(values)):
        room[j] = values[j]


@njit(cache=True, nogil=True, fastmath={"reassoc"})
def add(values: NDArray[Any]) -> float:
    """Return the sum of values."""
    total = 0.0
    for j in range(len(values)):
        total += np.float64(values[j])
    return total
