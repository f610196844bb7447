"""Training that survives: all that is needed to go on, written every few steps."""

from __future__ import annotations

import errno
import signal
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from lightning.pytorch.callbacks import Callback

from scenc.io._atomic import atomic_path

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping

    from lightning.pytorch import LightningModule, Trainer

_NAME = "last.ckpt"
_SIGTERM_EXIT = 128 + signal.SIGTERM


class CheckpointError(ValueError):
    """A checkpoint cannot be gone on from: it is damaged, or of another training."""


class Checkpoints(Callback):
    """Write weights, optimizer, schedule, position in the data and random states to a folder.

    The one file, ``last.ckpt``, is always whole: a new one takes its place in one step. It is
    written between optimizer steps, where no gradient is half summed up. At SIGTERM, by which
    clusters announce that they end a job, one is written before the process leaves.

    Parameters
    ----------
    folder
        Where to write.
    every
        Optimizer steps between checkpoints.
    settings
        Plain values that determine the training; a checkpoint made under others is refused.
    resume
        Whether to go on from the folder's checkpoint if it has one.

    Raises
    ------
    FileExistsError
        The folder has a checkpoint and is not to be gone on from.
    CheckpointError
        Its checkpoint cannot be used; the message says why.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        every: int,
        settings: Mapping[str, Any],
        *,
        resume: bool = False,
    ) -> None:
        if every < 1:
            raise ValueError(f"checkpoint_every must be at least 1, got {every}.")
        self.path = Path(folder) / _NAME
        self._every = every
        self._settings = dict(settings)
        self._saved_at = 0
        self._position = (0, 0)
        self._due = self._leaving = False
        self._handler: Any = None
        self._random: dict[str, Any] | None = None
        self.found = self.path.is_file()
        if self.found and not resume:
            raise FileExistsError(
                f"{self.path} is of an earlier training: pass resume=True to go on with it, or "
                "name another checkpoint_dir."
            )
        if self.found:
            self._position = self._check(read_checkpoint(self.path))

    def go_on(self, train: Any) -> None:
        """Let a loader begin where the checkpoint was written."""
        if self.found:
            train.position = self._position

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Take up the random states, and listen for SIGTERM."""
        self._saved_at = trainer.global_step
        if self._random is not None:
            torch.set_rng_state(self._random["cpu"])
            for device, state in enumerate(self._random["cuda"][: torch.cuda.device_count()]):
                torch.cuda.set_rng_state(state, device)
        if threading.current_thread() is threading.main_thread():
            self._handler = signal.signal(signal.SIGTERM, self._leave)

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        """Decide whether a checkpoint is due."""
        if trainer.global_step == self._saved_at or _is_accumulating(trainer):
            return
        # All ranks leave after the same step, whichever was told first.
        if trainer.world_size > 1:
            self._leaving = trainer.strategy.reduce_boolean_decision(self._leaving, all=False)
        self._due = self._leaving or trainer.global_step % self._every == 0

    def on_train_batch_start(self, trainer: Trainer, *_: Any) -> None:
        """Write a checkpoint that is due, now that a validation after the step is over too."""
        if not self._due:
            return
        self._due = False
        self._save(trainer, n_ahead=1)
        if self._leaving:
            raise SystemExit(_SIGTERM_EXIT)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the last checkpoint, from which going on is to be done at once."""
        self._listen_no_more()
        self._save(trainer, n_ahead=0)

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, _: BaseException) -> None:
        """Leave signals as they were; the last good checkpoint stays."""
        self._listen_no_more()

    def on_save_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Count the batch that has been taken, and not trained on, as not taken."""
        loop = checkpoint["loops"]["fit_loop"]
        loop["state_dict"].pop("combined_loader", None)  # counts it, too; see `go_on`
        progress = loop["epoch_loop.batch_progress"]
        for count in (progress["total"], progress["current"]):
            count["ready"] = count["completed"]

    def state_dict(self) -> dict[str, Any]:
        """Return what Lightning does not keep by itself; it asks when it saves."""
        return {
            "cpu": torch.get_rng_state(),
            "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
            "position": self._position,
            "settings": self._settings,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Keep the random states until training starts."""
        self._random = state_dict

    def _save(self, trainer: Trainer, n_ahead: int) -> None:
        """Write a checkpoint; so many batches have been taken that have not been trained on."""
        epoch, batch = trainer.train_dataloader.position  # type: ignore[union-attr]  # one of ours
        self._position = epoch, batch - n_ahead
        try:
            if trainer.is_global_zero:
                with atomic_path(self.path) as draft:
                    trainer.save_checkpoint(draft)
            else:
                trainer.save_checkpoint(self.path)  # rank 0 writes; all take part
        except (OSError, RuntimeError) as error:
            full = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
            kept = f"that of step {self._saved_at} is intact" if self.path.is_file() else "none yet"
            raise OSError(
                f"The checkpoint of step {trainer.global_step} could not be written to "
                f"{self.path.parent}{' (the disk is full)' if full else ''}: {error} "
                f"The last good checkpoint: {kept}. Make room and train with resume=True."
            ) from error
        # No rank goes on, or looks for the checkpoint anew, before it is in its place.
        trainer.strategy.barrier("scenc.Checkpoints")
        self._saved_at = trainer.global_step

    def _check(self, checkpoint: dict[str, Any]) -> tuple[int, int]:
        """Return the position in the data; refuse to go on with another training than was left."""
        try:
            kept = checkpoint["callbacks"]["Checkpoints"]
            found, (epoch, batch) = kept["settings"], kept["position"]
            names = sorted({*found, *self._settings})
        except (KeyError, TypeError, ValueError):
            raise CheckpointError(f"{self.path} is no checkpoint of scenc.") from None
        for name in names:
            if found.get(name) != self._settings.get(name):
                raise CheckpointError(
                    f"{self.path} is of another training: its {name} is {found.get(name)!r}, now "
                    f"it is {self._settings.get(name)!r}. Go on with the same settings, or name "
                    "another checkpoint_dir."
                )
        return int(epoch), int(batch)

    def _leave(self, *_: Any) -> None:
        self._leaving = True

    def _listen_no_more(self) -> None:
        if self._handler is not None:
            signal.signal(signal.SIGTERM, self._handler)
            self._handler = None


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Read a checkpoint, tensors and plain values only; nothing in it is executed.

    Raises
    ------
    CheckpointError
        It is damaged.
    """
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # noqa: BLE001  # a damaged file fails in any way torch can
        raise CheckpointError(f"{path} is damaged or no checkpoint: {error}") from None
    if not isinstance(checkpoint, dict):
        raise CheckpointError(f"{path} is no checkpoint of scenc.")
    return checkpoint


def _is_accumulating(trainer: Trainer) -> bool:
    """Say whether gradients are being summed up, which no checkpoint keeps."""
    return trainer.fit_loop.epoch_loop._should_accumulate()
