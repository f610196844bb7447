from __future__ import annotations

import hashlib
import warnings
from copy import copy
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd
import torch

from scenc._distributed import is_first
from scenc.data import OrderedRequests, ShuffledRequests, TokenDataset, ViewDataset
from scenc.model._base import ModelBase
from scenc.model._cells import read_streamed, streamed_batches
from scenc.model._components import find_components, sample
from scenc.model._neighborhoods import find_neighborhoods
from scenc.train import (
    Checkpoints,
    ContrastivePlan,
    MaskedExpressionPlan,
    NonFiniteLossError,
    ShareNeighborhoods,
    StartTogether,
    TrainConfig,
    fit,
    make_loggers,
)

if TYPE_CHECKING:
    import os
    from collections.abc import Sequence

    from lightning.pytorch import Callback
    from lightning.pytorch.loggers import Logger
    from numpy.typing import NDArray

    from scenc.data import BatchLoader, CellModule, Neighborhoods
    from scenc.model._cells import Cells
    from scenc.train import Curve, Plan

# From so many cells on, holding all of them in memory is worth a word.
_MANY_CELLS = 1_000_000


class Split(NamedTuple):
    """Rows to train on, to validate on and to leave alone."""

    train: NDArray[np.int64]
    validation: NDArray[np.int64]
    test: NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class TrainingData:
    """What a training sees.

    Attributes
    ----------
    train, validation
        Batches to train on, and to choose the best weights by.
    split
        Which cells are in them, and which in neither.
    callbacks
        What they need while they are trained on.
    """

    train: BatchLoader[Any]
    validation: BatchLoader[Any] | None
    split: Split
    callbacks: tuple[Callback, ...] = ()


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
        num_nodes: int = 1,
        strategy: str = "auto",
        num_workers: int = 0,
        callbacks: Sequence[Callback] = (),
        enable_progress_bar: bool = True,
        datamodule: CellModule | None = None,
        checkpoint_dir: str | os.PathLike[str] | None = None,
        checkpoint_every: int = 500,
        resume: bool = False,
        logger: str | Logger | Sequence[Logger] | None = None,
        **overrides: Any,
    ) -> None:
        """Train on the data the model was made with; call again to train on.

        A share of the cells is held out to choose the best weights (`TrainConfig`); these are in
        place at the end. Cells without counts are left out. Training with the same seed, data and
        settings gives the same weights on the same kind of machine.

        Parameters
        ----------
        max_epochs, batch_size, accumulate_grad_batches
            As in `scenc.train.TrainConfig`; ``None``: the preset's, or as many epochs as come to
            `cell_visits` if that is given.
        precision
            ``"auto"`` is FP16 mixed precision on CUDA and full precision elsewhere; else any
            precision of Lightning (``"32-true"``, ``"bf16-mixed"``, ...).
        early_stopping
            Whether to stop when validation has not improved for `TrainConfig.patience` checks.
        accelerator, devices, num_nodes, strategy, callbacks
            Passed to `lightning.pytorch.Trainer`.
        num_workers
            Processes that make batches; 0 makes them by threads of this one, which is usually
            fastest. A datamodule has threads of its own.
        enable_progress_bar
            Whether to show progress.
        datamodule
            Cells of many files to train on; ``None``: those the model was made with. They have a
            split of their own. The masked objective streams them; the contrastive one looks up
            neighbours, and holds the counts of the model's genes in memory.
        checkpoint_dir
            Folder for checkpoints, from which a training that was ended, by whatever, can go on.
        checkpoint_every
            Optimizer steps between checkpoints. At SIGTERM one is written before leaving.
        resume
            Go on from the folder's checkpoint if it has one, to the very weights that training
            without interruption gives; the model must be made in the same way.
        logger
            Gets the curves as they grow: ``"csv"``, ``"tensorboard"`` (both beside the
            checkpoints, or in ``scenc_logs``), or loggers of Lightning.
        **overrides
            Any other attribute of `scenc.train.TrainConfig`.

        Raises
        ------
        TypeError
            An argument is unknown; the message names the nearest known one.
        ValueError
            An argument is out of range, or fewer than two cells have counts.
        FileExistsError
            There is a checkpoint in `checkpoint_dir` and `resume` is not set.
        CheckpointError
            The checkpoint is damaged, or of a training with other settings.
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
        named: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
        if "cell_visits" in overrides:
            # Visits asked for count, also where the preset goes by epochs.
            named.setdefault("max_epochs", None)
        config = TrainConfig.from_dict({**self._train_defaults, **named, **overrides})
        if resume and checkpoint_dir is None:
            raise ValueError("resume=True needs the checkpoint_dir of the training to go on with.")
        pin = accelerator != "cpu" and torch.cuda.is_available()
        streamed = datamodule or self._datamodule
        if streamed is not None and "batch_size" not in named:
            config = replace(config, batch_size=streamed.batch_size or config.batch_size)
        if streamed is not None and self.config.objective == "masked":
            data = self._streamed(streamed, config)
        else:
            data = self._in_memory(streamed, config, num_workers, pin)
        config = replace(config, max_epochs=config.epochs(len(data.split[0])))
        settings = self._identity(config, data, f"{devices} x {num_nodes}")
        checkpoints = None
        if checkpoint_dir is not None:
            checkpoints = Checkpoints(checkpoint_dir, checkpoint_every, settings, resume=resume)
        try:
            curve = fit(
                self.module,
                data.train,
                data.validation,
                config,
                seed=self.config.seed + self._n_epochs,
                plan=self._plan,
                first_step=self._n_steps,
                precision=precision,
                accelerator=accelerator,
                devices=devices,
                num_nodes=num_nodes,
                strategy=strategy,
                early_stopping=early_stopping,
                callbacks=(StartTogether(settings), *data.callbacks, *callbacks),
                checkpoints=checkpoints,
                logger=make_loggers(logger, checkpoint_dir),
                progress_bar=enable_progress_bar,
            )
        except NonFiniteLossError as error:
            if error.curve is not None:
                # Weights that passed a validation are good; initial ones are not.
                trained = self.is_trained_ or bool(error.curve.validation)
                self._record(error.curve, data, config, trained)
            raise
        self._record(curve, data, config, trained=True)

    def _streamed(self, datamodule: CellModule, config: TrainConfig) -> TrainingData:
        """Return batches that are read from files while they are trained on."""
        # A copy, so that the user's own is left as it is.
        cells = copy(datamodule)
        if not cells.vocabulary.equals(self.vocabulary):
            cells.use_vocabulary(self.vocabulary, self.counted)
        cells.tokenizer = self._tokenizer(mask_fraction=config.mask_fraction)
        cells.batch_size = config.batch_size
        train = cells.train_dataloader(epoch=self._n_epochs)
        return TrainingData(train, cells.held_out("validation"), _split_of(cells))

    def _in_memory(
        self, datamodule: CellModule | None, config: TrainConfig, num_workers: int, pin_memory: bool
    ) -> TrainingData:
        """Return batches of cells that are in memory, or read into it."""
        if datamodule is None:
            cells, batches = self._training_cells(), self._batches()
            split = self._split(cells, config)
        else:
            cells, batches, split = self._gather(datamodule)
        contrastive = self.config.objective == "contrastive"
        dataset: TokenDataset | ViewDataset
        needed: tuple[Callback, ...] = ()
        if contrastive:
            shown = np.sort(np.concatenate([split.train, split.validation]))
            find = partial(self._neighborhoods, cells, batches, config, shown)
            # Of processes that train together only the first one need find them.
            known = find() if is_first() else None
            dataset = self._views(cells, known, config)
            needed = (ShareNeighborhoods(dataset, find),)
        else:
            dataset = self._tokens(cells, config)
        load = partial(dataset.loader, num_workers=num_workers, pin_memory=pin_memory)
        validation = split.validation
        requests = ShuffledRequests(
            split.train, config.batch_size, seed=self.config.seed, epoch=self._n_epochs
        )
        held_out = OrderedRequests(
            validation,
            config.batch_size,
            seed=self.config.seed,
            lengths=cells.n_genes[validation],
            # How well a pair is told from others depends on how many there are.
            shared=contrastive,
        )
        validate = load(held_out) if len(validation) else None
        return TrainingData(load(requests), validate, split, needed)

    def _gather(self, datamodule: CellModule) -> tuple[Cells, NDArray[np.int64], Split]:
        """Read the cells of many files into memory, with the model's genes only."""
        if datamodule.n_obs > _MANY_CELLS:
            warnings.warn(
                f"The contrastive objective holds the counts of {len(self.vocabulary):,} genes of "
                f"all {datamodule.n_obs:,} cells in memory, and searches neighbours among them. "
                "objective='masked' streams them instead.",
                UserWarning,
                stacklevel=4,
            )
        files = copy(datamodule)
        if not files.vocabulary.equals(self.vocabulary):
            files.use_vocabulary(self.vocabulary, self.counted)
        cells = read_streamed(files, np.arange(files.n_obs))
        return cells, streamed_batches(files), _split_of(files)

    def _identity(self, config: TrainConfig, data: TrainingData, devices: str) -> dict[str, Any]:
        """Return what two trainings have in common if one can go on where the other was left."""
        genes = hashlib.sha256("\n".join(self.vocabulary).encode()).hexdigest()
        sizes = [len(cells) for cells in data.split]
        return {
            **asdict(self.config),
            **asdict(config),
            "genes": genes,
            "split_sizes": sizes,
            "first_epoch": self._n_epochs,
            "devices": devices,
        }

    @property
    def _plan(self) -> type[Plan]:
        return ContrastivePlan if self.config.objective == "contrastive" else MaskedExpressionPlan

    def _tokens(self, cells: Cells, config: TrainConfig) -> TokenDataset:
        """Return what the masked objective trains on."""
        tokenizer = self._tokenizer(mask_fraction=config.mask_fraction)
        return TokenDataset(cells.rows, cells.gene_map, tokenizer, lengths=cells.n_genes)

    def _neighborhoods(
        self,
        cells: Cells,
        batches: NDArray[np.int64],
        config: TrainConfig,
        shown: NDArray[np.int64],
    ) -> Neighborhoods:
        """Find which cells are alike; only cells shown become neighbours."""
        settings = self.config
        values = sample(cells, len(self.vocabulary), settings.target_sum, settings.seed)
        components = find_components(values, settings.d_model, settings.seed)
        return find_neighborhoods(
            components.project(cells, settings.target_sum),
            batches,
            config.n_neighbors,
            settings.seed,
            shown=shown,
        )

    def _views(self, cells: Cells, known: Neighborhoods | None, config: TrainConfig) -> ViewDataset:
        """Return what the contrastive objective trains on."""
        # Without a term for them, no gene need be hidden.
        hidden = config.mask_fraction if config.masked_weight else 0.0
        tokenizer = self._tokenizer(mask_fraction=hidden, context=config.view_genes)
        return ViewDataset(
            cells.rows, cells.gene_map, tokenizer, known, config.view_depth, config.same_cell
        )

    def _record(self, curve: Curve, data: TrainingData, config: TrainConfig, trained: bool) -> None:
        """Keep what a training left behind, also one that failed."""
        self._n_epochs = data.train.epoch
        self._n_steps += curve.n_steps
        self.train_config = config
        self.train_indices_, self.validation_indices_, self.test_indices_ = data.split
        self.is_trained_ = trained
        self._extend_history(
            train_loss=curve.train,
            **{self._plan.validation_names[0]: curve.validation},
            **curve.terms,
            learning_rate=curve.lr,
        )

    def _split(self, cells: Cells, config: TrainConfig) -> Split:
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
        return Split(
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


def _split_of(datamodule: CellModule) -> Split:
    """Return the split that a datamodule was made with."""
    return Split(
        datamodule.cells_of("train"),
        datamodule.cells_of("validation"),
        datamodule.cells_of("test"),
    )


def _share(size: float, n: int, most: int) -> int:
    """Number of held-out cells: a share of n, at least one if any are wanted, up to a limit."""
    return min(most, max(1, round(size * n))) if size > 0 else 0
