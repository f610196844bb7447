from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from lightning.pytorch.callbacks import Callback
from tqdm.auto import tqdm

if TYPE_CHECKING:
    from lightning.pytorch import LightningModule, Trainer
    from lightning.pytorch.loggers import Logger
    from torch.amp import GradScaler
    from torch.optim import Optimizer

# Optimizer steps between readings of the losses, by the device they are on.
_STEPS_PER_READ = {"cpu": 1, "cuda": 50}
# FP16's loss scale starts at 2^16. Where gradients overflow at such a scale, or are NaN at any,
# nothing is learnt any more.
_LEAST_SCALE = 2.0**-13


@dataclass(frozen=True, slots=True)
class Curve:
    """Losses and learning rates of a training, by optimizer step.

    Attributes
    ----------
    train, validation, lr
        Training loss, validation loss and learning rate at their steps.
    n_steps
        Steps taken.
    terms
        Further validation losses, by name.
    n_threads
        Threads of PyTorch at the end; ``None``: its own number.

    Examples
    --------
    >>> curve = scenc.train.Curve(  # `scenc.train.fit` returns one
    ...     train={0: 1.9, 1: 1.2}, validation={1: 1.4}, lr={0: 5e-4, 1: 1e-3}, n_steps=2
    ... )
    >>> curve.train[1], curve.validation
    (1.2, {1: 1.4})
    """

    train: dict[int, float]
    validation: dict[int, float]
    lr: dict[int, float]
    n_steps: int
    terms: dict[str, dict[int, float]] = field(default_factory=dict)
    n_threads: int | None = None


class NonFiniteLossError(RuntimeError):
    """The training loss became NaN or infinite.

    Attributes
    ----------
    step
        The optimizer step (from 0) at which it was first seen.
    curve
        The curves up to there; ``None`` until `fit` has ended.

    Examples
    --------
    >>> try:
    ...     model.train(lr=1e-3)
    ... except scenc.train.NonFiniteLossError as error:
    ...     print(f"Not finite at step {error.step}: a lower lr may help.")
    """

    curve: Curve | None = None

    def __init__(self, step: int) -> None:
        self.step = step
        super().__init__(
            f"The training loss is not finite at step {step}. Training has stopped and the last "
            "good weights are in place. A lower lr, a longer warm-up or "
            "precision='32-true' usually helps."
        )


class NonFiniteGradientError(NonFiniteLossError):
    """Under FP16, step after step was skipped, because gradients were NaN or infinite.

    Attributes
    ----------
    step
        The optimizer step (from 0) up to which this was seen.
    scale
        What the loss was multiplied by in the end; halved at each skipped step.

    Examples
    --------
    >>> error = scenc.train.NonFiniteGradientError(step=120, scale=2.0**-14)  # as `fit` raises it
    >>> error.step, isinstance(error, scenc.train.NonFiniteLossError)
    (120, True)
    """

    def __init__(self, step: int, scale: float) -> None:
        self.step, self.scale = step, scale
        RuntimeError.__init__(
            self,
            f"Up to step {step}, steps were skipped again and again, since gradients were not "
            f"finite in FP16: the loss scale, halved each time, has come down to {scale:.2g}. "
            "Training has stopped and the last good weights are in place. "
            "precision='bf16-mixed' or precision='32-true' has the range that FP16 lacks.",
        )


def _validation_names(plan: LightningModule) -> tuple[str, ...]:
    """Return the names of the validation losses, first the one that chooses the best weights."""
    names: tuple[str, ...] = plan.validation_names  # type: ignore[assignment]  # set by our plan
    return names


