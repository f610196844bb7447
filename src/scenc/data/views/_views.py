"""Pairs of thinned views of cells and their neighbours, and the counts that are to be decoded."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import numpy as np
import scipy.sparse as sp
import torch

from scenc._distributed import world_size
from scenc.data.counts import open_rows
from scenc.data.loading import MemoryDataset
from scenc.data.tokens import COUNTED, GeneRows, Joined, longest_first
from scenc.data.views._thin import thin_known, uniforms

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from scenc.data.counts import CountRows, Csr
    from scenc.data.loading import Buffer, CellReader, LoadRequest, Request
    from scenc.data.tokens import TokenBatch, Tokenizer

    # Counts, and the positions in them of the cells that are meant.
    Selected = tuple[Csr, NDArray[np.int64]]

# Library size of a cell without counts in the vocabulary: its logarithm is wanted.
_LEAST_LIBRARY = 1e-4


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

    Examples
    --------
    >>> known = scenc.data.Neighborhoods(
    ...     anchors=np.zeros((3, 2), dtype="float32"),
    ...     neighbors=np.array([[1, 2], [0, 2], [0, 1]]),
    ...     odds=np.array([[0.9, 1.0]] * 3),  # the first of two neighbours, nine times of ten
    ...     batches=np.array([0, 1, 1]),
    ... )
    >>> chances = np.array([[0.5, 0.5], [0.95, 0.5]])
    >>> known.draw(np.array([0, 1]), same=0.1, chances=chances).tolist()
    [1, 2]
    """

    anchors: NDArray[np.float32]
    neighbors: NDArray[np.int64]
    odds: NDArray[np.float64]
    batches: NDArray[np.int64]

    @classmethod
    def alone(cls, batches: NDArray[np.int64]) -> Neighborhoods:
        """Return neighbourhoods in which each cell has itself only, and no place to lie at."""
        n_cells = len(batches)
        itself = np.arange(n_cells)[:, None]
        return cls(np.zeros((n_cells, 0), np.float32), itself, np.ones((n_cells, 1)), batches)

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


