"""Cells of many files in memory, for a while, as rows over one vocabulary."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from scenc.data._file_rows import GAP
from scenc.data._gene_rows import NO_ROWS, Joined
from scenc.data._memory import Memory

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from scenc.data._batch import TokenBatch
    from scenc.data._file_rows import FileRows
    from scenc.data._gene_rows import GeneRows
    from scenc.data._plan import BatchPlan, WindowPlan
    from scenc.data._tokens import Tokenizer


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

    counts: GeneRows
    cells: NDArray[np.int64]
    n_genes: int
    batches: tuple[BatchPlan, ...]

    def tokens(self, batch: BatchPlan, tokenizer: Tokenizer) -> TokenBatch:
        """Make one batch, its longest cells first."""
        rows = batch.positions
        starts = self.counts.indptr
        rows = rows[np.argsort(starts[rows] - starts[rows + 1], kind="stable")]
        made = tokenizer.tokens(self.counts, rows, batch.seed)
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
        self._memory = Memory()

    @abstractmethod
    def gather(self, cells: NDArray[np.int64]) -> GeneRows:
        """Return the non-zero counts of cells, by the vocabulary."""

    def forget(self) -> None:
        """Keep no memory for further windows."""
        self._memory.forget()

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

    def gather(self, cells: NDArray[np.int64]) -> GeneRows:
        """Read runs of neighbouring cells, and join what of them is in the vocabulary."""
        if not len(cells):
            return NO_ROWS
        files, rows = self.locate(cells)
        cuts = np.flatnonzero(_breaks(files, rows)) + 1
        lows, highs = np.append(0, cuts), np.append(cuts, len(cells))
        room = self._room(files[lows], rows[lows], rows[highs - 1] + 1)
        joined = Joined(len(cells), room, self._memory)
        for low, high in zip(lows.tolist(), highs.tolist(), strict=True):
            file, first = int(files[low]), int(rows[low])
            span = self._files[file].span(first, int(rows[high - 1]) + 1)
            if not joined.add(*span, rows[low:high] - first, self._gene_maps[file]):
                raise ValueError(f"{self._files[file].path} is damaged: it has genes out of range.")
        return joined.rows()

    def _room(
        self, files: NDArray[np.int64], starts: NDArray[np.int64], stops: NDArray[np.int64]
    ) -> int:
        """Return how many values are stored in runs of rows, as far as can be told beforehand."""
        return sum(
            self._files[file].n_stored_of(starts[files == file], stops[files == file])
            for file in np.unique(files).tolist()
        )


def _breaks(files: NDArray[np.int64], rows: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Say after which cells the file changes, or the next row is not a little further on."""
    steps = np.diff(rows)
    breaks: NDArray[np.bool_] = (np.diff(files) != 0) | (steps <= 0) | (steps > GAP)
    return breaks
