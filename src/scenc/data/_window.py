"""Cells of many files in memory, for a while, as rows over one vocabulary."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numba import njit

from scenc.data._file_rows import runs
from scenc.data._tokens import UNKNOWN

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from scenc.data._batch import TokenBatch
    from scenc.data._file_rows import FileRows
    from scenc.data._plan import BatchPlan, WindowPlan
    from scenc.data._tokens import Tokenizer


class Rows(NamedTuple):
    """The arrays of a CSR matrix, without scipy's wish to make them all of one type.

    Depths are sums of the cells' counts, also of genes that the matrix lacks but that count for
    them, shape ``(n_cells,)``.
    """

    indptr: NDArray[np.int64]
    indices: NDArray[np.int32]
    data: NDArray[np.float32]
    depths: NDArray[np.float64]


NO_ROWS = Rows(np.zeros(1, np.int64), np.zeros(0, np.int32), np.zeros(0, np.float32), np.zeros(0))


@dataclass(frozen=True, slots=True)
class Window:
    """Counts of some cells.

    Attributes
    ----------
    counts
        Non-zero counts, cells x vocabulary.
    cells
        The cells' numbers, in the order of the rows.
    n_genes
        Number of genes of the vocabulary.
    batches
        The batches to make, by rows.
    """

    counts: Rows
    cells: NDArray[np.int64]
    n_genes: int
    batches: tuple[BatchPlan, ...]

    def tokens(self, batch: BatchPlan, tokenizer: Tokenizer) -> TokenBatch:
        """Make one batch, its longest cells first."""
        rows = batch.positions
        rows = rows[np.argsort(-np.diff(self.counts.indptr)[rows], kind="stable")]
        made = tokenizer(self.counts, rows, np.arange(self.n_genes), batch.seed, self.counts.depths)
        return made.at_cells(self.cells[rows])


class WindowReader(ABC):
    """Read cells by their numbers, which go on from file to file.

    Parameters
    ----------
    n_cells
        Number of cells of each file.
    n_genes
        Number of genes of the vocabulary.
    """

    def __init__(self, n_cells: NDArray[np.int64], n_genes: int) -> None:
        self._ends = np.cumsum(n_cells)
        self._n_genes = n_genes

    @abstractmethod
    def gather(self, cells: NDArray[np.int64]) -> Rows:
        """Return the non-zero counts of cells, by the vocabulary."""

    def locate(self, cells: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return the file of each cell, and its row there."""
        files = np.searchsorted(self._ends, cells, side="right")
        starts = np.concatenate([[0], self._ends[:-1]])
        return files, cells - starts[files]

    def read(self, plan: WindowPlan, keep_empty: bool) -> Window:
        """Read a window.

        Parameters
        ----------
        plan
            Which cells, and their batches.
        keep_empty
            Whether cells without counts in the vocabulary stay in their batches.

        Raises
        ------
        ValueError
            A file is damaged.
        OSError
            A file cannot be read.
        """
        counts = self.gather(plan.cells)
        lengths = np.diff(counts.indptr)
        batches = []
        order = np.argsort(-lengths, kind="stable") if plan.by_length else np.arange(len(lengths))
        for batch in plan.batches:
            rows = order[batch.positions]
            if not keep_empty:
                rows = rows[lengths[rows] > 0]
            batches.append(replace(batch, positions=rows))
        return Window(counts, plan.cells, self._n_genes, tuple(batches))


class FileReader(WindowReader):
    """Read cells of files with different genes.

    Parameters
    ----------
    files
        The files' counts.
    gene_maps
        Per file, the vocabulary index of each of its genes, or what else it is (`Tokenizer`).
    n_genes
        Number of genes of the vocabulary.
    """

    def __init__(
        self, files: Sequence[FileRows], gene_maps: Sequence[NDArray[np.int64]], n_genes: int
    ) -> None:
        super().__init__(np.array([file.shape[0] for file in files]), n_genes)
        self._files = files
        self._gene_maps = [gene_map.astype(np.int32) for gene_map in gene_maps]

    def gather(self, cells: NDArray[np.int64]) -> Rows:
        """Read runs of neighbouring cells, and join what of them is in the vocabulary."""
        files, rows = self.locate(cells)
        blocks = []
        for low, high in _neighbours(files, rows):
            file, first = int(files[low]), int(rows[low])
            span = self._files[file].span(first, int(rows[high - 1]) + 1)
            block = keep_known(*span, rows[low:high] - first, self._gene_maps[file])
            if block is None:
                raise ValueError(f"{self._files[file].path} is damaged: it has genes out of range.")
            blocks.append(block)
        if not blocks:
            return NO_ROWS
        lengths, *rest = (np.concatenate(parts) for parts in zip(*blocks, strict=True))
        return Rows(np.concatenate([[0], np.cumsum(lengths)]), *rest)


def _neighbours(files: NDArray[np.int64], rows: NDArray[np.int64]) -> list[tuple[int, int]]:
    """Cut cells where the file changes, or the next row is not a little further on."""
    cuts = np.flatnonzero((np.diff(files) != 0) | (np.diff(rows) <= 0)) + 1
    bounds = [0, *cuts.tolist(), len(rows)]
    return [
        (low + begin, low + end)
        for low, high in zip(bounds[:-1], bounds[1:], strict=True)
        for begin, end in runs(rows[low:high])
    ]


@njit(cache=True, nogil=True)
def keep_known(indptr, indices, values, rows, gene_map):  # type: ignore[no-untyped-def]
    """Take rows of a CSR matrix over to a vocabulary, without zeros and unknown genes.

    Returns the rows' lengths, the vocabulary's indices, the values, and the rows' depths; None
    where a column does not exist.
    """
    room = 0
    for row in rows:
        room += indptr[row + 1] - indptr[row]
    lengths = np.zeros(len(rows), np.int64)
    genes = np.empty(room, np.int32)
    kept = np.empty(room, np.float32)
    depths = np.zeros(len(rows), np.float64)
    n = 0
    for i in range(len(rows)):
        before = n
        for j in range(indptr[rows[i]], indptr[rows[i] + 1]):
            column = indices[j]
            if column < 0 or column >= len(gene_map):
                return None
            gene = gene_map[column]
            if gene != UNKNOWN:
                depths[i] += values[j]
            if gene >= 0 and values[j] != 0:
                genes[n] = gene
                kept[n] = values[j]
                n += 1
        lengths[i] = n - before
    return lengths, genes[:n], kept[:n], depths
