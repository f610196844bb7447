from __future__ import annotations

import time
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch.utils.data import DataLoader

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator
    from concurrent.futures import Future

    from scenc.data.loading._samplers import BatchSampler, LoadRequest, Request


class BatchReader[B](Protocol):
    """Reads cells and makes batches of them; called from several threads at once."""

    def read(self, load: LoadRequest) -> Any:
        """Read cells into memory; slow."""

    def make(self, buffer: Any, request: Request) -> B:
        """Make a batch of what `read` returned."""


class BatchLoader[B]:
    """Batches made ahead of their use, from memory or from files.

    One thread reads the next cells while others make batches of the last ones, so that reading,
    tokens and training overlap. Which batches come, and in which order, does not depend on the
    number of threads or processes. Each pass is a new epoch.

    Parameters
    ----------
    reader
        Reads cells and makes batches.
    requests
        Which cells make up each batch, in which order.
    num_workers
        Number of threads that make batches, beside the one that reads.
    processes
        Number of processes that make batches instead; for counts in memory only.
    prefetch
        Number of batches that are made ahead.
    pin_memory
        Whether batches are copied to page-locked memory.

    Attributes
    ----------
    requests, num_workers, prefetch
        The same.
    waited
        Seconds that the last pass, so far, has kept its user waiting.

    Examples
    --------
    >>> rows = scenc.data.open_rows(adata.X)
    >>> tokens = scenc.data.TokenDataset(rows, np.arange(adata.n_vars), scenc.data.Tokenizer())
    >>> requests = scenc.data.ShuffledRequests(np.arange(adata.n_obs), batch_size=100)
    >>> loader = scenc.data.BatchLoader(tokens, requests)
    >>> [batch.n_cells for batch in loader]
    [100, 100, 100, 100, 100, 100, 100]
    """

    def __init__(
        self,
        reader: BatchReader[B],
        requests: BatchSampler,
        *,
        num_workers: int = 2,
        processes: int = 0,
        prefetch: int = 4,
        pin_memory: bool = False,
    ) -> None:
        self._reader = reader
        self.requests = requests
        self.num_workers = max(1, num_workers)
        self._processes = processes
        self.prefetch = max(1, prefetch)
        self._pin_memory = pin_memory
        self.waited = 0.0
        self._epoch, self._n_yielded = requests.epoch, requests.first_batch

    def __len__(self) -> int:
        return len(self.requests)

    def __iter__(self) -> Iterator[B]:
        self._epoch, self._n_yielded = self.requests.epoch, self.requests.first_batch
        self.waited = 0.0
        loads = self.requests.start()
        batches = self._by_processes(loads) if self._processes else self._by_threads(loads)
        try:
            while True:
                began = time.perf_counter()
                batch = next(batches, None)
                self.waited += time.perf_counter() - began
                if batch is None:
                    return
                self._n_yielded += 1
                yield batch
        finally:
            batches.close()

    @property
    def epoch(self) -> int:
        """Number of the next epoch."""
        return self.requests.epoch

    def state_dict(self) -> dict[str, int]:
        """Return where the pass stands: ``{"epoch": ..., "batch": ...}``, plain numbers.

        ``epoch`` is that of the running pass, or of the last one, and ``batch`` the number of its
        batches handed out so far. A batch that a trainer has taken counts, also before it has been
        trained on; those made ahead do not count. Before the first pass it is the epoch that this
        begins with, and 0. After a whole pass ``batch`` is the number of its batches.
        """
        return {"epoch": self._epoch, "batch": self._n_yielded}

    def load_state_dict(self, state_dict: dict[str, int]) -> None:
        """Let the next pass hand out what was left of an epoch, and the pass after it the next.

        The next pass is of epoch ``state_dict["epoch"]`` and leaves out its first
        ``state_dict["batch"]`` batches, which may be all. It must not have begun: Lightning loads
        the state before it asks for an iterator.
        """
        self._epoch, self._n_yielded = state_dict["epoch"], state_dict["batch"]
        self.requests.epoch, self.requests.first_batch = self._epoch, self._n_yielded

    def _by_threads(self, loads: Iterator[LoadRequest]) -> Generator[B]:
        """Hand out batches in their order, and have as many made ahead as are wanted."""
        reading, making = ThreadPoolExecutor(1), ThreadPoolExecutor(self.num_workers)
        submitted = self._submit(loads, reading, making)
        try:
            ahead = deque(islice(submitted, self.prefetch))
            while True:
                ahead.extend(islice(submitted, 1))
                if not ahead:
                    return
                yield ahead.popleft().result()
        finally:
            for pool in (reading, making):
                pool.shutdown(wait=True, cancel_futures=True)

    def _submit(
        self, loads: Iterator[LoadRequest], reading: ThreadPoolExecutor, making: ThreadPoolExecutor
    ) -> Iterator[Future[B]]:
        """Have one batch more made at each step; cells are read before the first of theirs is."""
        reads = ((load, reading.submit(self._reader.read, load)) for load in loads)
        following = next(reads, None)
        while following is not None:
            # The next cells are being read while batches of these are made.
            (load, buffer), following = following, next(reads, None)
            for request in load.batches:
                yield making.submit(self._make, buffer, request)

    def _make(self, buffer: Future[Any], request: Request) -> B:
        batch: Any = self._reader.make(buffer.result(), request)
        return batch.pin_memory() if self._pin_memory else batch  # type: ignore[no-any-return]

    def _by_processes(self, loads: Iterator[LoadRequest]) -> Generator[B]:
        yield from DataLoader(
            self._reader,  # type: ignore[arg-type]  # counts in memory are a data set
            sampler=(request for load in loads for request in load.batches),
            batch_size=None,
            num_workers=self._processes,
            pin_memory=self._pin_memory,
            # PyTorch takes a seed for its workers at each pass; not from the session's generator.
            generator=torch.Generator(),
        )
