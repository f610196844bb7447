"""Checkpoints: a training that was ended can go on as if it had not been.

The weights after a resumed training are those of an undisturbed one, to the bit. For that, all that
is written must belong to one moment: weights, optimizer, schedule, Lightning's counts of steps and
validations, the loader's place in the epoch, what other callbacks have recorded, random states.

    batch n taken -> step n -> on_train_batch_end -> validation, if due -> batch n + 1 taken -> ...
                                                                       ^
Only at the mark is a step over in every respect. Lightning has no hook there: at
``on_train_batch_end`` a validation that is due has not been made, and is skipped by a training
that goes on from there; at ``on_train_batch_start`` its counts include a batch not trained on.
So checkpoints are written by the loader, when it is asked for the next batch (`_WatchedLoader`).
"""

from __future__ import annotations

import errno
import signal
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import torch.distributed as dist
from lightning.pytorch.callbacks import Callback

from scenc._distributed import rank, world_size
from scenc.io import atomic_path
from scenc.train._budget import Budget, TrainingPaused
from scenc.train._callbacks import NonFiniteLossError
from scenc.train._random import random_state, set_random_state

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from lightning.pytorch import LightningModule, Trainer

_NAME = "last.ckpt"
# Settings that checkpoints of earlier versions lack.
_LATER = {"files"}
_SIGTERM_EXIT = 128 + signal.SIGTERM


class CheckpointError(ValueError):
    """A checkpoint cannot be gone on from: it is damaged, or of another training.

    Examples
    --------
    >>> from pathlib import Path
    >>> Path("damaged").mkdir()
    >>> Path("damaged/last.ckpt").write_text("half a file")
    11
    >>> try:
    ...     scenc.train.Checkpoints("damaged", every=100, settings={}, resume=True)
    ... except scenc.train.CheckpointError as error:
    ...     print(error)
    damaged/last.ckpt is damaged or no checkpoint: ...
    """


class Checkpoints(Callback):
    """Write weights, optimizer, schedule, place in the data and random states to a folder.

    The one file, ``last.ckpt``, is always whole: a new one takes its place in one step. It is
    written between optimizer steps, since gradients accumulated for the next step are not kept. At
    SIGTERM, by which clusters announce that they end a job, one is written before the process
    leaves.

    Parameters
    ----------
    folder
        Where to write.
    every
        Optimizer steps between checkpoints.
    settings
        Plain values that determine the training; a checkpoint made under others is refused.
    names
        Lists of names of which `settings` hold a hash, such as of genes: kept to say what differs.
    resume
        Whether to go on from the folder's checkpoint if it has one.
    overwrite
        Whether a checkpoint that is not gone on from is removed, once the new training has begun.

    Raises
    ------
    FileExistsError
        The folder has a checkpoint, which is neither to be gone on from nor to be removed.
    CheckpointError
        Its checkpoint cannot be used; the message says why.

    Examples
    --------
    >>> checkpoints = scenc.train.Checkpoints("run", every=100, settings={"lr": 1e-3})
    >>> checkpoints.path.as_posix(), checkpoints.found  # an argument of `scenc.train.fit`
    ('run/last.ckpt', False)
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        every: int,
        settings: Mapping[str, Any],
        *,
        resume: bool = False,
        overwrite: bool = False,
        names: Mapping[str, Sequence[str]] | None = None,
    ) -> None:
        if every < 1:
            raise ValueError(f"checkpoint_every must be at least 1, got {every}.")
        self.path = Path(folder) / _NAME
        self._every = every
        self._settings = dict(settings)
        self._names = {name: list(values) for name, values in (names or {}).items()}
        self._seen_step = self._saved_at = 0
        self._due = self._leaving = self._pausing = False
        self._pause_at: int | None = None
        self._train: Any = None
        self._trainer: Trainer | None = None
        self._handler: Any = None
        self._random: dict[str, Any] | None = None
        self.found = self.path.is_file() and (resume or not overwrite)
        if self.found and not resume:
            raise FileExistsError(
                f"{self.path} is of an earlier training: pass resume=True to go on with it, "
                "overwrite=True to replace it, or name another checkpoint_dir."
            )
        if self.found:
            self._start = self._check(read_checkpoint(self.path))

    def watch(self, train: Any) -> Any:
        """Return a training loader during whose passes checkpoints are written.

        It begins where the folder's checkpoint was written. Lightning sees to this as well, but
        only where that was in the middle of an epoch.
        """
        self._train = train
        if self.found:
            train.load_state_dict(self._start)
        return _WatchedLoader(train, self._save_if_due)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Take up the random states, and listen for SIGTERM."""
        self._trainer = trainer
        callbacks: list[Callback] = trainer.callbacks  # type: ignore[attr-defined]
        pauses = [one.pause_at for one in callbacks if isinstance(one, Budget)]
        self._pause_at = next(iter(pauses), None)
        # Its checkpoint may be of the step to pause at, or of a later one.
        self._pausing = self._pause_at is not None and trainer.global_step >= self._pause_at
        if trainer.is_global_zero and not self.found:
            # Of a training that this one replaces: nobody is to go on from it by mistake.
            self.path.unlink(missing_ok=True)
        self._seen_step = self._saved_at = trainer.global_step
        if self._random is not None:
            device = trainer.strategy.root_device
            set_random_state(device, _random_state_of(self._random, rank(), device))
        if threading.current_thread() is threading.main_thread():
            self._handler = signal.signal(signal.SIGTERM, self._leave)

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        """Decide whether a checkpoint is due."""
        if trainer.global_step == self._seen_step:
            return  # gradients are being accumulated
        self._seen_step = trainer.global_step
        # All ranks leave after the same step, whichever was told first.
        if trainer.world_size > 1:
            self._leaving = trainer.strategy.reduce_boolean_decision(self._leaving, all=False)
        self._pausing = trainer.global_step == self._pause_at
        self._due = self._leaving or self._pausing or trainer.global_step % self._every == 0

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the last checkpoint; a training that goes on from it has nothing left to do.

        If it was stopped before its time, it goes on with the next epoch: Lightning counts the one
        it was stopped in as whole.
        """
        self._listen_no_more()
        self._train.load_state_dict({"epoch": self._train.epoch, "batch": 0})
        self._save(trainer)

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, _: BaseException) -> None:
        """Leave signals as they were; the last good checkpoint stays."""
        self._listen_no_more()

    def state_dict(self) -> dict[str, Any]:
        """Return what Lightning does not keep by itself; it asks all ranks when it saves."""
        assert self._trainer is not None
        own = random_state(self._trainer.strategy.root_device)
        every = [own]
        if world_size() > 1:
            every = every * world_size()
            dist.all_gather_object(every, own)
        return {"random": every, "settings": self._settings, "names": self._names}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Keep the random states until training starts."""
        self._random = state_dict

    def _save_if_due(self) -> None:
        """Write a checkpoint if one is due, and leave or pause if training is to."""
        if self._due:
            assert self._trainer is not None
            self._due = False
            self._save(self._trainer)
            if self._leaving:
                raise SystemExit(_SIGTERM_EXIT)
        if self._pausing:
            raise TrainingPaused

    def _save(self, trainer: Trainer) -> None:
        """Write a checkpoint."""
        try:
            if trainer.is_global_zero:
                with atomic_path(self.path) as draft:
                    trainer.save_checkpoint(draft)
            else:
                trainer.save_checkpoint(self.path)  # rank 0 writes; all take part
        except NonFiniteLossError:
            raise  # met by `Curves`, which reads the last losses for the checkpoint
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

    def _check(self, checkpoint: dict[str, Any]) -> dict[str, int]:
        """Return the loader's state; refuse to go on with another training than was left."""
        try:
            kept = checkpoint["callbacks"]["Checkpoints"]
            found, start = kept["settings"], _loader_state(checkpoint)
            names = sorted({*found, *self._settings} - _LATER.difference(found), key=_by_weight)
        except (KeyError, TypeError, ValueError):
            raise CheckpointError(f"{self.path} is no checkpoint of scenc.") from None
        for name in names:
            before, now = found.get(name), self._settings.get(name)
            if before != now:
                lists = (kept.get("names", {}).get(name, before), self._names.get(name, now))
                raise CheckpointError(
                    f"{self.path} is of another training: {_difference(name, *lists)}. Go on with "
                    "the same, or name another checkpoint_dir."
                )
        return start

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


