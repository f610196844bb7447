from __future__ import annotations

import warnings
from copy import copy
from dataclasses import asdict, replace
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np
import pandas as pd
import torch
from scvi import REGISTRY_KEYS
from scvi.model.base import BaseModelClass

from scenc._arguments import choose
from scenc.data import CellFiles
from scenc.data.counts import gene_names
from scenc.genes import match
from scenc.model._aligned_counts import (
    align_anndata,
    align_streamed,
    check_depth,
    rna_of,
    streamed_batches,
)
from scenc.model._annotation import AnnotationMixin
from scenc.model._check import CheckMixin
from scenc.model._covariates import (
    Covariates,
    extended,
    registered_covariates,
    streamed_covariates,
)
from scenc.model._decoder_fit import fit_decoder_to_cells, sample_of
from scenc.model._embed_files import embed_files
from scenc.model._explanations import ExplanationsMixin
from scenc.model._expression import ExpressionMixin
from scenc.model._gene_space import GeneSpaceMixin
from scenc.model._inference import PRECISIONS, apply_to_cells, resolve_indices
from scenc.model._initial import (
    cells_to_start_from,
    choose_vocabulary,
    make_network,
    make_tokenizer,
)
from scenc.model._memory import fit_batch, gpu_memory, training_bytes
from scenc.model._overview import OverviewMixin
from scenc.model._persistence import ModelState, history_frame, load_model, save_model
from scenc.model._presets import get_preset
from scenc.model._proteins import align_vectors
from scenc.model._provenance import describe_embedding, describe_model, record_embedding
from scenc.model._setup import SetupMixin
from scenc.model._sharing import SharingMixin
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
from scenc.model._without_effect import refuse_unused_settings, refuse_unused_training
from scenc.nn import ModelConfig
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
    from collections.abc import Iterable, Mapping, Sequence

    from anndata import AnnData
    from lightning.pytorch import Callback
    from lightning.pytorch.loggers import Logger
    from lightning.pytorch.strategies import Strategy
    from mudata import MuData
    from numpy.typing import NDArray
    from scvi.data import AnnDataManager

    from scenc.data import CellModule
    from scenc.genes import GeneMatch
    from scenc.model._aligned_counts import AlignedCounts
    from scenc.model._proteins import Vectors
    from scenc.model._training_data import TrainingData
    from scenc.nn import CellTransformer
    from scenc.train import Curve, TrainingPlan

_BATCH_SIZE = 128
_CHECKPOINT_EVERY = 500
_PLANS: dict[str, type[TrainingPlan]] = {
    "masked": MaskedExpressionPlan,
    "contrastive": ContrastivePlan,
    "generative": GenerativePlan,
}


