"""Training of a model: settings, data, the run itself, and what it leaves."""

from __future__ import annotations

from dataclasses import replace
from time import perf_counter
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch
from scvi.model.base import BaseModelClass

from scenc._distributed import is_first
from scenc.model._aligned_counts import align_streamed
from scenc.model._decoder_fit import fit_decoder_to_cells, sample_of
from scenc.model._memory import fit_batch, gpu_memory, training_bytes
from scenc.model._persistence import history_frame
from scenc.model._presets import get_preset
from scenc.model._training_data import (
    LoadedCells,
    line_up,
    load_cells,
    make_batches,
    may_stream,
    split_cells,
    stream_batches,
    training_identity,
)
from scenc.model._without_effect import refuse_unused_training
from scenc.train import (
    Checkpoints,
    ContrastivePlan,
    GenerativePlan,
    MaskedExpressionPlan,
    NonFiniteLossError,
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
    from lightning.pytorch.strategies import Strategy
    from numpy.typing import NDArray

    from scenc.data import CellModule
    from scenc.model._training_data import TrainingData
    from scenc.nn import CellTransformer, ModelConfig
    from scenc.train import Curve, TrainingPlan

_CHECKPOINT_EVERY = 500
# Precisions of Lightning in which nothing is rounded to 16 bits.
_IN_FULL = ("32-true", "64-true")
_PLANS: dict[str, type[TrainingPlan]] = {
    "masked": MaskedExpressionPlan,
    "contrastive": ContrastivePlan,
    "generative": GenerativePlan,
}


class TrainingMixin(BaseModelClass):
    """The methods of a model that train it."""

    config: ModelConfig
    preset: str
    vocabulary: pd.Index[str]
    counted: pd.Index[str]
    module: CellTransformer
    train_config: TrainConfig | None
    is_trained_: bool
    history_: dict[str, pd.DataFrame] | None
    train_indices_: NDArray[Any] | None
    validation_indices_: NDArray[Any] | None
    test_indices_: NDArray[Any] | None
    _datamodule: CellModule | None
    _n_epochs: int
    _n_steps: int

    def memory_estimate(
        self, batch_size: int | None = None, *, precision: str = "auto", **overrides: Any
    ) -> int:
        """Estimate the memory that training takes, before it begins.

        Counted is what is kept from the forward to the backward pass for cells whose context is
        full, and the weights with their gradients and AdamW's state; not the data, nor PyTorch
        itself. On a GPU leave a fifth of the memory free beside it. Smaller batches, fewer genes a
        cell (`context`, or `view_genes` where views are trained on) and
        ``checkpoint_blocks=True`` take less.

        Parameters
        ----------
        batch_size
            Cells per batch; ``None``: the preset's.
        precision
            As in `train`.
        **overrides
            Any other attribute of `scenc.train.TrainConfig`.

        Returns
        -------
        Bytes, of each device.

        Raises
        ------
        TypeError
            An argument is unknown; the message names the nearest known one.

        Examples
        --------
        >>> model.memory_estimate(512) / 1e9
        >>> model.memory_estimate(512, checkpoint_blocks=True) / 1e9
        """
        defaults = get_preset(self.preset, self.config.objective).train
        named = {} if batch_size is None else {"batch_size": batch_size}
        config = TrainConfig.from_dict({**defaults, **named, **overrides})
        mixed = torch.cuda.is_available() if precision == "auto" else precision not in _IN_FULL
        return training_bytes(
            self.module,
            config,
            len(self.vocabulary),
            mixed=mixed,
            batch_size=config.batch_size,
        )

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
        strategy: str | Strategy = "auto",
        deterministic: bool = False,
        n_threads: int | None = None,
        compile_blocks: bool | None = None,
        num_workers: int = 0,
        callbacks: Sequence[Callback] = (),
        enable_progress_bar: bool = True,
        datamodule: CellModule | None = None,
        checkpoint_dir: str | os.PathLike[str] | None = None,
        checkpoint_every: int = _CHECKPOINT_EVERY,
        resume: bool = False,
        overwrite: bool = False,
        logger: str | Logger | Sequence[Logger] | None = None,
        check: bool | None = None,
        **overrides: Any,
    ) -> None:
        """Train on the data the model was made with; call again to train on.

        A share of the cells is held out to choose the best weights (`TrainConfig`); these are in
        place at the end, and the model stays on the device that it was trained on. Cells without
        counts are left out. Training with the same seed, data and settings gives the same weights
        on the same kind of machine up to rounding, and to the bit with `deterministic` or, on a
        CPU, with the same `n_threads`.

        Parameters
        ----------
        max_epochs, batch_size, accumulate_grad_batches
            As in `scenc.train.TrainConfig`; ``None``: the preset's, or as many epochs as come to
            `cell_visits` if that is given. If the preset's batches do not fit into a GPU, smaller
            ones are taken, and as many more accumulated (not where cells are told from each other).
        precision
            ``"auto"`` is FP16 mixed precision on CUDA and full precision elsewhere; else any
            precision of Lightning (``"32-true"``, ``"bf16-mixed"``, ...).
        early_stopping
            Whether to stop when validation has not improved for `TrainConfig.patience` checks.
        accelerator, devices, num_nodes, strategy, callbacks
            Passed to `lightning.pytorch.Trainer`; ``"auto"`` is the CPU on a Mac, ``"mps"`` its
            GPU.
        deterministic
            Whether every run must give the same weights to the bit, if more slowly. A CPU then
            uses the number of threads that PyTorch has. On a GPU, use it in a new process: cuBLAS
            reads ``CUBLAS_WORKSPACE_CONFIG``, which it sets, only once.
        n_threads
            Threads to train with on a CPU; ``None``: all, half, a quarter, ... or one, whichever
            the first steps are fastest with (the log tells). Only the order of sums, and so the
            last digits, depend on it.
        compile_blocks
            Whether `torch.compile` makes the transformer's blocks faster; ``None``: on a CUDA
            device where that pays, in trainings of 1,000 batches and more of models of six layers
            and more, if there is the C compiler that it needs and `deterministic` is not set.
        num_workers
            Processes that make batches; 0 makes them by threads of this one, which is usually
            fastest. A datamodule has threads of its own.
        enable_progress_bar
            Whether to show progress.
        datamodule
            Cells of many files to train on; ``None``: those the model was made with. They have a
            split of their own. The masked objective streams them, and so do the others with
            ``same_cell=1`` and without anchors; otherwise these look up neighbours, and hold the
            counts of the model's genes in memory.
        checkpoint_dir
            Folder for checkpoints, from which an interrupted training can go on.
        checkpoint_every
            Optimizer steps between checkpoints. At SIGTERM one is written before leaving.
        resume
            Go on from the folder's checkpoint if it has one, with its number of threads. The
            weights at the end are those of a training without interruption, to the bit (on a GPU
            with `deterministic`); the model must be made in the same way.
        overwrite
            Whether a checkpoint in the folder that is not gone on from is removed, once the new
            training has begun.
        logger
            Gets the curves as they grow: ``"csv"``, ``"tensorboard"`` (both beside the
            checkpoints, or in ``scenc_logs``), or loggers of Lightning.
        check
            Whether one line of the log compares the embedding with principal components at the
            end, as `check` does: a warning of the log where it is no better. ``None``: after a
            training of two minutes or more, which takes some seconds longer by it. Not where cells
            are read from files while they are trained on.
        **overrides
            Any other attribute of `scenc.train.TrainConfig`.

        Raises
        ------
        TypeError
            An argument is unknown; the message names the nearest known one.
        ValueError
            An argument is out of range, nothing would use it, or fewer than two cells have counts.
        FileExistsError
            There is a checkpoint in `checkpoint_dir`, and neither `resume` nor `overwrite` is set.
        CheckpointError
            The checkpoint is damaged, or of a training with other settings.
        NonFiniteLossError
            The loss became NaN or infinite. The last good weights are in place, and the history
            reaches to that step; without any validation before it the model stays untrained.
        NonFiniteGradientError
            The same, where FP16 steps are skipped again and again (a `NonFiniteLossError`, too).

        Examples
        --------
        >>> model.train(max_epochs=20, lr=5e-4)
        >>> model.history["reconstruction_loss_validation"]
        """
        named = _given(
            max_epochs=max_epochs,
            batch_size=batch_size,
            accumulate_grad_batches=accumulate_grad_batches,
        )
        if "cell_visits" in overrides:
            # Visits asked for count, also where the preset goes by epochs.
            named.setdefault("max_epochs", None)
        files = datamodule or self._datamodule
        about_checkpoints = _not_default(
            ("resume", resume, False),
            ("overwrite", overwrite, False),
            ("checkpoint_every", checkpoint_every, _CHECKPOINT_EVERY),
        )
        config = self._training_config(
            {**named, **overrides},
            files,
            num_workers=num_workers,
            early_stopping=early_stopping,
            checkpoints=about_checkpoints if checkpoint_dir is None else {},
        )
        may_cut = "batch_size" not in named and (files is None or files.batch_size is None)
        config = self._fit_into_memory(config, accelerator, strategy, precision, may_cut)
        pin_memory = accelerator != "cpu" and torch.cuda.is_available()
        data = self._training_data(files, config, num_workers, pin_memory)
        config = replace(config, max_epochs=config.epochs(len(data.split.train)))
        settings = training_identity(
            self.config,
            config,
            self.vocabulary,
            data.split,
            self._n_epochs,
            devices=f"{devices} x {num_nodes}",
            files=files,
        )
        checkpoints = None
        if checkpoint_dir is not None:
            checkpoints = Checkpoints(
                checkpoint_dir,
                checkpoint_every,
                settings,
                resume=resume,
                overwrite=overwrite,
                names={"genes": self.vocabulary.tolist()},
            )
        start = perf_counter()
        try:
            curves = fit(
                self.module,
                data.train,
                data.validation,
                config,
                seed=self.config.seed + self._n_epochs,
                plan=_PLANS[self.config.objective],
                first_step=self._n_steps,
                precision=precision,
                accelerator=accelerator,
                devices=devices,
                num_nodes=num_nodes,
                strategy=strategy,
                deterministic=deterministic,
                n_threads=n_threads,
                compile_blocks=compile_blocks,
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
                self._record_training(error.curve, data, config, trained)
            raise
        self._record_training(curves, data, config, trained=True)
        if self.config.objective == "generative" and config.counts_weight and config.decoder_steps:
            self._fit_decoder(
                data,
                files,
                config.decoder_steps,
                n_threads=curves.n_threads,
                deterministic=deterministic,
                progress=enable_progress_bar and is_first(),
            )
        self._check_training(check, perf_counter() - start, data.loaded, files)

    def _training_config(
        self, given: dict[str, Any], files: CellModule | None, **about: Any
    ) -> TrainConfig:
        """Return the preset's settings with those that are given; refuse what nothing would use.

        `about` goes to `refuse_unused_training`.
        """
        defaults = get_preset(self.preset, self.config.objective).train
        config = TrainConfig.from_dict({**defaults, **given})
        refuse_unused_training(
            config,
            defaults,
            objective=self.config.objective,
            has_files=files is not None,
            **about,
        )
        if files is not None and "batch_size" not in given:
            config = replace(config, batch_size=files.batch_size or config.batch_size)
        return config

    def _fit_into_memory(
        self,
        config: TrainConfig,
        accelerator: str,
        strategy: str | Strategy,
        precision: str,
        may_cut: bool,
    ) -> TrainConfig:
        """Return settings whose batches fit into the GPU's memory, if it is trained on one."""
        memory = gpu_memory(accelerator, strategy)
        if memory is None:
            return config
        return fit_batch(
            self.module,
            config,
            len(self.vocabulary),
            mixed=precision not in _IN_FULL,
            memory=memory,
            may_cut=may_cut,
        )

    def _training_data(
        self, files: CellModule | None, config: TrainConfig, num_workers: int, pin_memory: bool
    ) -> TrainingData:
        """Return what to train on: streamed where the objective allows it, otherwise in memory."""
        if files is None:
            cells = self._training_cells()
            split = split_cells(cells.n_genes, config, self.config.seed)
            loaded = LoadedCells(cells, self._training_covariates(None), split)
        else:
            files = line_up(files, self.vocabulary, self.counted)
            covariates = self._training_covariates(files)
            if may_stream(self.config, config):
                return stream_batches(
                    files, covariates, self.config, config, self._n_epochs, pin_memory=pin_memory
                )
            loaded = load_cells(files, covariates)
        return make_batches(
            loaded,
            len(self.vocabulary),
            self.config,
            config,
            self._n_epochs,
            num_workers=num_workers,
            pin_memory=pin_memory,
        )

    def _fit_decoder(
        self,
        data: TrainingData,
        files: CellModule | None,
        n_steps: int,
        **how: Any,
    ) -> None:
        """Fit the decoder to embeddings of whole cells; `how`: as `fit_decoder_to_cells` says."""
        split, seed = sample_of(data.split, self.config.seed), self.config.seed + self._n_epochs
        if data.loaded is not None:
            cells, covariates = data.loaded.cells, data.loaded.covariates
        else:
            assert files is not None
            rows = np.union1d(split.train, split.validation)
            cells = align_streamed(line_up(files, self.vocabulary, self.counted), rows)
            covariates = self._training_covariates(files)[rows]
            split = split._replace(
                train=np.searchsorted(rows, split.train),
                validation=np.searchsorted(rows, split.validation),
            )
        fit_decoder_to_cells(
            self.module, cells, covariates, split, n_steps=n_steps, seed=seed, **how
        )

    def _record_training(
        self, curves: Curve, data: TrainingData, config: TrainConfig, trained: bool
    ) -> None:
        """Keep the curves and counts of a training, also of one that failed."""
        self._n_epochs = data.train.epoch
        self._n_steps += curves.n_steps
        self.train_config = config
        self.train_indices_, self.validation_indices_, self.test_indices_ = data.split
        self.is_trained_ = trained
        history = self.history_ = dict(self.history_ or {})
        monitored = _PLANS[self.config.objective].validation_names[0]
        new = {
            "train_loss": curves.train,
            monitored: curves.validation,
            **curves.terms,
            "learning_rate": curves.lr,
        }
        for name, values in new.items():
            frame = history_frame(name, list(values), list(values.values()))
            history[name] = pd.concat([history[name], frame]) if name in history else frame


def _given(**arguments: Any) -> dict[str, Any]:
    """Return the arguments that were given."""
    return {name: value for name, value in arguments.items() if value is not None}


def _not_default(*arguments: tuple[str, Any, Any]) -> dict[str, Any]:
    """Return the arguments, each a name, a value and a default, that are not the default."""
    return {name: value for name, value, default in arguments if value != default}
