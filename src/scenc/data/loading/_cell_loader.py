from __future__ import annotations

import time
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from scenc.data.loading._buffer import Window, WindowReader
    from scenc.data.loading._read_order import BatchPlan, Plan, WindowPlan
    from scenc.data.tokens import TokenBatch, Tokenizer


class CellLoader:
    """Batches of tokens from files, made ahead of their use.

    One thread reads the next window while others turn the last one into tokens, so that reading,
    tokens and training overlap. Which batches come, and in which order, does not depend on the
    number of threads. Each pass is a new epoch.

    Parameters
    ----------
    plan
        Makes the order of an epoch from its number.
    reader
        Reads windows.
    tokenizer
        Turns cells into tokens.
    keep_empty
        Whether cells without counts are kept.
    num_workers
        Number of threads that make tokens.
    prefetch
        Number of batches that are made ahead.
    pin_memory
        Whether batches are copied to page-locked memory.
    epoch
        The next epoch's number. It counts up with each pass.

    Attributes
    ----------
    epoch, num_workers, prefetch
        The same.
    waited
        Seconds that the last pass, so far, has kept its user waiting.
    """

    def __init__(
        self,
        plan: Callable[[int], Plan],
        reader: WindowReader,
        tokenizer: Tokenizer,
        *,
        keep_empty: bool = False,
        num_workers: int = 2,
        prefetch: int = 4,
        pin_memory: bool = False,
        epoch: int = 0,
    ) -> None:
        self._plan = plan
        self._reader = reader
        self._tokenizer = tokenizer
        self._keep_empty = keep_empty
        self.num_workers = max(1, num_workers)
        self.prefetch = max(1, prefetch)
        self._pin_memory = pin_memory
        self.epoch = epoch
        self.waited = 0.0
        self._current = epoch
        self._n_yielded = 0
        self._first_batch = 0

    def __len__(self) -> int:
        return len(self._plan(self.epoch))

    def __iter__(self) -> Iterator[TokenBatch]:
        plan, first = self._plan(self.epoch), self._first_batch
        self._current, self._n_yielded, self._first_batch = self.epoch, first, 0
        self.epoch += 1
        self.waited = 0.0
        with _Pass(self, plan, first) as batches:
            while True:
                began = time.perf_counter()
                batch = batches.take()
                self.waited += time.perf_counter() - began
                if batch is None:
                    return
                self._n_yielded += 1
                yield batch

    @property
    def position(self) -> tuple[int, int]:
        """Epoch of the last pass and number of its batches so far; set: where the next begins."""
        return self._current, self._n_yielded

    @position.setter
    def position(self, position: tuple[int, int]) -> None:
        self.epoch, self._first_batch = position
        self._current, self._n_yielded = position

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

    def read(self, planned: WindowPlan) -> Window:
        """Read a window."""
        return self._reader.read(planned, self._keep_empty)

    def forget(self) -> None:
        """Keep no memory for further windows."""
        self._reader.forget()

    def make(self, window: Window, batch: BatchPlan) -> TokenBatch:
        """Make a batch of a window."""
        made = window.tokens(batch, self._tokenizer)
        return made.pin_memory() if self._pin_memory else made


class _Pass:
    """The threads of one pass, and what they have been asked for."""

    def __init__(self, loader: CellLoader, plan: Plan, first_batch: int) -> None:
        self._loader = loader
        self._reading = ThreadPoolExecutor(1)
        self._making = ThreadPoolExecutor(loader.num_workers)
        self._windows = plan.windows(first_batch)
        self._window: Window | None = None
        self._todo: deque[BatchPlan] = deque()
        self._ahead: deque[Future[TokenBatch]] = deque()
        self._coming = self._read_next()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for pool in (self._reading, self._making):
            pool.shutdown(wait=True, cancel_futures=True)
        self._loader.forget()

    def take(self) -> TokenBatch | None:
        """Return the next batch, and have as many made ahead as can be without waiting."""
        while len(self._ahead) <= self._loader.prefetch and self._ask(wait=not self._ahead):
            pass
        return self._ahead.popleft().result() if self._ahead else None

    def _ask(self, wait: bool) -> bool:
        """Have one more batch made; say whether there was one to ask for."""
        while not self._todo:
            if self._coming is None or not (wait or self._coming.done()):
                return False
            self._window = self._coming.result()
            self._todo.extend(self._window.batches)
            self._coming = self._read_next()
        assert self._window is not None
        self._ahead.append(
            self._making.submit(self._loader.make, self._window, self._todo.popleft())
        )
        return True

    def _read_next(self) -> Future[Window] | None:
        planned = next(self._windows, None)
        return None if planned is None else self._reading.submit(self._loader.read, planned)
