from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch

from scenc.data import COUNTED, UNKNOWN, OrderedRequests, TokenDataset
from scenc.model._components import start_network, variable_genes
from scenc.model._embed_files import EmbedFilesMixin
from scenc.model._inference import InferenceMixin
from scenc.model._persistence import PersistenceMixin
from scenc.model._presets import get_preset
from scenc.model._proteins import align_vectors
from scenc.model._setup import SetupMixin
from scenc.model._training import TrainingMixin
from scenc.nn import CellTransformer, ModelConfig, ProteinGeneEncoder

if TYPE_CHECKING:
    from anndata import AnnData
    from mudata import MuData
    from numpy.typing import NDArray

    from scenc.data import CellModule
    from scenc.model._cells import Cells
    from scenc.model._proteins import Vectors

logger = logging.getLogger(__name__)

# Cells from which global quantile edges are taken.
_N_EDGE_CELLS = 10_000


class Model(SetupMixin, TrainingMixin, InferenceMixin, EmbedFilesMixin, PersistenceMixin):
    """A transformer over the genes of a cell, with the encodings of your choice.

    A cell is the bag of its expressed genes. Each becomes a token, the sum of a vector for the gene
    and a vector for its expression; a transformer mixes them; it is trained to predict the
    expression of masked genes; a cell's embedding is the mean of its tokens.

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
        ``"contrastive"``: views of a cell and of its neighbours in other batches are embedded
        alike, beside the prediction of masked expression (`scenc.train.ContrastivePlan`).
        ``"masked"``: the paper's masked expression alone. ``None``: contrastive for ``"small"`` and
        ``"base"``, masked for ``"paper"``.
    datamodule
        Cells of many files (`scenc.data.CellFiles`, `scenc.data.CellStore`) instead of `adata`.
    **overrides
        Any other attribute of `scenc.nn.ModelConfig`.

    Attributes
    ----------
    config
        The network's settings.
    vocabulary
        The genes the model knows.
    counted
        Genes of the training data beside them, which count for a cell's depth only.
    module
        The network.

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
        _check_protein_arguments(config, protein_embeddings)
        if (adata is None) == (datamodule is None):
            raise TypeError("scenc.Model takes either adata or datamodule.")
        super().__init__(adata, registry=None if datamodule is None else datamodule.registry)
        self._datamodule = datamodule
        genes = pd.Index(self._field_state("X")["column_names"]).astype(str)
        vectors, has_vector = None, np.ones(len(genes), bool)
        if protein_embeddings is not None:
            vectors, has_vector, report = align_vectors(protein_embeddings, genes)
            logger.info("%s", report)
        nothing = genes[:0]
        self._adopt(config, preset, genes, nothing)
        cells = self._starting_cells()
        if config.protein_missing == "drop" and vectors is not None:
            cells = cells.with_genes(has_vector, UNKNOWN)
            genes, vectors = genes[has_vector], vectors[has_vector]
            has_vector = has_vector[has_vector]
            self._adopt(config, preset, genes, nothing)
        if config.n_top_genes is not None and config.n_top_genes < len(genes):
            kept = self._variable_genes(cells, config.n_top_genes)
            cells = cells.with_genes(kept, COUNTED)
            self._adopt(config, preset, genes[kept], genes[~kept])
            if vectors is not None:
                vectors, has_vector = vectors[kept], has_vector[kept]
        with torch.random.fork_rng(range(torch.cuda.device_count())):
            torch.manual_seed(config.seed)
            encoder = None
            if vectors is not None:
                encoder = ProteinGeneEncoder.from_vectors(
                    vectors,
                    config.d_model,
                    has_vector=torch.from_numpy(has_vector),
                    missing=config.protein_missing,
                    input_scale=config.protein_input,
                    output=config.protein_output,
                    hidden=config.protein_hidden,
                    activation=config.activation,
                    init_std=config.init_std,
                )
            edges = self._global_edges(cells)
            self.module = CellTransformer(config, len(self.vocabulary), encoder, edges)
            start_network(self.module, config, cells)

    def _variable_genes(self, cells: Cells, n_top: int) -> NDArray[np.bool_]:
        """Return which genes of the data become the vocabulary."""
        config, n_genes = self.config, len(self.vocabulary)
        chosen = variable_genes(
            cells, n_genes, n_top, config.target_sum, self._starting_batches(), config.seed
        )
        logger.info(
            "The model knows the %d most variable of %d genes (n_top_genes=None: all).",
            chosen.sum(),
            n_genes,
        )
        return chosen

    def _global_edges(self, cells: Cells) -> torch.Tensor | None:
        """Return quantiles of x~ over training cells, where the hard bins want them."""
        config = self.config
        if config.expression_encoder != "hard" or config.hard_edges != "global":
            return None
        rows = np.random.default_rng(config.seed).permutation(cells.n_cells)[:_N_EDGE_CELLS]
        dataset = TokenDataset(cells.rows, cells.gene_map, self._tokenizer(context=None))
        loader = dataset.loader(OrderedRequests(np.sort(rows), 512))
        values = torch.cat([batch.values()[batch.valid] for batch in loader])
        levels = np.arange(1, config.n_expression_bins) / config.n_expression_bins
        return torch.from_numpy(np.quantile(values.numpy(), levels)).float()


def _check_protein_arguments(config: ModelConfig, embeddings: Any) -> None:
    if config.gene_encoder == "protein" and embeddings is None:
        raise ValueError("gene_encoder='protein' needs protein_embeddings, a vector per gene.")
    if config.gene_encoder != "protein" and embeddings is not None:
        raise ValueError("protein_embeddings are given but gene_encoder is not 'protein'.")
