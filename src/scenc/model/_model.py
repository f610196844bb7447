from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import pandas as pd
from scvi import REGISTRY_KEYS
from scvi.model.base import BaseModelClass

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
from scenc.model._embedding import EmbeddingMixin
from scenc.model._explanations import ExplanationsMixin
from scenc.model._expression import ExpressionMixin
from scenc.model._gene_space import GeneSpaceMixin
from scenc.model._inference import resolve_indices
from scenc.model._initial import cells_to_start_from, choose_vocabulary, make_network
from scenc.model._overview import OverviewMixin
from scenc.model._persistence import ModelState, load_model, save_model
from scenc.model._presets import get_preset
from scenc.model._proteins import align_vectors
from scenc.model._setup import SetupMixin
from scenc.model._sharing import SharingMixin
from scenc.model._training import TrainingMixin
from scenc.model._without_effect import refuse_unused_settings
from scenc.nn import ModelConfig

if TYPE_CHECKING:
    import os
    from collections.abc import Sequence

    from anndata import AnnData
    from mudata import MuData
    from numpy.typing import NDArray
    from scvi.data import AnnDataManager

    from scenc.data import CellModule
    from scenc.genes import GeneMatch
    from scenc.model._aligned_counts import AlignedCounts
    from scenc.model._proteins import Vectors
    from scenc.nn import CellTransformer
    from scenc.train import TrainConfig


class Model(
    AnnotationMixin,
    CheckMixin,
    EmbeddingMixin,
    ExplanationsMixin,
    ExpressionMixin,
    GeneSpaceMixin,
    OverviewMixin,
    SetupMixin,
    SharingMixin,
    TrainingMixin,
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