class CellCounts(NamedTuple):
    """Counts of a batch of cells, all of their molecules, as the likelihood wants them.

    Attributes
    ----------
    cell, gene
        Cell and gene of each count that is not zero, ``(n_counts,)``.
    value
        The counts, ``(n_counts,)``.
    library
        Sum of each cell's counts over the vocabulary, ``(n_cells,)``.
    covariates
        Category of each covariate of the cells, as a number, ``(n_cells, n_covariates)``.

    Examples
    --------
    >>> rows = scenc.data.open_rows(adata.X)
    >>> no_covariate = np.zeros((2, 0), dtype=np.int64)
    >>> counts = scenc.data.CellCounts.read(
    ...     rows, np.array([0, 1]), np.arange(adata.n_vars), no_covariate
    ... )
    >>> counts.library.tolist(), counts.value.shape
    ([628.0, 608.0], torch.Size([448]))
    """

    cell: torch.Tensor
    gene: torch.Tensor
    value: torch.Tensor
    library: torch.Tensor
    covariates: torch.Tensor

    @classmethod
    def of(cls, rows: GeneRows, covariates: NDArray[np.int64]) -> Self:
        """Take all rows of counts over the vocabulary."""
        cell = np.repeat(np.arange(len(rows.indptr) - 1), np.diff(rows.indptr))
        value = rows.data.astype(np.float32, copy=False)
        library = np.bincount(cell, value, minlength=len(rows.indptr) - 1)
        return cls(
            torch.from_numpy(cell),
            torch.from_numpy(rows.indices.astype(np.int64)),
            torch.from_numpy(value),
            torch.from_numpy(library.clip(min=_LEAST_LIBRARY).astype(np.float32)),
            torch.from_numpy(covariates),
        )

    @classmethod
    def read(
        cls,
        counts: CountRows,
        rows: NDArray[np.int64],
        gene_map: NDArray[np.int64],
        covariates: NDArray[np.int64],
    ) -> Self:
        """Read rows of counts; the covariates are those of these rows."""
        matrix, positions = counts.select(rows)
        room = int((matrix.indptr[positions + 1] - matrix.indptr[positions]).sum())
        joined = Joined(len(rows), room)
        joined.add(matrix.indptr, matrix.indices, matrix.data, positions, gene_map)
        return cls.of(joined.rows(), covariates)

    def to(self, device: torch.device | str, non_blocking: bool = False) -> Self:
        """Copy the tensors to a device."""
        return type(self)(*(part.to(device, non_blocking=non_blocking) for part in self))

    def pin_memory(self) -> Self:
        """Copy the tensors to page-locked memory."""
        return type(self)(*(part.pin_memory() for part in self))


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
    counts
        Counts of the first cells, then of the second, before they were thinned; ``None``: they are
        not decoded.

    Examples
    --------
    >>> views = scenc.data.ViewDataset(
    ...     scenc.data.open_rows(adata.X),
    ...     gene_map=np.arange(adata.n_vars),
    ...     tokenizer=scenc.data.Tokenizer(context=128),
    ...     neighborhoods=scenc.data.Neighborhoods.alone(np.zeros(adata.n_obs, dtype=int)),
    ...     depth=(0.3, 0.9),
    ...     same_cell=1.0,
    ... )
    >>> batch = views[scenc.data.Request(np.arange(8), seed=0)]
    >>> batch.n_cells, batch.batches.shape
    (8, torch.Size([2, 8]))
    >>> sorted(batch.first.cells.tolist())
    [0, 1, 2, 3, 4, 5, 6, 7]
    """

    first: TokenBatch
    second: TokenBatch
    anchors: torch.Tensor
    batches: torch.Tensor
    real: torch.Tensor
    counts: CellCounts | None = None

    @property
    def n_cells(self) -> int:
        """Number of pairs."""
        return self.first.n_cells

    def to(self, device: torch.device | str, non_blocking: bool | None = None) -> Self:
        """Copy the tensors to a device; by default without waiting on CUDA (see `TokenBatch`)."""
        if non_blocking is None:
            non_blocking = torch.device(device).type == "cuda"
        parts = self._parts().items()
        return replace(
            self, **{name: part.to(device, non_blocking=non_blocking) for name, part in parts}
        )

    def pin_memory(self) -> Self:
        """Copy the tensors to page-locked memory."""
        return replace(self, **{name: part.pin_memory() for name, part in self._parts().items()})

    def _parts(self) -> dict[str, Any]:
        parts = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: part for name, part in parts.items() if part is not None}


@dataclass(frozen=True, slots=True)
class ViewMaker:
    """Turns counts into views: each cell thinned to a depth of its own, and tokenised.

    Attributes
    ----------
    tokenizer
        How a view becomes tokens.
    gene_map
        Vocabulary index of each column of the counts; `UNKNOWN` or `COUNTED` where the vocabulary
        lacks it.
    depth
        Smallest and largest share of a cell's counts that a view keeps.
    """

    tokenizer: Tokenizer
    gene_map: NDArray[np.int64]
    depth: tuple[float, float]

    def pair(
        self,
        first: Selected,
        second: Selected,
        chances: NDArray[np.float64],
        seed: int,
        pairs: NDArray[np.int64],
    ) -> tuple[TokenBatch, TokenBatch]:
        """Return views of two batches of cells, which stand in the order of their pairs.

        Parameters
        ----------
        first, second
            A matrix of counts, and where in it the cells are.
        chances
            Two random numbers between 0 and 1 for each pair, shape ``(n_pairs, 2)``.
        seed
            Seed of the draws.
        pairs
            Number of each pair, which its draws depend on too, shape ``(n_pairs,)``.
        """
        low, high = self.depth
        shares = low + (high - low) * chances
        return (
            self._view(*first, shares[:, 0], seed + 1, pairs),
            self._view(*second, shares[:, 1], seed + 2, pairs),
        )

    def _view(
        self,
        counts: Csr,
        positions: NDArray[np.int64],
        shares: NDArray[np.float64],
        seed: int,
        pairs: NDArray[np.int64],
    ) -> TokenBatch:
        thinned = thin_known(counts, positions, self.gene_map, shares, seed, pairs)
        return self.tokenizer.tokens(thinned, longest_first(thinned, np.arange(len(pairs))), seed)


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
    covariates
        Category of each covariate of all rows, as a number, shape ``(n_cells, n_covariates)``, for
        batches that have their cells' counts; ``None``: batches have none.

    Attributes
    ----------
    neighborhoods
        The same.

    Examples
    --------
    >>> alone = scenc.data.Neighborhoods.alone(np.zeros(adata.n_obs, dtype=int))
    >>> views = scenc.data.ViewDataset(
    ...     scenc.data.open_rows(adata.X),
    ...     gene_map=np.arange(adata.n_vars),
    ...     tokenizer=scenc.data.Tokenizer(context=128, mask_fraction=0.2),
    ...     neighborhoods=alone,
    ...     depth=(0.3, 0.9),
    ...     same_cell=1.0,
    ... )
    >>> requests = scenc.data.ShuffledRequests(np.arange(len(views)), batch_size=100)
    >>> batch = next(iter(views.loader(requests)))
    >>> batch.n_cells
    100
    """

    def __init__(
        self,
        rows: CountRows,
        gene_map: NDArray[np.int64],
        tokenizer: Tokenizer,
        neighborhoods: Neighborhoods | None,
        depth: tuple[float, float],
        same_cell: float,
        covariates: NDArray[np.int64] | None = None,
    ) -> None:
        self._rows = rows
        self._views = ViewMaker(tokenizer, np.ascontiguousarray(gene_map, dtype=np.int64), depth)
        self.neighborhoods = neighborhoods
        self._same_cell = same_cell
        self._covariates = covariates

    def __len__(self) -> int:
        return self._rows.shape[0]

    def __getitem__(self, request: Request) -> ViewBatch:
        known, first = self.neighborhoods, request.rows
        assert known is not None
        chances = uniforms(request.seed, first, 4)
        second = known.draw(first, self._same_cell, chances[:, :2])
        both = np.stack([first, second])
        views = self._views.pair(
            self._rows.select(first), self._rows.select(second), chances[:, 2:], request.seed, first
        )
        counts = None
        if self._covariates is not None:
            gene_map, covariates = self._views.gene_map, self._covariates[both.ravel()]
            counts = CellCounts.read(self._rows, both.ravel(), gene_map, covariates)
        return ViewBatch(
            *views,
            anchors=torch.from_numpy(known.anchors[both]),
            batches=torch.from_numpy(known.batches[both]),
            real=torch.arange(len(first)) < len(first) - request.n_repeated,
            counts=counts,
        )