def _by_weight(name: str) -> tuple[bool, str]:
    """Put files first: where they differ, so may all that follows from them."""
    return name != "files", name


def _difference(name: str, before: Any, now: Any) -> str:
    """Say in words how a setting of a training differs from that of the checkpoint."""
    if not isinstance(before, list) or not isinstance(now, list) or name == "split_sizes":
        return f"its {name} is {before!r}, now it is {now!r}"
    new = [value for value in now if value not in set(before)]
    gone = [value for value in before if value not in set(now)]
    if not new and not gone:
        return f"its {name} are the same, but came in another order ({_first(before)})"
    parts = [
        f"{len(values):,} {what} ({_first(values)})"
        for values, what in ((new, "are new"), (gone, "are missing now"))
        if values
    ]
    return f"of its {name}, {' and '.join(parts)}"


def _first(values: list[Any]) -> str:
    return ", ".join(map(str, values[:3])) + (", ..." if len(values) > 3 else "")


def _random_state_of(
    checkpoint: dict[str, Any], of_rank: int, device: torch.device
) -> dict[str, Any]:
    """Return a rank's random states."""
    if "random" not in checkpoint:  # written by 0.1: of the first rank, by number of its devices
        states, number = checkpoint["cuda"], device.index or 0
        on_cuda = device.type == "cuda" and number < len(states)
        return {"cpu": checkpoint["cpu"], "device": states[number] if on_cuda else None}
    every: list[dict[str, Any]] = checkpoint["random"]
    return every[of_rank]


def _loader_state(checkpoint: dict[str, Any]) -> dict[str, int]:
    """Return where in the training data a checkpoint was written."""
    if "position" in checkpoint["callbacks"]["Checkpoints"]:  # written by 0.1
        epoch, batch = checkpoint["callbacks"]["Checkpoints"]["position"]
    else:
        (state,) = checkpoint["loops"]["fit_loop"]["state_dict"]["combined_loader"]
        epoch, batch = state["epoch"], state["batch"]
    return {"epoch": int(epoch), "batch": int(batch)}


class _WatchedLoader:
    """A loader that does something each time before it hands out a batch.

    Parameters
    ----------
    loader
        The loader; Lightning writes its `state_dict` into checkpoints.
    before_batch
        What is done when a batch has been made, and not handed out yet.
    """

    def __init__(self, loader: Any, before_batch: Callable[[], None]) -> None:
        self._loader = loader
        self._before_batch = before_batch
        self._n_held = 0

    def __len__(self) -> int:
        return len(self._loader)

    def __iter__(self) -> Iterator[Any]:
        for batch in self._loader:
            self._n_held = 1
            self._before_batch()
            self._n_held = 0
            yield batch

    def state_dict(self) -> dict[str, int]:
        """Return the loader's state, without the batch that has not been handed out yet."""
        state = self._loader.state_dict()
        return {**state, "batch": state["batch"] - self._n_held}

    def load_state_dict(self, state_dict: dict[str, int]) -> None:
        """Set the loader's state."""
        self._loader.load_state_dict(state_dict)
