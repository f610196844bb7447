from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from scvi import REGISTRY_KEYS
from scvi.model.base import BaseModelClass

from scenc.data import Tokenizer
from scenc.genes import match
from scenc.model._cells import read_cells, read_streamed, rna_of, streamed_batches
from scenc.model._fields import gene_names
from scenc.model._presets import get_preset

if TYPE_CHECKING:
    import pandas as pd
    from anndata import AnnData
    from mudata import MuData
    from numpy.typing import NDArray

    from scenc.data import CellModule
    from scenc.genes import GeneMatch
    from scenc.model._cells import Cells
    from scenc.nn import CellTransformer, ModelConfig
    from scenc.train import TrainConfig

# Cells of many files that a model looks at before training.
_N_STREAMED = 20_000


class ModelBase(BaseModelClass):
    """What all parts of the model class share: settings, vocabulary, network, data.

    Attributes
    ----------
    config
        The network's settings.
    preset
        Name of the preset they started from.
    vocabulary
        The genes the model knows.
    counted
        Genes of the training data beside them, which count for a cell's depth only.
    module
        The network.
    train_config
        Settings of the last training; ``None`` before the first.
    """

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
    registry_: dict[str, Any]
    _adata: AnnData | MuData | None
    _datamodule: CellModule | None = None
    _n_epochs: int
    _n_steps: int

    @property
    def history(self) -> dict[str, pd.DataFrame] | None:
        """Training curves by optimizer step, as one-column DataFrames; None before training.

        ``train_loss``, ``reconstruction_loss_validation`` and ``learning_rate``; with the
        contrastive objective also ``validation_loss``, which chooses the best weights, and its
        terms ``contrast_loss_validation`` and ``anchor_loss_validation``.
        """
        return self.history_

    def attach(self, adata: AnnData | MuData) -> None:
        """Set up data as the model's first data were, and make them its own.

        Parameters
        ----------
        adata
            The data; its genes are matched by name, with the same refusals as a query.
        """
        setup = getattr(type(self), self.registry_["setup_method_name"])
        setup(adata, source_registry=self.registry_, extend_categories=True, **self._setup_args)
        self._adata = adata
        self._adata_manager = self._get_most_recent_anndata_manager(adata, required=True)
        self._register_manager_for_instance(self._adata_manager)
        self._training_cells()

    @classmethod
    def _restore(
        cls,
        registry: dict[str, Any],
        config: ModelConfig,
        preset: str,
        vocabulary: pd.Index[str],
        counted: pd.Index[str],
        network: CellTransformer,
    ) -> Self:
        """Make a model from its parts instead of from data."""
        model = cls.__new__(cls)
        BaseModelClass.__init__(model, registry=registry)
        model._adopt(config, preset, vocabulary, counted)
        model.module = network
        return model

    def _adopt(
        self,
        config: ModelConfig,
        preset: str,
        vocabulary: pd.Index[str],
        counted: pd.Index[str],
    ) -> None:
        self.config = config
        self.preset = preset
        self.vocabulary, self.counted = vocabulary, counted
        self.train_config = None
        self._train_defaults = get_preset(preset, config.objective).train
        self._n_epochs = self._n_steps = 0
        settings = ", ".join(f"{name}={value!r}" for name, value in asdict(config).items())
        self._model_summary_string = f"scenc.Model of {len(vocabulary)} genes: {settings}"

    def gene_coverage(self, adata: AnnData | MuData | None = None) -> GeneMatch:
        """Say how the genes of data match the model's, and by which rules.

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
        names = gene_names(rna_of(adata, self._setup_args), self._setup_args.get("gene_ids"))
        return match(names, self.vocabulary)

    @property
    def _setup_args(self) -> dict[str, Any]:
        arguments: dict[str, Any] = self.registry_["setup_args"]
        return arguments

    def _field_state(self, key: str) -> dict[str, Any]:
        state: dict[str, Any] = self.registry_["field_registries"][key]["state_registry"]
        return state

    def _training_cells(self) -> Cells:
        """Return the cells the model was made with, lined up with its vocabulary."""
        if self._adata is None:
            raise ValueError(
                "The model has no AnnData of its own: pass adata here, or call "
                "model.attach(adata). (Files: model.embed_files(files, out).)"
            )
        # Looked at anew each time: the user may have changed the counts since the last call.
        return self._read(self._adata)

    def _batches(self) -> NDArray[np.int64]:
        """Return the experimental batch of each training cell, as a number."""
        codes = self._adata_manager.get_from_registry(REGISTRY_KEYS.BATCH_KEY)
        return np.asarray(codes).reshape(-1).astype(np.int64)

    def _starting_cells(self) -> Cells:
        """Return cells to start from: all of the data, or a sample of what is streamed."""
        if self._datamodule is None:
            return self._training_cells()
        return read_streamed(self._datamodule, self._sampled())

    def _starting_batches(self) -> NDArray[np.int64]:
        """Return the experimental batches of the starting cells."""
        if self._datamodule is None:
            return self._batches()
        return streamed_batches(self._datamodule)[self._sampled()]

    def _sampled(self) -> NDArray[np.int64]:
        """Return numbers of streamed cells to start from, if the settings want any."""
        assert self._datamodule is not None
        config = self.config
        if not (
            config.n_top_genes is not None
            or config.gene_init == "spectral"
            or config.pooling == "expression"
            or (config.expression_encoder == "hard" and config.hard_edges == "global")
        ):
            return np.zeros(0, np.int64)
        chunks = self._datamodule.chunks()
        order = np.random.default_rng(config.seed).permutation(len(chunks.sizes))
        n_chunks = 1 + int(np.searchsorted(np.cumsum(chunks.sizes[order]), _N_STREAMED))
        return np.concatenate([chunks.cells(int(chunk)) for chunk in np.sort(order[:n_chunks])])

    def _query_cells(self, adata: AnnData | MuData) -> Cells:
        """Return cells to embed, lined up with the model's vocabulary."""
        if adata is self._adata:
            return self._training_cells()
        return self._read(adata)

    def _read(self, adata: AnnData | MuData) -> Cells:
        settings = self._setup_args
        return read_cells(rna_of(adata, settings), settings, self.vocabulary, self.counted)

    def _tokenizer(self, mask_fraction: float = 0.0, **changes: Any) -> Tokenizer:
        """Return the tokenizer the network was made for."""
        arguments = {
            "context": self.config.context,
            "target_sum": self.config.target_sum,
            "quantile_bins": self.config.quantile_bins,
            "mask_fraction": mask_fraction,
            "totals": self.config.pooling == "expression",
        }
        return Tokenizer(**{**arguments, **changes})

    def _require_trained(self) -> None:
        if not self.is_trained_:
            raise RuntimeError(
                "The model is not trained: call model.train() first. (To see what the initial "
                "weights give, set model.is_trained = True.)"
            )
