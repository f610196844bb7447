from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import Any, Literal, Self

from scenc._arguments import choose, refuse_unknown

_MOST_EPOCHS = 200
# Settings that later versions have added, and that change no embedding: see `TrainConfig.to_dict`.
_LATER = ("decoder_steps",)


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainConfig:
    """How a network is trained.

    Attributes
    ----------
    max_epochs
        Passes over the training cells; ``None``: as many as come to `cell_visits`, 200 at most.
    cell_visits
        Cells seen in training, counted at each visit, where `max_epochs` is ``None``.
    batch_size
        Cells per batch (and per device).
    accumulate_grad_batches
        Batches whose gradients are averaged into one optimizer step.
    checkpoint_blocks
        Whether the inside of each transformer block is computed anew in backward instead of kept:
        much less memory, about a third more time, the same weights.
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
    masked_weight, contrast_weight, anchor_weight
        Weights of the terms of the contrastive objective (`ContrastivePlan`), which the generative
        one may have, too; 0 leaves one out.
    counts_weight, partner_share, kl_weight
        Of the generative objective (`GenerativePlan`): weight of the likelihood of counts per gene,
        the share of it that is on the partner's counts, and the weight of the bottleneck's KL
        divergence beside the likelihood.
    decoder_steps
        Of the generative objective: steps at the end that fit the decoder alone, to whole cells
        (`fit_decoder`); embeddings do not depend on it.
    temperature
        Of the contrastive term's similarities: the lower, the more the nearest cells count.
    negatives
        The negatives of the contrastive term: cells of the same experimental ``"batch"`` as the
        match, so that differences between batches do not help to find it, or ``"all"`` cells.
    view_genes
        Number of genes a view keeps.
    view_depth
        Smallest and largest share of a cell's counts that a view keeps.
    n_neighbors
        Number of similar cells, across batches, that a cell's second view is drawn from.
    same_cell
        Probability that both views are of one cell.
    validation_size, test_size
        Shares of the cells held out to choose the best epoch, and held out altogether.
    validate_every
        Optimizer steps between validations; ``None``: once an epoch.
    patience
        Validations without improvement before training stops early.

    Examples
    --------
    >>> config = scenc.train.TrainConfig(max_epochs=10, lr=1e-3)
    >>> config.max_epochs
    10
    """

    max_epochs: int | None = 10
    cell_visits: int = 50_000
    batch_size: int = 128
    accumulate_grad_batches: int = 1
    checkpoint_blocks: bool = False
    lr: float = 1e-3
    weight_decay: float = 1e-5
    betas: tuple[float, float] = (0.9, 0.95)
    warmup_steps: int = 2000
    max_warmup_share: float = 0.1
    min_lr_ratio: float = 0.0
    gradient_clip: float = 1.0
    mask_fraction: float = 0.5
    masked_weight: float = 1.0
    contrast_weight: float = 1.0
    anchor_weight: float = 2.0
    counts_weight: float = 20.0
    partner_share: float = 0.5
    kl_weight: float = 1.0
    decoder_steps: int = 500
    temperature: float = 0.2
    negatives: Literal["batch", "all"] = "batch"
    view_genes: int = 128
    view_depth: tuple[float, float] = (0.3, 0.9)
    n_neighbors: int = 20
    same_cell: float = 0.1
    validation_size: float = 0.1
    test_size: float = 0.0
    validate_every: int | None = None
    patience: int = 10

    def __post_init__(self) -> None:
        counts = ("batch_size", "accumulate_grad_batches", "patience", "cell_visits",
                  "view_genes", "n_neighbors")  # fmt: skip
        for name in (*counts, *(("max_epochs",) if self.max_epochs is not None else ())):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}.")
        if self.decoder_steps < 0:
            raise ValueError(f"decoder_steps must not be negative, got {self.decoder_steps}.")
        choose(self.negatives, ("batch", "all"), "negatives")
        for name in ("lr", "weight_decay", "gradient_clip", "warmup_steps", "min_lr_ratio",
                     "masked_weight", "contrast_weight", "anchor_weight", "counts_weight",
                     "kl_weight"):  # fmt: skip
            if not getattr(self, name) >= 0:
                raise ValueError(f"{name} must not be negative, got {getattr(self, name)}.")
        if not 0 < self.mask_fraction <= 1:
            raise ValueError(f"mask_fraction must lie in (0, 1], got {self.mask_fraction}.")
        if not self.temperature > 0:
            raise ValueError(f"temperature must be positive, got {self.temperature}.")
        for name in ("same_cell", "partner_share"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} must lie in [0, 1], got {getattr(self, name)}.")
        if not 0 < self.view_depth[0] <= self.view_depth[1] <= 1:
            raise ValueError(
                f"view_depth must be two increasing shares in (0, 1], got {self.view_depth}."
            )
        if self.validate_every is not None and self.validate_every < 1:
            raise ValueError(f"validate_every must be at least 1, got {self.validate_every}.")
        if min(self.validation_size, self.test_size) < 0 or not (
            self.validation_size + self.test_size < 1
        ):
            raise ValueError(
                "validation_size and test_size must not be negative and must leave cells to train "
                f"on, got {self.validation_size} and {self.test_size}."
            )

    @property
    def wants_neighbors(self) -> bool:
        """Whether pairs of views need each cell's neighbours or anchor."""
        return self.anchor_weight > 0 or self.same_cell < 1

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, of which `from_dict` builds the same.

        Later settings stand there only if they are not the default: what is known by its settings
        (stored results, checkpoints) is still known.
        """
        return {
            field.name: getattr(self, field.name)
            for field in fields(self)
            if field.name not in _LATER or getattr(self, field.name) != field.default
        }

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        """Build from plain values, refusing unknown names; lists stand for tuples."""
        refuse_unknown(values, (field.name for field in fields(cls)), "training argument")
        plain: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value
            for name, value in values.items()
        }
        return cls(**plain)

    def epochs(self, n_cells: int) -> int:
        """Return the number of passes over so many training cells."""
        if self.max_epochs is not None:
            return self.max_epochs
        return min(_MOST_EPOCHS, math.ceil(self.cell_visits / n_cells))
