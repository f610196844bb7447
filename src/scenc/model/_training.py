from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch

from scenc.data import OrderedRequests, ShuffledRequests, TokenDataset, ViewDataset
from scenc.model._base import ModelBase
from scenc.model._components import find_components, sample
from scenc.model._neighborhoods import find_neighborhoods
from scenc.train import (
    ContrastivePlan,
    MaskedExpressionPlan,
    NonFiniteLossError,
    TrainConfig,
    fit,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lightning.pytorch import Callback
    from numpy.typing import NDArray

    from scenc.model._cells import Cells
    from scenc.train import Curve


class TrainingMixin(ModelBase):
    """Training: by masked expression, or by views of cells beside it."""

    def train(
        self,
        max_epochs: int | None = None,
        batch_size: int | None = None,
        *,
        precision: str = "auto",
        accumulate_grad_batches: int | None = None,
        early_stopping: bool = True,
        accelerator: str = "auto",
        devices: int | str | list[int] = 1,
        strategy: str = "auto",
        num_workers: int = 0,
        callbacks: Sequence[Callback] = (),
        enable_progress_bar: bool = True,
        **overrides: Any,
    ) -> None:
        """Train on the data the model was made with; call again to train on.

        A share of the cells is held out to choose the best weights (`TrainConfig`); these are in
        place at the end. Cells without counts are left out. Training with the same seed, data and
        settings gives the same weights on the same kind of machine.

        Parameters
        ----------
        max_epochs, batch_size, accumulate_grad_batches
            As in `scenc.train.TrainConfig`; ``None``: the preset's.
        precision
            ``"auto"`` is FP16 mixed precision on CUDA and full precision elsewhere; else any
            precision of Lightning (``"32-true"``, ``"bf16-mixed"``, ...).
        early_stopping
            Whether to stop when validation has not improved for `TrainConfig.patience` checks.
        accelerator, devices, strategy, callbacks
            Passed to `lightning.pytorch.Trainer`.
        num_workers
            Processes that make batches; 0 makes them in this one, which is usually fastest.
        enable_progress_bar
            Whether to show progress.
        **overrides
            Any other attribute of `scenc.train.TrainConfig`.

        Raises
        ------
        TypeError
            An argument is unknown; the message names the nearest known one.
        ValueError
            An argument is out of range, or fewer than two cells have counts.
        NonFiniteLossError
            The loss became NaN or infinite. The last good weights are in place, and the history
            reaches to that step; without any validation before it the model stays untrained.

        Examples
        --------
        >>> model.train(max_epochs=20, lr=5e-4)
        >>> model.history["reconstruction_loss_validation"]
        """
        given = {
            "max_epochs": max_epochs,
            "batch_size": batch_size,
            "accumulate_grad_batches": accumulate_grad_batches,
        }
        named = {name: value for name, value in given.items() if value is not None}
        config = TrainConfig.from_dict({**self._train_defaults, **named, **overrides})
        cells = self._training_cells()
        train, validation, test = self._split(cells, config)
        config = replace(config, max_epochs=config.epochs(len(train)))
        contrastive = self.config.objective == "contrastive"
        dataset: TokenDataset | ViewDataset
        if contrastive:
            dataset = self._views(cells, config, np.sort(np.concatenate([train, validation])))
        else:
            dataset = self._tokens(cells, config)
        load = partial(
            dataset.loader,
            num_workers=num_workers,
            pin_memory=accelerator != "cpu" and torch.cuda.is_available(),
        )
        requests = ShuffledRequests(
            train, config.batch_size, seed=self.config.seed, epoch=self._n_epochs
        )
        held_out = OrderedRequests(
            validation, config.batch_size, seed=self.config.seed, lengths=cells.n_genes[validation]
        )
        try:
            curve = fit(
                self.module,
                load(requests),
                load(held_out) if len(validation) else None,
                config,
                seed=self.config.seed + self._n_epochs,
                plan=ContrastivePlan if contrastive else MaskedExpressionPlan,
                first_step=self._n_steps,
                precision=precision,
                accelerator=accelerator,
                devices=devices,
                strategy=strategy,
                early_stopping=early_stopping,
                callbacks=callbacks,
                progress_bar=enable_progress_bar,
            )
        except NonFiniteLossError as error:
            if error.curve is not None:
                # Weights that passed a validation are good; initial ones are not.
                trained = self.is_trained_ or bool(error.curve.validation)
                self._record(error.curve, requests, config, (train, validation, test), trained)
            raise
        self._record(curve, requests, config, (train, validation, test), trained=True)

    def _tokens(self, cells: Cells, config: TrainConfig) -> TokenDataset:
        """Return what the masked objective trains on."""
        tokenizer = self._tokenizer(mask_fraction=config.mask_fraction)
        return TokenDataset(cells.rows, cells.gene_map, tokenizer, lengths=cells.n_genes)

    def _views(self, cells: Cells, config: TrainConfig, shown: NDArray[np.int64]) -> ViewDataset:
        """Return what the contrastive objective trains on; only cells shown become neighbours."""
        settings = self.config
        values = sample(cells, len(self.vocabulary), settings.target_sum, settings.seed)
        components = find_components(values, settings.d_model, settings.seed)
        neighborhoods = find_neighborhoods(
            components.project(cells, settings.target_sum),
            self._batches(),
            config.n_neighbors,
            settings.seed,
            shown=shown,
        )
        # Without a term for them, no gene need be hidden.
        hidden = config.mask_fraction if config.masked_weight else 0.0
        tokenizer = self._tokenizer(mask_fraction=hidden, context=config.view_genes)
        return ViewDataset(
            cells.rows,
            cells.gene_map,
            tokenizer,
            neighborhoods,
            config.view_depth,
            config.same_cell,
        )

    def _record(
        self,
        curve: Curve,
        requests: ShuffledRequests,
        config: TrainConfig,
        split: tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]],
        trained: bool,
    ) -> None:
        """Keep what a training left behind, also one that failed."""
        self._n_epochs = requests.epoch
        self._n_steps += curve.n_steps
        self.train_config = config
        self.train_indices_, self.validation_indices_, self.test_indices_ = split
        self.is_trained_ = trained
        contrastive = self.config.objective == "contrastive"
        plan = ContrastivePlan if contrastive else MaskedExpressionPlan
        self._extend_history(
            train_loss=curve.train,
            **{plan.validation_names[0]: curve.validation},
            **curve.terms,
            learning_rate=curve.lr,
        )

    def _split(
        self, cells: Cells, config: TrainConfig
    ) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
        """Return rows to train on, to validate on and to leave alone, the same at every call."""
        filled = np.flatnonzero(cells.n_genes > 0)
        if len(filled) < 2:
            raise ValueError(
                f"Training needs at least 2 cells with counts, the data have {len(filled)}."
            )
        order = np.random.default_rng(self.config.seed).permutation(filled)
        n_validation = _share(config.validation_size, len(order), len(order) - 1)
        n_test = _share(config.test_size, len(order), len(order) - n_validation - 1)
        held_out = n_validation + n_test
        return (
            np.sort(order[held_out:]),
            np.sort(order[:n_validation]),
            np.sort(order[n_validation:held_out]),
        )

    def _extend_history(self, **curves: dict[int, float]) -> None:
        history = self.history_ or {}
        for name, curve in curves.items():
            index = pd.Index(list(curve), name="step", dtype=int)
            frame = pd.DataFrame({name: list(curve.values())}, index=index, dtype=float)
            history[name] = pd.concat([history[name], frame]) if name in history else frame
        self.history_ = history


def _share(size: float, n: int, most: int) -> int:
    """Number of held-out cells: a share of n, at least one if any are wanted, up to a limit."""
    return min(most, max(1, round(size * n))) if size > 0 else 0
