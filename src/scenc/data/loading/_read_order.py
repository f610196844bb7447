"""In which order cells of files are read, and which of them make up each batch.

Cells are read by *chunks*, runs of neighbouring cells of one file, since files are slow to read
cell by cell. An epoch puts the chunks into a random order in which every file is spread evenly.
This sequence is cut into a few *lanes* of equal length, and all lanes at the same places into
*windows*, whose cells are read together (a `LoadRequest`) and shuffled within their lane. A batch
takes equally many cells of each lane.

    files       aaaaaaaaaa bbbbbb cccc
    sequence    aa cc aa bb aa | aa bb cc aa bb     chunks of two cells, cut into two lanes

    lane 0      aa cc aa | bb aa
    lane 1      aa bb cc | aa bb
                window 0   window 1

    lane 0      ca | aa | ac                        window 0, shuffled within the lanes and cut
    lane 1      bc | ab | ac                        into batches of four cells
    batch       0    1    2

All of it follows from the seed and the epoch alone, so that any window can be made by itself: a
training goes on in the middle of an epoch without reading what it has seen. Ranks have lanes of
their own and read no cell of another's; a batch of all ranks is that of one process.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from scenc.data.loading._samplers import BatchSampler, LoadRequest, Request

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

# Lanes to cut an epoch into, where the number of ranks allows it.
_N_LANES = 8


class ReadOrder(ABC):
    """In which order the cells of one epoch are read, and which of them make up each batch."""

    @abstractmethod
    def __len__(self) -> int:
        """Number of batches."""

    @abstractmethod
    def loads(self, first_batch: int = 0) -> Iterator[LoadRequest]:
        """Ask for one window after the other, the first from a batch on."""


class FileSampler(BatchSampler):
    """Batches of cells that are in files.

    Parameters
    ----------
    order
        Makes the order of an epoch from its number.
    epoch
        The next epoch's number.
    """

    def __init__(self, order: Callable[[int], ReadOrder], epoch: int = 0) -> None:
        super().__init__(epoch)
        self._order = order

    def __len__(self) -> int:
        return len(self._order(self.epoch))

    def loads(self, epoch: int, first_batch: int) -> Iterator[LoadRequest]:
        """Ask for an epoch's cells, window by window."""
        return self._order(epoch).loads(first_batch)


