from __future__ import annotations

import logging
import time
from statistics import median
from typing import TYPE_CHECKING, Any

import torch
from lightning.pytorch.callbacks import Callback

from scenc._distributed import world_size

if TYPE_CHECKING:
    from lightning.pytorch import LightningModule, Trainer

logger = logging.getLogger(__name__)

# Steps timed with each number of threads: an odd number, since their median counts.
_N_TIMED = 3
# Fewer threads are taken up to this ratio of times: they leave more to others, and wait for each
# other less should the machine become busier.
_TIE = 1.05


class Threads(Callback):
    """Train on a CPU with as many threads as make the steps fastest.

    Threads share each matrix product out and wait for the last of them. Where other processes keep
    some cores busy, or where products are small, fewer threads are faster, often by far. So the
    first steps are timed with all threads and with half of them, in turn; if half are as fast,
    they are compared with a quarter, and so on down to one. No step is made for this alone.

    The number of threads changes the order of sums, and so the last digits of the weights.
    Processes that train together keep the numbers they have.

    Parameters
    ----------
    n_threads
        Number of threads; ``None``: chosen by time, or as it was in a training that is gone on
        with.
    fixed
        Whether to leave PyTorch's number as it is where `n_threads` is ``None``.
    """

    def __init__(self, n_threads: int | None = None, *, fixed: bool = False) -> None:
        if n_threads is not None and n_threads < 1:
            raise ValueError(f"n_threads must be at least 1, got {n_threads}.")
        self._wanted = n_threads
        self._fixed = fixed
        # What is trained with once it is settled, and what is compared until then.
        self._settled: int | None = None
        self._times: dict[int, list[float]] = {}
        self._n_steps = 0
        self._started = 0.0

    @property
    def settled(self) -> int | None:
        """The number that is trained with; ``None`` as long as steps are timed."""
        return self._settled

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Settle the number if nothing is to be timed."""
        most = torch.get_num_threads()
        on_cpu = trainer.strategy.root_device.type == "cpu"
        known = self._wanted or self._settled if on_cpu else most
        if known is None and (self._fixed or most == 1 or world_size() > 1):
            known = most
        self._settled = known
        if known is None:
            self._compare(most)
        elif known != most:
            torch.set_num_threads(known)
            logger.info("Training with n_threads=%d; PyTorch had %d.", known, most)

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Begin to time a step with the number whose turn it is."""
        if self._settled is None:
            torch.set_num_threads(list(self._times)[self._n_steps % 2])
            self._started = time.perf_counter()

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        """Take the step's time, and decide when there are enough."""
        if self._settled is not None:
            return
        times = self._times[torch.get_num_threads()]
        times.append(time.perf_counter() - self._started)
        self._n_steps += 1
        # The first two steps also pay for what is set up once.
        if self._n_steps == 2 * (_N_TIMED + 1):
            self._decide()

    def state_dict(self) -> dict[str, Any]:
        """Return the number for a checkpoint; ``None`` as long as steps are timed."""
        return {"n_threads": self._settled}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Train as before, unless there are fewer threads now."""
        known = state_dict["n_threads"]
        if known is not None and known <= torch.get_num_threads():
            self._settled = known

    def _compare(self, most: int) -> None:
        """Have the next steps timed with a number of threads and with half of it."""
        self._times = {most: [], most // 2: []}
        self._n_steps = 0

    def _decide(self) -> None:
        """Settle for one of the two numbers, or compare the smaller one with half of it."""
        (most, many), (half, fewer) = (
            (n_threads, median(times[1:])) for n_threads, times in self._times.items()
        )
        is_fewer = fewer <= _TIE * many
        if is_fewer and half > 1:
            self._compare(half)
            return
        self._settled = half if is_fewer else most
        torch.set_num_threads(self._settled)
        logger.info(
            "Training with n_threads=%d: a step took %.3g s with %d, %.3g s with %d.",
            self._settled,
            many,
            most,
            fewer,
            half,
        )
