from __future__ import annotations

from typing import TYPE_CHECKING

from lightning.pytorch.callbacks import Callback

if TYPE_CHECKING:
    from lightning.pytorch import LightningModule, Trainer


class TrainingPaused(Exception):
    """Training has come to the step it was to pause at, and its checkpoint is written."""


class Budget(Callback):
    """End a training after so many optimizer steps, and pause it on the way there.

    The whole budget is spent: there is no early stopping.

    A paused training has the weights of its best validation so far, as one that has ended. One that
    goes on from its checkpoint ends with the weights of a training that was never paused, to the
    bit, since the schedule of the learning rate is laid out for all steps from the beginning.

    Parameters
    ----------
    n_steps
        Optimizer steps of the whole training, where the learning rate's cosine ends. Epochs beyond
        them are left out.
    pause_at
        Optimizer steps after which training pauses; it then needs checkpoints. ``None``: it does
        not.

    Raises
    ------
    ValueError
        The numbers are not positive, or training is to pause after its end.

    Examples
    --------
    >>> from scenc.train import Budget
    >>> first = Budget(n_steps=4000, pause_at=400)
    >>> model.train(31, checkpoint_dir="checkpoints", callbacks=[first])
    >>> model.train(31, checkpoint_dir="checkpoints", callbacks=[Budget(4000)], resume=True)
    """

    def __init__(self, n_steps: int, pause_at: int | None = None) -> None:
        if n_steps < 1 or (pause_at is not None and not 1 <= pause_at <= n_steps):
            raise ValueError(
                "n_steps must be positive and pause_at lie between 1 and n_steps, got "
                f"{n_steps} and {pause_at}."
            )
        self.n_steps = n_steps
        self.pause_at = pause_at if pause_at != n_steps else None

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Set the number of steps before the schedule is laid out for it."""
        trainer.fit_loop.epoch_loop.max_steps = self.n_steps