@dataclass(frozen=True)
class Chunks:
    """Runs of neighbouring cells, each of one file.

    Attributes
    ----------
    starts, stops
        First cell and end of each chunk, shape ``(n_chunks,)``.
    files
        File of each chunk, shape ``(n_chunks,)``.
    sizes
        Number of cells of each chunk that have the role in question, shape ``(n_chunks,)``.
    roles
        Role of each cell, shape ``(n_cells,)``.
    role
        The role in question.
    """

    starts: NDArray[np.int64]
    stops: NDArray[np.int64]
    files: NDArray[np.int64]
    sizes: NDArray[np.int64]
    roles: NDArray[np.int8]
    role: int

    @classmethod
    def of(
        cls, n_cells: NDArray[np.int64], roles: NDArray[np.int8], role: int, size: int
    ) -> Chunks:
        """Cut files into chunks.

        Parameters
        ----------
        n_cells
            Number of cells of each file.
        roles, role
            As above.
        size
            Cells a chunk.
        """
        ends = np.cumsum(n_cells)
        starts = np.concatenate(
            [np.arange(end - n, end, size) for end, n in zip(ends, n_cells, strict=True)]
        ).astype(np.int64)
        files = np.repeat(np.arange(len(n_cells)), -(-n_cells // size))
        stops = np.minimum(starts + size, ends[files])
        sizes = np.add.reduceat(roles == role, starts, dtype=np.int64)
        some = sizes > 0
        return cls(starts[some], stops[some], files[some], sizes[some], roles, role)

    def cells(self, chunk: int) -> NDArray[np.int64]:
        """Return the cells of a chunk that have the role."""
        start, stop = int(self.starts[chunk]), int(self.stops[chunk])
        return start + np.flatnonzero(self.roles[start:stop] == self.role)


class ShuffledOrder(ReadOrder):
    """One epoch in random order.

    Every cell is visited once, and at most one cell a lane twice, which makes lanes equally long.

    Parameters
    ----------
    chunks
        The cells to visit.
    batch_size
        Cells per batch and rank.
    buffer_size
        Cells that are read together and shuffled, of all ranks.
    weights
        How often the cells of each file are visited, relative to other files; ``None``: once.
    seed, epoch
        They determine the order.
    rank, world_size
        Which share of each batch is made here.
    """

    def __init__(
        self,
        chunks: Chunks,
        batch_size: int,
        buffer_size: int,
        *,
        weights: NDArray[np.float64] | None = None,
        seed: int = 0,
        epoch: int = 0,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        self._chunks = chunks
        self._seed = [seed, epoch]
        rng = np.random.default_rng(self._seed)
        self._order, sizes = _sequence(chunks, weights, rng)
        self._ends = np.cumsum(sizes)
        n_lanes = lanes(batch_size * world_size, world_size)
        share = n_lanes // world_size
        self._lanes = range(rank * share, (rank + 1) * share)
        self._n_lanes = n_lanes
        self._per_lane = batch_size * world_size // n_lanes
        self._windowed = max(1, buffer_size // (batch_size * world_size))
        total = int(sizes.sum())
        self._begins = [lane * total // n_lanes for lane in range(n_lanes)]
        length = -(-total // n_lanes)
        n_batches = -(-length // self._per_lane)
        # Batches of almost equal size, rather than a small last one.
        self._cuts = np.arange(n_batches + 1) * length // max(1, n_batches)
        self._seeds = rng.integers(0, 2**63, size=n_batches)

    def __len__(self) -> int:
        return len(self._seeds)

    def loads(self, first_batch: int = 0) -> Iterator[LoadRequest]:
        """Ask for one window after the other, the first from a batch on."""
        for window in range(first_batch // self._windowed, -(-len(self) // self._windowed)):
            first, last = window * self._windowed, min((window + 1) * self._windowed, len(self))
            cells, orders, n_before = [], [], 0
            for lane in self._lanes:
                begin = self._begins[lane]
                of_lane = self._cells(begin + self._cuts[first], begin + self._cuts[last])
                rng = np.random.default_rng([*self._seed, window, lane])
                orders.append(n_before + rng.permutation(len(of_lane)))
                cells.append(of_lane)
                n_before += len(of_lane)
            cuts = self._cuts[first : last + 1] - self._cuts[first]
            batches = tuple(
                Request(
                    np.concatenate([order[cuts[k] : cuts[k + 1]] for order in orders]),
                    int(self._seeds[first + k]),
                )
                for k in range(max(0, first_batch - first), last - first)
            )
            yield LoadRequest(np.concatenate(cells), batches)

    def _cells(self, begin: int, end: int) -> NDArray[np.int64]:
        """Return part of the epoch's sequence of cells."""
        parts = []
        visit = int(np.searchsorted(self._ends, begin, side="right"))
        while begin < end:
            stop = int(self._ends[visit])
            start = int(self._ends[visit - 1]) if visit else 0
            # A visit may be cut short, which drops the chunk's last cells.
            chunk = self._chunks.cells(int(self._order[visit]))
            parts.append(chunk[begin - start : min(end, stop) - start])
            begin, visit = stop, visit + 1
        return np.concatenate(parts) if parts else np.zeros(0, np.int64)


class FileOrder(ReadOrder):
    """Cells in the order of their files, by windows in which cells of like length share batches.

    Parameters
    ----------
    cells
        The cells, ascending, shape ``(n_cells,)``.
    batch_size
        Cells per batch.
    buffer_size
        Cells that are read together.
    seed
        Seed of all draws.
    """

    def __init__(
        self, cells: NDArray[np.int64], batch_size: int, buffer_size: int, *, seed: int = 0
    ) -> None:
        self._cells = cells
        self._batch_size = batch_size
        self._windowed = max(1, buffer_size // batch_size)
        self._seed = seed

    def __len__(self) -> int:
        return -(-len(self._cells) // self._batch_size)

    def loads(self, first_batch: int = 0) -> Iterator[LoadRequest]:
        """Ask for one window after the other, the first from a batch on."""
        step = self._windowed
        for first in range(first_batch // step * step, len(self), step):
            low = first * self._batch_size
            cells = self._cells[low : low + step * self._batch_size]
            positions = np.arange(len(cells))
            starts = range(0, len(cells), self._batch_size)
            batches = [Request(positions[k : k + self._batch_size], self._seed) for k in starts]
            left = tuple(batches[max(0, first_batch - first) :])
            yield LoadRequest(cells, left, by_length=True)


def lanes(cells_per_batch: int, world_size: int) -> int:
    """Return the number of lanes: a divisor of the cells per batch of all ranks, about eight.

    It is the same for one rank and for several with smaller batches, wherever it can be: then they
    see the same batches.
    """
    most = max(_N_LANES, world_size)
    return max(
        n for n in range(world_size, most + 1) if not cells_per_batch % n and not n % world_size
    )


def _sequence(
    chunks: Chunks, weights: NDArray[np.float64] | None, rng: np.random.Generator
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Order the visits of an epoch: the chunk of each, and how many of its cells are visited."""
    visits, sizes, keys = [], [], []
    for file, wanted in enumerate(_visits_of_files(chunks, weights)):
        of_file = np.flatnonzero(chunks.files == file)
        if not wanted:
            continue
        n_passes = -(-wanted // int(chunks.sizes[of_file].sum()))
        order = np.concatenate([rng.permutation(of_file) for _ in range(n_passes)])
        size = chunks.sizes[order]
        before = np.cumsum(size) - size
        order, size, before = (part[before < wanted] for part in (order, size, before))
        size = np.minimum(size, wanted - before)
        visits.append(order)
        sizes.append(size)
        # Spread over the epoch as evenly as chance between neighbours allows.
        keys.append((np.arange(len(order)) + rng.random(len(order))) / len(order))
    if not visits:
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    order = np.argsort(np.concatenate(keys), kind="stable")
    return np.concatenate(visits)[order], np.concatenate(sizes)[order]


def _visits_of_files(chunks: Chunks, weights: NDArray[np.float64] | None) -> list[int]:
    """Return how many cells of each file an epoch visits; in sum as many as there are."""
    n_files = int(chunks.files.max(initial=-1)) + 1
    n_cells = np.bincount(chunks.files, chunks.sizes, n_files).astype(np.int64)
    if weights is not None:
        weighted = weights[:n_files] * n_cells
        n_cells = np.rint(weighted / weighted.sum() * n_cells.sum()).astype(np.int64)
    return [int(n) for n in n_cells]
