"""Cells of many files in memory, for a while, as rows over one vocabulary."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from scenc.data.loading._samplers import LoadRequest, Request
    from scenc.data.tokens import GeneRows, TokenBatch, Tokenizer


@dataclass(frozen=True, slots=True)
class Buffer:
    """Counts of the cells of one `LoadRequest`.

    Attributes
    ----------
    counts
        Non-zero counts, cells x vocabulary.
    cells
        Number of the cell of each row.
    order
        Row of each position that batches ask for.
    """

    counts: GeneRows
    cells: NDArray[np.int64]
    order: NDArray[np.int64]

    def rows_of(self, request: Request, keep_empty: bool) -> NDArray[np.int64]:
        """Return the rows of a batch, without those that have no counts unless these are kept."""
        rows = self.order[request.rows]
        return rows if keep_empty else rows[self._lengths(rows) > 0]

    def tokens(self, request: Request, tokenizer: Tokenizer, keep_empty: bool) -> TokenBatch:
        """Make one batch, its longest cells first."""
        rows = self.rows_of(request, keep_empty)
        rows = rows[np.argsort(-self._lengths(rows), kind="stable")]
        made = tokenizer.tokens(self.counts, rows, request.seed)
        return made.at_cells(self.cells[rows])

    def _lengths(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        lengths: NDArray[np.int64] = self.counts.indptr[rows + 1] - self.counts.indptr[rows]
        return lengths


class CellReader(ABC):
    """Read cells by their numbers, which go on from file to file.

    Parameters
    ----------
    n_cells
        Number of cells of each file.
    """

    def __init__(self, n_cells: NDArray[np.int64]) -> None:
        self._ends = np.cumsum(n_cells)

    @abstractmethod
    def gather(self, cells: NDArray[np.int64]) -> GeneRows:
        """Return the non-zero counts of cells, by the vocabulary."""

    def locate(self, cells: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return the file of each cell, and its row there."""
        files = np.searchsorted(self._ends, cells, side="right")
        starts = np.concatenate([[0], self._ends[:-1]])
        return files, cells - starts[files]

    def reading_order(self, cells: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the order in which `gather` takes cells."""
        return np.arange(len(cells))

    def read(self, load: LoadRequest) -> Buffer:
        """Read cells into memory.

        Raises
        ------
        ValueError
            A file is damaged.
        OSError
            A file cannot be read.
        """
        reading = self.reading_order(load.cells)
        cells = load.cells[reading]
        counts = self.gather(cells)
        if load.by_length:
            return Buffer(counts, cells, np.argsort(-np.diff(counts.indptr), kind="stable"))
        order = np.empty_like(reading)
        order[reading] = np.arange(len(reading))
        return Buffer(counts, cells, order)


class FileTokens:
    """Batches of tokens of cells that are in files.

    Parameters
    ----------
    reader
        Reads the cells.
    tokenizer
        How they become tokens.
    keep_empty
        Whether cells without counts in the vocabulary stay in their batches.
    """

    def __init__(self, reader: CellReader, tokenizer: Tokenizer, keep_empty: bool = False) -> None:
        self._reader = reader
        self._tokenizer = tokenizer
        self._keep_empty = keep_empty

    def read(self, load: LoadRequest) -> Buffer:
        """Read cells into memory."""
        return self._reader.read(load)

    def make(self, buffer: Buffer, request: Request) -> TokenBatch:
        """Make one batch."""
        return buffer.tokens(request, self._tokenizer, self._keep_empty)