class FileViews:
    """Two views of each cell of files, and its counts: what needs no other cells.

    Parameters
    ----------
    reader
        Reads the cells.
    tokenizer
        How a view becomes tokens.
    n_genes
        Number of genes of the vocabulary.
    depth
        Smallest and largest share of a cell's counts that a view keeps.
    covariates
        Category of each covariate of all cells, as a number, the batch first, shape
        ``(n_cells, n_covariates)``.

    Examples
    --------
    >>> cells = scenc.data.CellFiles(["a.h5ad", "b.h5ad"], batch_size=100)
    >>> batches = np.repeat([[0], [1]], 700, axis=0)  # of each cell: the file that it is from
    >>> def views(reader):
    ...     tokenizer = scenc.data.Tokenizer(context=128, mask_fraction=0.2)
    ...     return scenc.data.FileViews(reader, tokenizer, cells.n_vars, (0.3, 0.9), batches)
    >>> batch = next(iter(cells.train_dataloader(make=views)))
    >>> batch.first.n_tokens  # at most, of any cell's first view
    128
    """

    def __init__(
        self,
        reader: CellReader,
        tokenizer: Tokenizer,
        n_genes: int,
        depth: tuple[float, float],
        covariates: NDArray[np.int64],
    ) -> None:
        self._reader = reader
        self._n_genes = n_genes
        # The last column stands for all other genes that count.
        self._views = ViewMaker(tokenizer, np.append(np.arange(n_genes), COUNTED), depth)
        self._covariates = covariates

    def read(self, load: LoadRequest) -> Buffer:
        """Read cells into memory."""
        return self._reader.read(load)

    def make(self, buffer: Buffer, request: Request) -> ViewBatch:
        """Make one batch."""
        # Ranks must have equally many cells; one process leaves out those without counts.
        rows = buffer.rows_of(request, keep_empty=world_size() > 1)
        cells, counts = buffer.cells[rows], self._counts(buffer.counts, rows)
        own = counts, np.arange(len(cells))
        views = self._views.pair(own, own, uniforms(request.seed, cells, 2), request.seed, cells)
        covariates = self._covariates[cells]
        # Both views are of the same cells.
        decoded = CellCounts.read(
            open_rows(counts),
            np.tile(np.arange(len(cells)), 2),
            self._views.gene_map,
            np.tile(covariates, (2, 1)),
        )
        real = np.diff(counts.indptr) > 0
        real[len(real) - request.n_repeated :] = False
        return ViewBatch(
            *views,
            anchors=torch.zeros(2, len(cells), 0),
            batches=torch.from_numpy(covariates[:, 0]).expand(2, -1),
            real=torch.from_numpy(real),
            counts=decoded,
        )

    def _counts(self, buffer: GeneRows, rows: NDArray[np.int64]) -> Csr:
        """Return the counts of cells, with a last column of what else is in the library size."""
        shape = len(buffer.indptr) - 1, self._n_genes
        known = sp.csr_array((buffer.data, buffer.indices, buffer.indptr), shape)[rows]
        if buffer.library_sizes is None:
            wider = len(rows), self._n_genes + 1
            return sp.csr_array((known.data, known.indices, known.indptr), wider)
        others = buffer.library_sizes[rows] - known.sum(axis=1, dtype=np.float64)
        column = sp.csr_array(others.clip(min=0).astype(np.float32)[:, None])
        return sp.hstack([known, column], format="csr")
