"""Cells of many files in memory, for a while, as rows over one vocabulary."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from scenc.data.tokens import Memory

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from scenc.data.loading._read_order import BatchPlan, WindowPlan
    from scenc.data.tokens import GeneRows, TokenBatch, Tokenizer


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
