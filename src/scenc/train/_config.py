from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, Self

from scenc._arguments import refuse_unknown


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainConfig:
    """How a network is trained.

    Attributes
    ----------
    max_epochs
        Passes over the training cells.
    batch_size
        Cells per batch (and per device).
    accumulate_grad_batches
        Batches whose gradients are averaged into one optimizer step.
    lr, weight_decay, betas
        Of AdamW. Biases, norms and single vectors are not decayed.
    warmup_steps
        Optimizer steps over which the learning rate rises linearly to `lr`.
    max_warmup_share
        The warm-up takes at most this share of all steps; 1 takes `warmup_steps` as given.
    min_lr_ratio
        Where the cosine that follows the warm-up ends, as a share of `lr`.
    gradient_clip
        Largest norm of the gradient; longer ones are scaled down. 0: no limit.
    mask_fraction
        p_mask, the share of a cell's tokens to hide and predict.
    validation_size, test_size
        Shares of the cells held out to choose the best epoch, and held out altogether.
    validate_every
        Optimizer steps between validations; ``None``: once an epoch.
    patience
        Validations without improvement before training stops early.
    """

    max_epochs: int = 10
    batch_size: int = 128
    accumulate_grad_batches: int = 1
    lr: float = 1e-3
    weight_decay: float = 1e-5
    betas: tuple[float, float] = (0.9, 0.95)
    warmup_steps: int = 2000
    max_warmup_share: float = 0.1
    min_lr_ratio: float = 0.0
    gradient_clip: float = 1.0
    mask_fraction: float = 0.5
    validation_size: float = 0.1
    test_size: float = 0.0
    validate_every: int | None = None
    patience: int = 10

    def __post_init__(self) -> None:
        for name in ("max_epochs", "batch_size", "accumulate_grad_batches", "patience"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}.")
        for name in ("lr", "weight_decay", "gradient_clip", "warmup_steps", "min_lr_ratio"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"{name} must not be negative, got {getattr(self, name)}.")
        if not 0 < self.mask_fraction <= 1:
            raise ValueError(f"mask_fraction must lie in (0, 1], got {self.mask_fraction}.")
        if self.validate_every is not None and self.validate_every < 1:
            raise ValueError(f"validate_every must be at least 1, got {self.validate_every}.")
        if min(self.validation_size, self.test_size) < 0 or not (
            self.validation_size + self.test_size < 1
        ):
            raise ValueError(
                "validation_size and test_size must not be negative and must leave cells to train "
                f"on, got {self.validation_size} and {self.test_size}."
            )

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        """Build from plain values, refusing unknown names."""
        refuse_unknown(values, (field.name for field in fields(cls)), "training argument")
        return cls(**values)
