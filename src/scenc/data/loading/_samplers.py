"""Which cells make up each batch, and which of them are read together.

A sampler goes through the cells epoch by epoch and yields `LoadRequest`: cells to read at once, and
the batches to make of them, each a `Request`. Where counts are in memory there is one per epoch,
with all batches and nothing to read; files are read load by load (`_read_order`).
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING

import numpy as np
from torch.utils.data import Sampler

from scenc._distributed import rank, world_size

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from numpy.typing import NDArray

# Cells to read where counts are in memory already.
_NOTHING = np.zeros(0, np.int64)


@dataclass(frozen=True, slots=True)
class Request:
    """Rows to read as one batch, and the seed of their draws.

    Attributes
    ----------
    rows
        The rows, equally many on each rank.
    seed
        The seed, the same on all ranks.
    n_repeated
        How many of the last rows another rank has too: they fill the batch up and nothing more.

    Examples
    --------
    >>> request = scenc.data.Request(rows=np.array([3, 0, 8]), seed=0)
    >>> rows = scenc.data.open_rows(adata.X)
    >>> tokens = scenc.data.TokenDataset(rows, np.arange(adata.n_vars), scenc.data.Tokenizer())
    >>> tokens[request].cells.tolist()
    [3, 0, 8]
    """

    rows: NDArray[np.int64]
    seed: int
    n_repeated: int = 0


@dataclass(frozen=True, slots=True)
class LoadRequest:
    """Cells to read together, and the batches to make of them.

    Attributes
    ----------
    cells
        The cells in the order in which they are read, shape ``(n_cells,)``; rows of `batches` are
        positions among them. Nothing is read where counts are in memory: rows are those of the
        counts.
    batches
        The batches, in order.
    by_length
        Whether positions count in the order of the cells' lengths, longest first, so that short
        cells are not padded to the length of long ones. Otherwise they count in that of `cells`.
    """

    cells: NDArray[np.int64]
    batches: Iterable[Request]
    by_length: bool = False


class BatchSampler(Sampler[Request]):
    """Batches of one epoch after the other, from any batch on.

    Attributes
    ----------
    epoch
        The next epoch's number. It counts up with each pass.
    first_batch
        Batch that the next pass begins with, and that pass only.
    """

    def __init__(self, epoch: int = 0) -> None:
        self.epoch, self.first_batch = epoch, 0

    @abstractmethod
    def __len__(self) -> int:
        """Number of batches of an epoch."""

    @abstractmethod
    def loads(self, epoch: int, first_batch: int) -> Iterator[LoadRequest]:
        """Ask for the cells of an epoch's batches, the first from a batch on."""

    def start(self) -> Iterator[LoadRequest]:
        """Begin the next pass."""
        epoch, first_batch = self.epoch, self.first_batch
        self.epoch, self.first_batch = epoch + 1, 0
        return self.loads(epoch, first_batch)

    def __iter__(self) -> Iterator[Request]:
        for load in self.start():
            yield from load.batches


class ShuffledRequests(BatchSampler):
    """Batches in a new order each epoch, drawn anew at each visit, shared out over ranks.

    The order depends on the seed and the epoch only. Under distributed training every rank takes
    every world-size-th slice of the same global batch, and all ranks get equally many batches.

    Parameters
    ----------
    rows
        Rows to visit once an epoch, shape ``(n_cells,)``.
    batch_size
        Cells per batch and rank.
    seed
        Seed of the order and of the draws.
    epoch
        The next epoch's number. It counts up with each pass.

    Attributes
    ----------
    epoch
        The same.
    first_batch
        Batch that the next pass begins with, and that pass only.

    Examples
    --------
    >>> requests = scenc.data.ShuffledRequests(np.arange(700), batch_size=128, seed=0)
    >>> len(requests)
    6
    >>> first = next(iter(requests))
    >>> len(first.rows), first.n_repeated
    (117, 0)
    """

    def __init__(
        self, rows: NDArray[np.int64], batch_size: int, *, seed: int = 0, epoch: int = 0
    ) -> None:
        super().__init__(epoch)
        self._rows = np.asarray(rows, dtype=np.int64)
        self._batch_size = batch_size
        self._seed = seed

    def __len__(self) -> int:
        return -(-len(self._rows) // (self._batch_size * world_size()))

    def loads(self, epoch: int, first_batch: int) -> Iterator[LoadRequest]:
        """Ask for an epoch's batches."""
        yield LoadRequest(_NOTHING, islice(self._batches(epoch), first_batch, None))

    def _batches(self, epoch: int) -> Iterator[Request]:
        rng = np.random.default_rng([self._seed, epoch])
        order = rng.permutation(self._rows)
        seeds = rng.integers(0, 2**63, size=len(self))
        for seed, rows in zip(seeds, np.array_split(order, len(self)), strict=True):
            yield _share(rows, int(seed), rank(), world_size())


class OrderedRequests(BatchSampler):
    """Batches in a fixed order with one fixed seed: validation and inference.

    Within windows of some batches, cells are sorted by their number of tokens, so that short cells
    are not padded to the length of long ones. The caller puts results back by `TokenBatch.cells`.

    Parameters
    ----------
    rows
        Rows to visit, shape ``(n_cells,)``.
    batch_size
        Cells per batch.
    seed
        Seed of all draws.
    lengths
        Number of tokens of each of `rows`, if known.
    window
        Batches to sort together.
    shared
        Whether the ranks of distributed training share each batch, then larger by their number;
        otherwise all of them visit all rows.

    Examples
    --------
    >>> requests = scenc.data.OrderedRequests(np.arange(5), batch_size=2)
    >>> [request.rows.tolist() for request in requests]
    [[0, 1], [2, 3], [4]]
    """

    def __init__(
        self,
        rows: NDArray[np.int64],
        batch_size: int,
        *,
        seed: int = 0,
        lengths: NDArray[np.int64] | None = None,
        window: int = 32,
        shared: bool = False,
    ) -> None:
        super().__init__()
        self._rows = np.asarray(rows, dtype=np.int64)
        self._batch_size = batch_size
        self._seed = seed
        self._lengths = lengths
        self._window = window
        self._shared = shared

    def __len__(self) -> int:
        _, n_ranks = self._sharing()
        return -(-len(self._rows) // (self._batch_size * n_ranks))

    def loads(self, epoch: int, first_batch: int) -> Iterator[LoadRequest]:
        """Ask for the batches, the same in each epoch."""
        yield LoadRequest(_NOTHING, islice(self._batches(), first_batch, None))

    def _batches(self) -> Iterator[Request]:
        mine, n_ranks = self._sharing()
        size = self._batch_size * n_ranks
        for start in range(0, len(self._rows), self._window * size):
            rows = self._rows[start : start + self._window * size]
            if self._lengths is not None:
                lengths = self._lengths[start : start + self._window * size]
                rows = rows[np.argsort(-lengths, kind="stable")]
            for first in range(0, len(rows), size):
                yield _share(rows[first : first + size], self._seed, mine, n_ranks)

    def _sharing(self) -> tuple[int, int]:
        return (rank(), world_size()) if self._shared else (0, 1)


def _share(rows: NDArray[np.int64], seed: int, rank: int, n_ranks: int) -> Request:
    """Return a rank's share of a batch; equal shares keep the ranks in step."""
    share = -(-len(rows) // n_ranks)
    # At most n_ranks - 1 rows stand twice, each as the last of a rank.
    mine = np.resize(rows, share * n_ranks)[rank::n_ranks]
    return Request(mine, seed, share - len(rows[rank::n_ranks]))
