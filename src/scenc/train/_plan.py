from __future__ import annotations

import logging
from abc import abstractmethod
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
import torch.distributed as dist
from lightning.pytorch import LightningModule
from torch.optim import AdamW
from torch.optim.lr_scheduler import LambdaLR

from scenc._distributed import world_size
from scenc.train._ranks import sum_over_ranks
from scenc.train._schedule import warmup_cosine, warmup_within

if TYPE_CHECKING:
    from scenc.data import TokenBatch
    from scenc.nn import CellTransformer
    from scenc.train._config import TrainConfig

logger = logging.getLogger(__name__)

RECONSTRUCTION_LOSS = "reconstruction_loss_validation"


class TrainingPlan(LightningModule):
    """Base of the training plans: the optimizer, its schedule, means over the validation cells.

    Parameters
    ----------
    network
        The network; its weights are changed in place.
    config
        Settings of the training.

    Attributes
    ----------
    validation_names
        Names of the losses measured in validation; the first chooses the best weights.
    last_loss
        Loss of the last batch, over all ranks.

    Examples
    --------
    >>> class AbsoluteError(scenc.train.TrainingPlan):  # for `fit`, as plan=AbsoluteError
    ...     validation_names = ("absolute_error",)
    ...
    ...     def training_step(self, batch, batch_idx):
    ...         error, n_masked = self.validation_sums(batch)
    ...         self.last_loss = (error / n_masked).mean().detach()
    ...         return (error / n_masked).mean()
    ...
    ...     def validation_sums(self, batch):
    ...         errors = (self.network.reconstruct(batch) - batch.targets()).abs()
    ...         return errors[batch.masked].sum()[None], batch.masked.sum()[None]
    >>> network = scenc.nn.CellTransformer(scenc.nn.ModelConfig(), n_genes=2000)
    >>> plan = AbsoluteError(network, scenc.train.TrainConfig())
    """

    validation_names: tuple[str, ...]

    def __init__(self, network: CellTransformer, config: TrainConfig) -> None:
        super().__init__()
        self.network = network
        self.config = config
        network.transformer.checkpoint_blocks = config.checkpoint_blocks
        self.last_loss = torch.zeros(())
        self._validation = torch.zeros(0)

    @abstractmethod
    def validation_sums(self, batch: Any) -> tuple[torch.Tensor, torch.Tensor]:
        """Return sums of the validation losses over a batch, and the numbers to divide them by."""

    def on_validation_epoch_start(self) -> None:
        """Start new sums."""
        self._validation = torch.zeros(2, len(self.validation_names), dtype=torch.float64)

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        """Add up, so that every token or cell weighs the same."""
        # In double precision on the CPU, since not every device has it.
        self._validation += torch.stack(self.validation_sums(batch)).cpu().double()

    def on_validation_epoch_end(self) -> None:
        """Log the means over all batches of all ranks."""
        sums = self._validation.float().to(self.device)
        if world_size() > 1:
            dist.all_reduce(sums)
        for name, total, number in zip(self.validation_names, *sums, strict=True):
            mean = total / number.clamp(min=1)
            # For callbacks only: loggers get it from `Curves`, since after a checkpoint Lightning
            # may log at a step too late. Equal on all ranks already; sync_dist says so.
            self.log(name, mean, logger=False, sync_dist=True)

    def configure_optimizers(self) -> Any:
        """AdamW under a warm-up and a cosine, both by optimizer step."""
        config = self.config
        total = int(self.trainer.estimated_stepping_batches)
        warmup = warmup_within(config.warmup_steps, total, config.max_warmup_share)
        if warmup < config.warmup_steps:
            logger.info(
                "Warm-up cut from %d to %d of %d steps.", config.warmup_steps, warmup, total
            )
        weights = [p for p in self.network.parameters() if p.requires_grad]
        groups: list[dict[str, Any]] = [
            {"params": [p for p in weights if p.ndim > 1]},
            {"params": [p for p in weights if p.ndim <= 1], "weight_decay": 0.0},
        ]
        optimizer = AdamW(
            groups,
            lr=config.lr,
            betas=config.betas,
            weight_decay=config.weight_decay,
        )
        schedule = partial(warmup_cosine, warmup=warmup, total=total, floor=config.min_lr_ratio)
        scheduler = LambdaLR(optimizer, schedule)
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": scheduler, "interval": "step"},
        }


class MaskedExpressionPlan(TrainingPlan):
    """Train a network to predict masked expression (eq. 10).

    Examples
    --------
    >>> network = scenc.nn.CellTransformer(scenc.nn.ModelConfig(), n_genes=adata.n_vars)
    >>> plan = scenc.train.MaskedExpressionPlan(network, scenc.train.TrainConfig())
    >>> rows = scenc.data.open_rows(adata.X)
    >>> tokenizer = scenc.data.Tokenizer(context=64, mask_fraction=0.5)
    >>> tokens = scenc.data.TokenDataset(rows, np.arange(adata.n_vars), tokenizer)
    >>> errors, n_masked = plan.validation_sums(tokens[scenc.data.Request(np.arange(8), seed=0)])
    >>> int(n_masked)  # 32 of 64 genes in each of eight cells
    256
    """

    validation_names = (RECONSTRUCTION_LOSS,)

    def training_step(self, batch: TokenBatch, batch_idx: int) -> torch.Tensor:
        """Return the mean squared error over all ranks' masked tokens; 0 if there are none."""
        errors, n_masked = self.network.squared_errors(batch)
        total, number = sum_over_ranks(torch.stack([errors.sum(), n_masked.sum().to(errors.dtype)]))
        loss: torch.Tensor = total / number.clamp(min=1)
        self.last_loss = loss.detach()
        return loss

    def validation_sums(self, batch: TokenBatch) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the sum of squared errors and the number of masked tokens."""
        errors, n_masked = self.network.squared_errors(batch)
        return errors.cpu().double().sum()[None], n_masked.cpu().double().sum()[None]
