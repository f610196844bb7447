"""Pairs of thinned views: what contrastive training sees of cells and their neighbours."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Self

import numpy as np
import torch

from scenc.data.loading import MemoryDataset
from scenc.data.tokens import longest_first
from scenc.data.views._thin import thin, uniforms

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from scenc.data.counts import CountRows
    from scenc.data.loading import Request
    from scenc.data.tokens import TokenBatch, Tokenizer


@dataclass(frozen=True, slots=True)
class Neighborhoods:
    """Each cell's place among the embeddings to be learned, and the cells that are like it.

    Attributes
    ----------
    anchors
        Each cell's place, shape ``(n_cells, n_dims)``.
    neighbors
        Rows of similar cells, shape ``(n_cells, k)``.
    odds
        Cumulative odds with which each neighbour is drawn, ending at 1, shape ``(n_cells, k)``.
    batches
        Experimental batch of each cell, as a number, shape ``(n_cells,)``.
    """

    anchors: NDArray[np.float32]
    neighbors: NDArray[np.int64]
    odds: NDArray[np.float64]
    batches: NDArray[np.int64]

    def draw(
        self, rows: NDArray[np.int64], same: float, chances: NDArray[np.float64]
    ) -> NDArray[np.int64]:
        """Return a neighbour of each row, or with a probability the row itself.

        Parameters
        ----------
        rows
            The rows.
        same
            The probability.
        chances
            Two random numbers between 0 and 1 for each row, shape ``(n_rows, 2)``.
        """
        rank = (chances[:, :1] > self.odds[rows]).sum(axis=1)
        partner = self.neighbors[rows, np.minimum(rank, self.neighbors.shape[1] - 1)]
        return np.where(chances[:, 1] < same, rows, partner)


@dataclass(frozen=True, slots=True)
class ViewBatch:
    """Two views of a batch of cells, the second perhaps of a neighbour of each.

    Attributes
    ----------
    first, second
        The views. Their `cells` are positions in the batch: a view's cells stand in the order of
        their length.
    anchors
        Where the two views' cells should lie, shape ``(2, n_cells, n_dims)``.
    batches
        Experimental batch of the two views' cells, shape ``(2, n_cells)``.
    real
        False at pairs that another rank has too and that only fill up this one's share of a batch,
        shape ``(n_cells,)``.
    """

    first: TokenBatch
    second: TokenBatch
    anchors: torch.Tensor
    batches: torch.Tensor
    real: torch.Tensor

    @property
    def n_cells(self) -> int:
        """Number of pairs."""
        return self.first.n_cells

    def to(self, device: torch.device | str, non_blocking: bool | None = None) -> Self:
        """Copy the tensors to a device; by default without waiting on CUDA (see `TokenBatch`)."""
        if non_blocking is None:
            non_blocking = torch.device(device).type == "cuda"
        return replace(
            self,
            **{
                field.name: getattr(self, field.name).to(device, non_blocking=non_blocking)
                for field in fields(self)
            },
        )

    def pin_memory(self) -> Self:
        """Copy the tensors to page-locked memory."""
        parts = {field.name: getattr(self, field.name).pin_memory() for field in fields(self)}
        return replace(self, **parts)


class ViewDataset(MemoryDataset[ViewBatch]):
    """A request for rows in, two views of them out; the request's seed determines all draws.

    Each pair's draws follow from the seed and its first row, not from the pairs beside it: a batch
    that ranks share is the batch that one process sees.

    Parameters
    ----------
    rows
        The counts.
    gene_map
        Vocabulary index of each column of the counts; `UNKNOWN` or `COUNTED` where the vocabulary
        lacks it.
    tokenizer
        How a view becomes tokens.
    neighborhoods
        Of all rows; ``None``: they are still to be set.
    depth
        Smallest and largest share of a cell's counts that a view keeps.
    same_cell
        Probability that both views are of one cell.

    Attributes
    ----------
    neighborhoods
        The same.
    """

    def __init__(
        self,
        rows: CountRows,
        gene_map: NDArray[np.int64],
        tokenizer: Tokenizer,
        neighborhoods: Neighborhoods | None,
        depth: tuple[float, float],
        same_cell: float,
    ) -> None:
        self._rows = rows
        self._gene_map = np.ascontiguousarray(gene_map, dtype=np.int64)
        self._tokenizer = tokenizer
        self.neighborhoods = neighborhoods
        self._depth = depth
        self._same_cell = same_cell

    def __len__(self) -> int:
        return self._rows.shape[0]

    def __getitem__(self, request: Request) -> ViewBatch:
        known, first = self.neighborhoods, request.rows
        assert known is not None
        chances = uniforms(request.seed, first, 4)
        second = known.draw(first, self._same_cell, chances[:, :2])
        low, high = self._depth
        shares = low + (high - low) * chances[:, 2:]
        both = np.stack([first, second])
        return ViewBatch(
            first=self._view(first, shares[:, 0], request.seed + 1, first),
            second=self._view(second, shares[:, 1], request.seed + 2, first),
            anchors=torch.from_numpy(known.anchors[both]),
            batches=torch.from_numpy(known.batches[both]),
            real=torch.arange(len(first)) < len(first) - request.n_repeated,
        )

    def _view(
        self,
        rows: NDArray[np.int64],
        shares: NDArray[np.float64],
        seed: int,
        pairs: NDArray[np.int64],
    ) -> TokenBatch:
        matrix, positions = self._rows.select(rows)
        thinned = thin(matrix[positions], shares, seed, pairs)
        order = longest_first(thinned, np.arange(len(rows)), self._gene_map)
        return self._tokenizer(thinned, order, self._gene_map, seed)