class Model(
    AnnotationMixin,
    CheckMixin,
    ExplanationsMixin,
    ExpressionMixin,
    GeneSpaceMixin,
    OverviewMixin,
    SetupMixin,
    SharingMixin,
):
    """A transformer over the genes of a cell, with the encodings of your choice.

    A cell is the bag of its expressed genes. Each becomes a token, the sum of a vector for the gene
    and a vector for its expression. A transformer mixes the tokens, and a cell's embedding is
    pooled from them. What it is trained for is `objective`.

    Parameters
    ----------
    adata
        Data prepared by `setup_anndata` or `setup_mudata`; ``None``: `datamodule` has the data.
    gene_encoder
        ``"learned"`` or ``"protein"``; see `scenc.nn.ModelConfig`.
    expression_encoder
        ``"raw"``, ``"hard"``, ``"log"`` or ``"soft"``; see `scenc.nn.ModelConfig`.
    preset
        Sizes and training settings: ``"small"`` for a laptop's CPU, ``"base"`` for one GPU,
        ``"paper"`` for Table 1 of the paper.
    protein_embeddings
        Pretrained gene vectors for the protein encoder: `scenc.genes.ProteinEmbeddings`, a file of
        them, a DataFrame with genes as index, or an array with one row per gene of `adata` (NaN
        where a gene has none).
    objective
        ``"generative"``: the counts of a cell, and of its neighbours in other batches, are decoded
        from its embedding (`scenc.train.GenerativePlan`). ``"contrastive"``: views of a cell and of
        its neighbours are embedded alike, beside the prediction of masked expression
        (`scenc.train.ContrastivePlan`). ``"masked"``: the paper's masked expression alone.
        ``None``: generative for ``"small"`` and ``"base"``, masked for ``"paper"``.
    datamodule
        Cells of many files (`scenc.data.CellFiles`, `scenc.data.CellStore`) instead of `adata`.
    **overrides
        Any other attribute of `scenc.nn.ModelConfig`.

    Attributes
    ----------
    config
        The network's settings.
    preset
        Name of the preset that gave the defaults.
    vocabulary
        The genes the model knows.
    counted
        Genes of the training data beside them, which count for the library size only.
    covariates
        Names of the batches, and of the categories of further covariates, that the generative
        objective's decoder knows.
    module
        The network.
    train_config
        Settings of the last training; ``None`` before the first.

    Raises
    ------
    TypeError
        An argument is unknown; the message names the nearest known one.
    ValueError
        An argument is out of range, or `adata` has not been set up.

    Examples
    --------
    >>> adata = scenc.datasets.pbmc68k()
    >>> scenc.Model.setup_anndata(adata)
    >>> model = scenc.Model(adata, gene_encoder="learned", expression_encoder="soft")
    >>> model.train()
    >>> model.get_latent_representation()

    References
    ----------
    Sadalski, "When task-specific learning outperforms transfer learning: a benchmark of gene and
    expression encoding strategies".
    """

    config: ModelConfig
    preset: str
    vocabulary: pd.Index[str]
    counted: pd.Index[str]
    covariates: dict[str, list[str]]
    module: CellTransformer
    train_config: TrainConfig | None
    is_trained_: bool
    history_: dict[str, pd.DataFrame] | None
    train_indices_: NDArray[Any] | None
    validation_indices_: NDArray[Any] | None
    test_indices_: NDArray[Any] | None
    registry_: dict[str, Any]
    _adata: AnnData | MuData | None
    _datamodule: CellModule | None = None
    _count_shares: NDArray[np.float64] | None
    _n_epochs: int
    _n_steps: int

    def __init__(
        self,
        adata: AnnData | MuData | None = None,
        gene_encoder: str = "learned",
        expression_encoder: str = "soft",
        preset: str = "small",
        protein_embeddings: Vectors | None = None,
        objective: str | None = None,
        datamodule: CellModule | None = None,
        **overrides: Any,
    ) -> None:
        chosen = {"gene_encoder": gene_encoder, "expression_encoder": expression_encoder}
        defaults = get_preset(preset, objective).model
        config = ModelConfig.from_dict({**defaults, **chosen, **overrides})
        refuse_unused_settings(config, defaults)
        _check_protein_arguments(config, protein_embeddings)
        if (adata is None) == (datamodule is None):
            raise TypeError("scenc.Model takes either adata or datamodule.")
        super().__init__(adata, registry=None if datamodule is None else datamodule.registry)
        self._datamodule = datamodule
        genes = pd.Index(self.registry_["field_registries"]["X"]["state_registry"]["column_names"])
        genes = genes.astype(str)
        vectors = None if protein_embeddings is None else align_vectors(protein_embeddings, genes)
        cells, batches = self._starting_cells(config, genes)
        chosen_genes = choose_vocabulary(config, genes, cells, batches, vectors)
        covariates = {}
        if config.objective == "generative":
            covariates = self._cell_covariates(datamodule).categories
        n_categories = [len(names) for names in covariates.values()]
        network = make_network(config, chosen_genes, n_categories)
        self._adopt(config, preset, chosen_genes.genes, chosen_genes.counted, network, covariates)
        self._count_shares = chosen_genes.shares

    def _adopt(
        self,
        config: ModelConfig,
        preset: str,
        vocabulary: pd.Index[str],
        counted: pd.Index[str],
        network: CellTransformer,
        covariates: dict[str, list[str]],
    ) -> None:
        """Take over the parts of a model that has not been trained."""
        self.config, self.preset = config, preset
        self.vocabulary, self.counted = vocabulary, counted
        self.module = network
        self.covariates = covariates
        self.train_config = None
        self._n_epochs = self._n_steps = 0
        settings = ", ".join(f"{name}={value!r}" for name, value in asdict(config).items())
        self._model_summary_string = f"scenc.Model of {len(vocabulary)} genes: {settings}"

    @property
    def history(self) -> dict[str, pd.DataFrame] | None:
        """Training curves by optimizer step, as one-column DataFrames; None before training.

        ``train_loss``, ``reconstruction_loss_validation`` and ``learning_rate``. The contrastive
        and the generative objective also have ``validation_loss``, which chooses the best weights,
        and its terms: ``contrast_loss_validation``, ``anchor_loss_validation``, and the generative
        one ``count_loss_validation`` and ``kl_validation``.

        Examples
        --------
        >>> model.history["train_loss"].tail()
        """
        return self.history_

    def attach(self, adata: AnnData | MuData) -> None:
        """Set up data like those the model was made with, and use them in their place.

        Parameters
        ----------
        adata
            The data; genes are matched by name. They are refused where a query would be.

        Examples
        --------
        >>> model.attach(adata)
        """
        setup = getattr(type(self), self.registry_["setup_method_name"])
        setup(adata, source_registry=self.registry_, extend_categories=True, **self._setup_args)
        self._adata = adata
        self._adata_manager = self._get_most_recent_anndata_manager(adata, required=True)
        self._register_manager_for_instance(self._adata_manager)
        self._training_cells()

    def gene_coverage(self, adata: AnnData | MuData | None = None) -> GeneMatch:
        """Report how the genes of data match the model's vocabulary, and by which rules.

        Parameters
        ----------
        adata
            The data; ``None``: those the model was made with.

        Returns
        -------
        The report, which prints well.

        Examples
        --------
        >>> print(model.gene_coverage(query))
        """
        if adata is None:
            return self._training_cells().match
        settings = self._setup_args
        names = gene_names(
            rna_of(adata, settings), settings.get("gene_ids"), settings.get("feature_types")
        )
        return match(names, self.vocabulary)

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
        in_full = ("32-true", "64-true")
        mixed = torch.cuda.is_available() if precision == "auto" else precision not in in_full
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
        given = {
            "max_epochs": max_epochs,
            "batch_size": batch_size,
            "accumulate_grad_batches": accumulate_grad_batches,
        }
        named: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
        if "cell_visits" in overrides:
            # Visits asked for count, also where the preset goes by epochs.
            named.setdefault("max_epochs", None)
        defaults = get_preset(self.preset, self.config.objective).train
        config = TrainConfig.from_dict({**defaults, **named, **overrides})
        files = datamodule or self._datamodule
        about_checkpoints = {
            name: value
            for name, value, default in (
                ("resume", resume, False),
                ("overwrite", overwrite, False),
                ("checkpoint_every", checkpoint_every, _CHECKPOINT_EVERY),
            )
            if checkpoint_dir is None and value != default
        }
        refuse_unused_training(
            config,
            defaults,
            objective=self.config.objective,
            has_files=files is not None,
            num_workers=num_workers,
            early_stopping=early_stopping,
            checkpoints=about_checkpoints,
        )
        if files is not None and "batch_size" not in named:
            config = replace(config, batch_size=files.batch_size or config.batch_size)
        memory = gpu_memory(accelerator, strategy)
        if memory is not None:
            config = fit_batch(
                self.module,
                config,
                len(self.vocabulary),
                mixed=precision not in ("32-true", "64-true"),
                memory=memory,
                may_cut="batch_size" not in named and (files is None or files.batch_size is None),
            )
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
        self._record(curves, data, config, trained=True)
        if self.config.objective == "generative" and config.counts_weight and config.decoder_steps:
            self._fit_decoder(data, files, config.decoder_steps, curves.n_threads, deterministic)
        self._check_training(check, perf_counter() - start, data.loaded, files)

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
        n_threads: int | None,
        deterministic: bool,
    ) -> None:
        """Fit the decoder once more, to embeddings of whole cells, which do not change."""
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
            self.module, cells, covariates, split, n_steps, seed, n_threads, deterministic
        )

    def _record(
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

    def get_latent_representation(
        self,
        adata: AnnData | MuData | None = None,
        indices: Sequence[int] | NDArray[Any] | None = None,
        batch_size: int | None = None,
        key_added: str | None = "X_scenc",
        *,
        max_genes: int | Literal["context"] | None = "context",
        draw: Literal["random", "top"] = "random",
        precision: str = "auto",
    ) -> NDArray[np.float32]:
        """Embed cells: the mean of a cell's tokens, as `ModelConfig.pooling` says.

        An embedding depends on the model's seed and the cell's own counts only, not on the cells
        beside it, the batch size, the order of cells or genes, or the run (up to rounding, whose
        order a GPU may change). Genes are matched by
        name; those the training data did not have are left out.

        Parameters
        ----------
        adata
            Cells to embed; ``None``: those the model was made with.
        indices
            Rows to embed, or a boolean mask; ``None``: all.
        batch_size
            Cells per batch; changes speed and memory only.
        key_added
            Where in ``adata.obsm`` the embedding is written, if all cells are embedded and `adata`
            is not a view; ``None``: nowhere. Which model made it, how, and with which share of its
            genes goes to ``adata.uns["scenc"]["embeddings"][key_added]``, how the genes matched to
            ``adata.uns[f"{key_added}_genes"]``.
        max_genes
            Genes a cell keeps: as many as in training (``"context"``), a number, or all
            (``None``).
        draw
            Which ones a cell with more keeps: drawn at random, or those with the highest counts.
        precision
            What matrix products are computed in: ``"32-true"``, ``"tf32"`` (FP32 with factors of
            11 significant bits, on CUDA), ``"bf16-mixed"`` or ``"16-mixed"``. ``"auto"`` is TF32 on
            CUDA and full FP32 elsewhere.

        Returns
        -------
        Row i is the i-th cell asked for, shape ``(n_cells, d_model)``. Cells without counts get
        zeros, with a warning.

        Raises
        ------
        RuntimeError
            The model is not trained.
        ValueError
            The counts are unusable, or too few genes are known to the model.
        IndexError
            `indices` are out of range.

        Examples
        --------
        >>> model.get_latent_representation()
        >>> sc.pp.neighbors(adata, use_rep="X_scenc")
        """
        cells, rows = self._query(adata, indices)
        context = self.config.context if max_genes == "context" else max_genes
        tokenizer = make_tokenizer(self.config, context=context, draw=draw)
        embed, width = self.module.embed_cells, self.config.d_model
        embedding, empty = apply_to_cells(
            embed, width, self.module, cells, rows, tokenizer, batch_size, precision=precision
        )
        if len(empty):
            first = cells.names[rows[empty[0]]]
            warnings.warn(
                f"{len(empty)} cells have no counts in the model's genes and are embedded as zeros "
                f"(first: {first!r}).",
                UserWarning,
                stacklevel=2,
            )
        if key_added is not None and indices is None:
            target = self.adata if adata is None else adata
            if getattr(target, "is_view", False):
                warnings.warn(
                    f"adata is a view: the embedding is returned but not written to "
                    f"obsm[{key_added!r}]. Use adata.copy() to have it written.",
                    UserWarning,
                    stacklevel=2,
                )
            else:
                target.obsm[key_added] = embedding
                target.uns[f"{key_added}_genes"] = cells.match.to_uns()
                how = {"max_genes": max_genes or "all", "draw": draw, "precision": precision}
                model = describe_model(self._state(), self.module)
                record_embedding(target.uns, key_added, describe_embedding(model, cells.match, how))
        return embedding

    def get_gene_embeddings(self) -> pd.DataFrame:
        """Return the gene encoder's vector of every gene of the vocabulary.

        Returns
        -------
        Genes x d_model.

        Raises
        ------
        RuntimeError
            The model is not trained.

        Examples
        --------
        >>> model.get_gene_embeddings().loc["CD3D"]
        """
        self._require_trained()
        self.module.eval()
        with torch.inference_mode():
            table = self.module.gene_encoder.table().float().cpu().numpy()
        return pd.DataFrame(table.copy(), index=self.vocabulary)

    def embed_files(
        self,
        files: CellFiles | Iterable[str | os.PathLike[str]],
        out: str | os.PathLike[str],
        *,
        format: Literal["h5ad", "zarr"] = "h5ad",  # what users call it
        key_added: str = "X_scenc",
        batch_size: int | None = None,
        layer: str | Mapping[str, str] | None = None,
        gene_ids: str | None = None,
        overwrite: bool = False,
        progress: bool = True,
        precision: str = "auto",
    ) -> list[Path]:
        """Embed the cells of files, each into a file of its own, without holding any in memory.

        Every written file has the cells of its source, in their order, with all of obs, the
        embedding in obsm, and in uns what `get_latent_representation` writes there; it has no
        counts. It appears whole or not at all.

        Parameters
        ----------
        files
            Paths or addresses of .h5ad files and zarr stores, or `scenc.data.CellFiles` of them.
        out
            Folder for the written files, which are called as their sources are; those of one name
            get the names of the folders by which they differ in front (``s1_sample.h5ad``).
        format
            What is written: ``"h5ad"`` or ``"zarr"``.
        key_added
            Where in obsm the embedding goes.
        batch_size
            Cells per batch; changes speed and memory only.
        layer, gene_ids
            As in `scenc.data.CellFiles`; not where these are given, which have their own.
        overwrite
            Whether files that are there may be replaced; otherwise it is an error.
        progress
            Whether to show progress.
        precision
            As in `get_latent_representation`.

        Returns
        -------
        The written files, in the order of `files`.

        Raises
        ------
        RuntimeError
            The model is not trained.
        CellFilesError
            Some files cannot be used; the message names everything that is wrong with any of them.
        FileExistsError
            A file that is to be written exists.
        TypeError
            `files` are no files: an AnnData, a `scenc.data.CellStore`; or `layer` or `gene_ids` is
            given beside `scenc.data.CellFiles`.

        Examples
        --------
        >>> model.embed_files(["lung.h5ad", "gut.zarr"], "embedded")
        """
        self._require_trained()
        choose(format, ("h5ad", "zarr"), "format")
        choose(precision, PRECISIONS, "precision")
        if isinstance(files, CellFiles):
            if layer is not None or gene_ids is not None:
                raise TypeError("layer and gene_ids belong to the CellFiles that are given.")
            cells = copy(files)
        else:
            cells = CellFiles(
                files,
                layer=layer,
                gene_ids=gene_ids,
                feature_types=self._setup_args.get("feature_types"),
                genes=self.vocabulary.tolist(),
                validation_size=0.0,
                progress=progress,
            )
        cells.use_vocabulary(self.vocabulary, self.counted)
        for path, matched, gene_map in zip(
            cells.paths, cells.matches, cells.gene_maps, strict=True
        ):
            check_depth(matched, gene_map, self.counted, self._count_shares, path)
        cells.tokenizer = make_tokenizer(self.config)
        cells.batch_size = batch_size or _BATCH_SIZE
        cells.seed = self.config.seed
        cells.pin_memory = self.module.device.type == "cuda"
        return embed_files(
            self.module,
            cells,
            Path(out),
            model=describe_model(self._state(), self.module),
            format=format,
            key_added=key_added,
            overwrite=overwrite,
            progress=progress,
            precision=precision,
        )

    def save(self, dir_path: str | os.PathLike[str], overwrite: bool = False) -> None:
        """Write the model into a folder: ``weights.safetensors`` and ``model.json``.

        Parameters
        ----------
        dir_path
            The folder. It appears whole or not at all.
        overwrite
            Whether a model that is there may be replaced.

        Raises
        ------
        FileExistsError
            The folder exists.

        Examples
        --------
        >>> model.save("pbmc_model")
        """
        save_model(Path(dir_path), self._state(), self.module, overwrite)

    def _state(self) -> ModelState:
        """Return all of the model but its weights."""
        return ModelState(
            config=self.config,
            preset=self.preset,
            train_config=self.train_config,
            vocabulary=self.vocabulary,
            counted=self.counted,
            count_shares=self._count_shares,
            registry=self.registry_,
            is_trained=self.is_trained_,
            n_epochs=self._n_epochs,
            n_steps=self._n_steps,
            history=self.history_,
            covariates=self.covariates,
        )

    @classmethod
    def load(cls, dir_path: str | os.PathLike[str], adata: AnnData | MuData | None = None) -> Self:
        """Read a model from a folder. Nothing in it is executed.

        Parameters
        ----------
        dir_path
            The folder that `save` wrote.
        adata
            Data to attach, for `train` and as the default of what the model embeds; it needs the
            layer and columns that the model was set up with. Its genes are matched by name.

        Raises
        ------
        FileNotFoundError
            The folder or one of its files is missing.
        ModelFileError
            A file is damaged, foreign, or does not hold what it says.

        Examples
        --------
        >>> model = scenc.Model.load("pbmc_model")
        >>> model.get_latent_representation(query)
        """
        state, network = load_model(Path(dir_path))
        model = cls.__new__(cls)
        # Not the constructor of `Model`, which would make the parts anew from data.
        BaseModelClass.__init__(model, registry=state.registry)
        model._adopt(
            state.config,
            state.preset,
            state.vocabulary,
            state.counted,
            network,
            state.covariates,
        )
        model._count_shares = state.count_shares
        model.train_config, model.history_ = state.train_config, state.history
        model._n_epochs, model._n_steps = state.n_epochs, state.n_steps
        model.is_trained_ = state.is_trained
        if adata is not None:
            model.attach(adata)
        return model

    @property
    def _setup_args(self) -> dict[str, Any]:
        arguments: dict[str, Any] = self.registry_["setup_args"]
        return arguments

    def _starting_cells(
        self, config: ModelConfig, genes: pd.Index[str]
    ) -> tuple[AlignedCounts, NDArray[np.int64]]:
        """Return cells to start from, all or a sample of many files, and their batches."""
        files = self._datamodule
        if files is None:
            return self._read(self._adata, genes, genes[:0]), self._batches()
        numbers = cells_to_start_from(config, files)
        batches = numbers if not len(numbers) else streamed_batches(files)[numbers]
        return align_streamed(files, numbers), batches

    def _training_cells(self) -> AlignedCounts:
        """Return the cells the model was made with, lined up with its vocabulary."""
        if self._adata is None:
            raise ValueError(
                "The model has no AnnData of its own: pass adata here, or call "
                "model.attach(adata). (Files: model.embed_files(files, out).)"
            )
        # Looked at anew each time: the user may have changed the counts since the last call.
        return self._read(self._adata, self.vocabulary, self.counted)

    def _read(
        self, adata: AnnData | MuData, vocabulary: pd.Index[str], counted: pd.Index[str]
    ) -> AlignedCounts:
        settings = self._setup_args
        return align_anndata(rna_of(adata, settings), settings, vocabulary, counted)

    def _batches(self) -> NDArray[np.int64]:
        """Return the experimental batch of each training cell, as a number."""
        codes = self._registered().get_from_registry(REGISTRY_KEYS.BATCH_KEY)
        return np.asarray(codes).reshape(-1).astype(np.int64)

    def _registered(self) -> AnnDataManager:
        """Return the groups of the model's cells, by the columns that the model was made with."""
        # Whoever sets the same data up for another model writes other groups in their place.
        if "_scvi_manager_uuid" in self.adata.uns:
            self._adata_manager.validate()
        return self._adata_manager

    def _cell_covariates(self, files: CellModule | None) -> Covariates:
        """Return the batch and further covariates of the cells to train on."""
        if files is not None:
            return streamed_covariates(files)
        return registered_covariates(self._registered())

    def _training_covariates(self, files: CellModule | None) -> NDArray[np.int64]:
        """Return the covariates of the cells to train on; the decoder learns of new categories."""
        cells = self._cell_covariates(files)
        if self.config.objective != "generative":
            return cells.codes
        known = extended(self.covariates, cells.categories)
        codes = cells.lined_up(known)
        for name, column in zip(known, codes.T, strict=True):
            if (column < 0).any():
                raise ValueError(
                    f"{int((column < 0).sum()):,} of {len(column):,} cells to train on have no "
                    f"{name}, which the model's decoder is told. Train on data that have it."
                )
        self.covariates = known
        self.module.count_decoder.extend([len(names) for names in known.values()])
        return codes

    def _query(
        self, adata: AnnData | MuData | None, indices: Sequence[int] | NDArray[Any] | None
    ) -> tuple[AlignedCounts, NDArray[np.int64]]:
        """Return the cells that a user asks about, and which rows of them."""
        self._require_trained()
        if adata is None:
            cells = self._training_cells()
        else:
            cells = self._read(adata, self.vocabulary, self.counted)
            check_depth(cells.match, cells.gene_map, self.counted, self._count_shares, "adata")
        return cells, resolve_indices(indices, cells.n_cells)

    def _require_trained(self) -> None:
        if not self.is_trained_:
            raise RuntimeError(
                "The model is not trained: call model.train() first. (To see what the initial "
                "weights give, set model.is_trained = True.)"
            )


def _check_protein_arguments(config: ModelConfig, embeddings: Any) -> None:
    if config.gene_encoder == "protein" and embeddings is None:
        raise ValueError("gene_encoder='protein' needs protein_embeddings, a vector per gene.")
    if config.gene_encoder != "protein" and embeddings is not None:
        raise ValueError("protein_embeddings are given but gene_encoder is not 'protein'.")