class Curves(Callback):
    """Record the loss by optimizer step; stop when it, or FP16 gradients, are not finite.

    On a GPU losses are read every 50 steps, and before a validation or a checkpoint: reading one
    waits until the GPU has finished the step, and the next could not be queued meanwhile. A loss
    that is not finite is found that much later; neither `BestWeights` nor checkpoints are touched.

    Parameters
    ----------
    first_step
        Number of steps of earlier trainings of the same model.
    """

    def __init__(self, first_step: int = 0) -> None:
        self._first_step = first_step
        self._pending: list[torch.Tensor] = []
        self._micro: list[torch.Tensor] = []
        self._seen_step = 0
        self._loggers: list[Logger] = []
        self._scaler: GradScaler | None = None
        self.train: dict[int, float] = {}
        self.validation: dict[int, float] = {}
        self.lr: dict[int, float] = {}
        self.terms: dict[str, dict[int, float]] = {}

    def on_before_optimizer_step(
        self, trainer: Trainer, pl_module: LightningModule, optimizer: Optimizer
    ) -> None:
        """Keep the learning rate of the step."""
        self.lr[self._first_step + trainer.global_step] = optimizer.param_groups[0]["lr"]

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        """Keep the batch's loss."""
        self._micro.append(pl_module.last_loss)  # type: ignore[arg-type]  # set by our plan
        if trainer.global_step == self._seen_step:
            return
        self._seen_step = trainer.global_step
        self._pending.append(torch.stack(self._micro).mean())
        self._micro = []
        device = pl_module.device.type
        if len(self._pending) >= _STEPS_PER_READ.get(device, _STEPS_PER_READ["cuda"]):
            self._read()

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Keep the validation loss and its terms."""
        if trainer.sanity_checking:
            return  # of the weights before the training
        self._read()
        step = self._first_step + trainer.global_step - 1
        names = _validation_names(pl_module)
        values = {name: float(trainer.callback_metrics[name]) for name in names}
        self._log(values, step)
        self.validation[step] = values.pop(names[0])
        for name, value in values.items():
            self.terms.setdefault(name, {})[step] = value

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Read what is left."""
        self._read()

    def state_dict(self) -> dict[str, Any]:
        """Return what was recorded, for a checkpoint."""
        self._read()
        kept = {name: dict(getattr(self, name)) for name in ("train", "validation", "lr")}
        return {**kept, "terms": {k: dict(v) for k, v in self.terms.items()}}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from what a checkpoint holds."""
        self.train, self.validation = state_dict["train"], state_dict["validation"]
        self.lr, self.terms = state_dict["lr"], state_dict["terms"]

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Count on from where a checkpoint left off."""
        self._seen_step = trainer.global_step
        self._loggers = trainer.loggers
        self._scaler = getattr(trainer.precision_plugin, "scaler", None)

    def result(self, n_steps: int, n_threads: int | None) -> Curve:
        """Return what was recorded."""
        return Curve(self.train, self.validation, self.lr, n_steps, self.terms, n_threads)

    def _read(self) -> None:
        if not self._pending:
            return
        losses = torch.stack(self._pending).tolist()
        first = self._first_step + self._seen_step - len(losses)
        self._pending = []
        for step, loss in enumerate(losses, start=first):
            if not torch.isfinite(torch.tensor(loss)):
                raise NonFiniteLossError(step)
            self.train[step] = loss
            self._log({"train_loss": loss, "learning_rate": self.lr[step]}, step)
        if self._scaler is not None:
            self._check_scale(self._scaler.get_scale(), first + len(losses) - 1)

    def _check_scale(self, scale: float, step: int) -> None:
        """Stop where FP16 has skipped so many steps that training stands still."""
        self._log({"loss_scale": scale}, step)
        if scale < _LEAST_SCALE:
            raise NonFiniteGradientError(step, scale)

    def _log(self, values: dict[str, float], step: int) -> None:
        for logger in self._loggers:
            logger.log_metrics(values, step)


class BestWeights(Callback):
    """Keep a copy of the weights of the best validation so far.

    A training that goes on from earlier ones begins with a validation (Lightning's sanity check),
    so that its own have the earlier weights to beat.

    The copy stays in memory, where Lightning's ModelCheckpoint writes a file: a training without a
    folder of its own has no place for one, and ranks would have to wait for each other. All ranks
    hold equal weights, so each keeps a copy; on the CPU, to leave the GPU's memory to training.
    """

    def __init__(self) -> None:
        self.loss = float("inf")
        # Whether this training has been validated; the loss may be that of the weights before it.
        self.has_validated = False
        self._state: dict[str, torch.Tensor] | None = None

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Keep the initial weights, the last good ones should the first epoch fail."""
        if self._state is None:
            self._keep(pl_module)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Keep the weights if they are the best."""
        loss = float(trainer.callback_metrics[_validation_names(pl_module)[0]])
        self.has_validated = not trainer.sanity_checking
        if loss < self.loss:
            self.loss = loss
            self._keep(pl_module)

    def state_dict(self) -> dict[str, Any]:
        """Return the weights, for a checkpoint."""
        return {"loss": self.loss, "weights": self._state, "validated": self.has_validated}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from what a checkpoint holds."""
        self.loss, self._state = state_dict["loss"], state_dict["weights"]
        # In checkpoints of 0.1 the loss tells.
        self.has_validated = state_dict.get("validated", self.loss < float("inf"))

    def restore(self, network: torch.nn.Module) -> None:
        """Put the kept weights back."""
        if self._state is not None:
            network.load_state_dict(self._state, strict=False)

    def _keep(self, pl_module: LightningModule) -> None:
        network: torch.nn.Module = pl_module.network  # type: ignore[assignment]  # set by our plan
        self._state = {
            name: weight.detach().to("cpu", copy=True)
            for name, weight in network.named_parameters()
        }


class TrainingBar(Callback):
    """One bar over all optimizer steps, with the latest losses."""

    def __init__(self) -> None:
        self._bar: tqdm[Any] | None = None

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Open the bar."""
        self._bar = tqdm(
            total=int(trainer.estimated_stepping_batches),
            initial=trainer.global_step,
            desc="Training",
            unit="step",
            disable=not trainer.is_global_zero,
        )

    def on_train_batch_end(self, trainer: Trainer, *_: Any) -> None:
        """Move the bar."""
        if self._bar is not None and trainer.global_step > self._bar.n:
            self._bar.update(trainer.global_step - self._bar.n)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Show the validation loss."""
        if self._bar is not None:
            loss = float(trainer.callback_metrics[_validation_names(pl_module)[0]])
            self._bar.set_postfix(epoch=trainer.current_epoch + 1, validation=f"{loss:.4f}")

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Close the bar."""
        if self._bar is not None:
            self._bar.close()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, _: BaseException) -> None:
        """Close the bar."""
        self.on_train_end(trainer, pl_module)
