from __future__ import annotations

from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from scenc.data.tokens import GeneRows

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from scenc.data.counts import CountRows
    from scenc.data.loading._samplers import Request
    from scenc.data.tokens import TokenBatch, Tokenizer

# Threads that make batches, and batches that are made ahead.
_N_THREADS, _N_AHEAD = 2, 4


class TokenDataset(Dataset["TokenBatch"]):
    """Counts seen as tokens: a request for rows in, a batch of tokens out.

    Parameters
    ----------
    rows
        The counts.
    gene_map
        Vocabulary index of each column of the counts, -1 where the vocabulary lacks it.
    tokenizer
        How rows become tokens.
    subset
        Rows that requests count in, ``None``: all; requested cell i is row ``subset[i]``.
    lengths
        Number of tokens of each row, exact or not. If given, the cells of a batch are put in the
        order of their length, longest first, so that the network can spare padding.
    """

    def __init__(
        self,
        rows: CountRows,
        gene_map: NDArray[np.int64],
        tokenizer: Tokenizer,
        subset: NDArray[np.int64] | None = None,
        lengths: NDArray[np.int64] | None = None,
    ) -> None:
        if len(gene_map) != rows.shape[1]:
            raise ValueError(
                f"gene_map has {len(gene_map)} entries for {rows.shape[1]} columns of counts."
            )
        self._rows = rows
        self._gene_map = np.ascontiguousarray(gene_map, dtype=np.int64)
        self._tokenizer = tokenizer
        self._subset = subset
        self._lengths = lengths
        self._as_stored = np.array_equal(gene_map, np.arange(rows.shape[1])) and rows.is_plain

    def __len__(self) -> int:
        return self._rows.shape[0] if self._subset is None else len(self._subset)

    def __getitem__(self, request: Request) -> TokenBatch:
        asked = request.rows
        rows = asked if self._subset is None else self._subset[asked]
        if self._lengths is not None:
            order = np.argsort(-self._lengths[rows], kind="stable")
            asked, rows = asked[order], rows[order]
        matrix, positions = self._rows.select(rows)
        if self._as_stored:
            stored = GeneRows(matrix.indptr, matrix.indices, matrix.data, None)
            batch = self._tokenizer.tokens(stored, positions, request.seed)
        else:
            batch = self._tokenizer(matrix, positions, self._gene_map, request.seed)
        return batch.at_cells(asked)

    def loader(
        self, requests: Sampler[Request], *, num_workers: int = 0, pin_memory: bool = False
    ) -> BatchLoader[TokenBatch]:
        """Return a loader that yields whole batches, one per request."""
        return batch_loader(self, requests, num_workers, pin_memory)


class BatchLoader[B](DataLoader[B]):
    """A loader of whole batches, one per request, that can go on where another was.

    Without worker processes, threads make some batches ahead; which ones come, and in which order,
    does not depend on them.

    Parameters
    ----------
    dataset
        Turns requests into batches.
    requests
        Which rows make up each batch, in which order.
    **options
        Of PyTorch's loader.
    """

    def __init__(self, dataset: Dataset[B], requests: Sampler[Request], **options: Any) -> None:
        super().__init__(
            dataset,
            sampler=requests,
            batch_size=None,
            # PyTorch takes a seed for its workers at each pass; not from the session's generator.
            generator=torch.Generator(),
            **options,
        )
        self._epoch, self._n_yielded = requests.epoch, 0  # type: ignore[attr-defined]

    def __iter__(self) -> Any:
        requests: Any = self.sampler
        self._epoch, self._n_yielded = requests.epoch, requests.first_batch
        for batch in super().__iter__() if self.num_workers else self._ahead(requests):
            self._n_yielded += 1
            yield batch

    def _ahead(self, requests: Sampler[Request]) -> Iterator[B]:
        pool = ThreadPoolExecutor(_N_THREADS)
        coming: deque[Future[B]] = deque()
        try:
            for request in requests:
                coming.append(pool.submit(self._make, request))
                if len(coming) > _N_AHEAD:
                    yield coming.popleft().result()
            while coming:
                yield coming.popleft().result()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)

    def _make(self, request: Request) -> B:
        batch: Any = self.dataset[request]
        return batch.pin_memory() if self.pin_memory else batch  # type: ignore[no-any-return]

    @property
    def epoch(self) -> int:
        """Number of the next epoch."""
        requests: Any = self.sampler
        epoch: int = requests.epoch
        return epoch

    @property
    def position(self) -> tuple[int, int]:
        """Epoch of the last pass and number of its batches so far; set: where the next begins."""
        return self._epoch, self._n_yielded

    @position.setter
    def position(self, position: tuple[int, int]) -> None:
        requests: Any = self.sampler
        requests.epoch, requests.first_batch = position
        self._epoch, self._n_yielded = position

    def state_dict(self) -> dict[str, int]:
        """Return where the pass stands: ``{"epoch": ..., "batch": ...}``, plain numbers.

        ``epoch`` is that of the running pass, or of the last one, and ``batch`` the number of its
        batches handed out so far. A batch that a trainer has taken counts, also before it has been
        trained on; those made ahead do not count. Before the first pass it is the epoch that this
        begins with, and 0. After a whole pass ``batch`` is the number of its batches.
        """
        return dict(zip(("epoch", "batch"), self.position, strict=True))

    def load_state_dict(self, state_dict: dict[str, int]) -> None:
        """Let the next pass hand out what was left of an epoch, and the pass after it the next.

        The next pass is of epoch ``state_dict["epoch"]`` and leaves out its first
        ``state_dict["batch"]`` batches, which may be all. It must not have begun: Lightning loads
        the state before it asks for an iterator.
        """
        self.position = state_dict["epoch"], state_dict["batch"]


def batch_loader[B](
    dataset: Dataset[B], requests: Sampler[Request], num_workers: int, pin_memory: bool
) -> BatchLoader[B]:
    """Return a loader that yields a dataset's whole batches, one per request."""
    return BatchLoader(dataset, requests, num_workers=num_workers, pin_memory=pin_memory)
