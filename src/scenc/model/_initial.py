"""What a new model begins with: its vocabulary, and a network that has not been trained."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from scenc.data import COUNTED, UNKNOWN, OrderedRequests, TokenDataset, Tokenizer
from scenc.model._components import start_network, sum_counts, variable_genes
from scenc.nn import CellTransformer, ProteinGeneEncoder

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd
    from numpy.typing import NDArray

    from scenc.data import CellModule
    from scenc.model._aligned_counts import AlignedCounts
    from scenc.model._proteins import GeneVectors
    from scenc.nn import GeneEncoder, ModelConfig

logger = logging.getLogger(__name__)

# Cells of many files that a model looks at before training.
_N_STREAMED = 20_000
# Cells from which global quantile edges are taken.
_N_EDGE_CELLS = 10_000


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """The genes a new model knows; cells and pretrained vectors lined up with them.

    The genes `counted` are those of the data beside them, which count for the library size only.
    `shares` are the shares of the data's counts that each gene has, those of `counted` behind; None
    where no cells were looked at.
    """

    genes: pd.Index[str]
    counted: pd.Index[str]
    cells: AlignedCounts
    vectors: GeneVectors | None
    shares: NDArray[np.float64] | None


def choose_vocabulary(
    config: ModelConfig,
    genes: pd.Index[str],
    cells: AlignedCounts,
    batches: NDArray[np.int64],
    vectors: GeneVectors | None,
) -> Vocabulary:
    """Choose which genes of the data a model knows: with vectors, and the most variable.

    `cells` and `vectors` are lined up with `genes`; `batches` are the cells' experimental batches,
    as numbers.
    """
    counted = genes[:0]
    sums = sum_counts(cells, len(genes), config.seed)
    if config.protein_missing == "drop" and vectors is not None:
        kept = vectors.present
        genes, cells, vectors = genes[kept], cells.with_genes(kept, UNKNOWN), vectors.select(kept)
        sums = sums[kept]
    if config.n_top_genes is not None and config.n_top_genes < len(genes):
        n_top = config.n_top_genes
        kept = variable_genes(cells, len(genes), n_top, config.target_sum, batches, config.seed)
        logger.info(
            "The model knows the %d most variable of %d genes (n_top_genes=None: all).",
            kept.sum(),
            len(genes),
        )
        cells = cells.with_genes(kept, COUNTED)
        vectors = None if vectors is None else vectors.select(kept)
        genes, counted = genes[kept], genes[~kept]
        sums = np.concatenate([sums[kept], sums[~kept]])
    shares = sums / sums.sum() if sums.sum() > 0 else None
    return Vocabulary(genes, counted, cells, vectors, shares)


def make_network(
    config: ModelConfig, vocabulary: Vocabulary, n_categories: Sequence[int]
) -> CellTransformer:
    """Make a network with initial weights, drawn from the settings' seed and started from data.

    `n_categories` are those of each covariate that a decoder of counts is told.
    """
    # Networks are made on the CPU; other devices' random states are left alone.
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(config.seed)
        encoder = _protein_encoder(config, vocabulary.vectors)
        edges = _global_edges(config, vocabulary.cells)
        network = CellTransformer(config, len(vocabulary.genes), encoder, edges, n_categories)
        start_network(network, config, vocabulary.cells)
    return network


def make_tokenizer(config: ModelConfig, mask_fraction: float = 0.0, **changes: Any) -> Tokenizer:
    """Return the tokenizer that a network of these settings was made for."""
    arguments = {
        "context": config.context,
        "target_sum": config.target_sum,
        "quantile_bins": config.quantile_bins,
        "mask_fraction": mask_fraction,
        "totals": config.pooling == "expression",
        "log_shares": config.log_shares,
    }
    return Tokenizer(**{**arguments, **changes})


def cells_to_start_from(config: ModelConfig, datamodule: CellModule) -> NDArray[np.int64]:
    """Return numbers of cells of many files to start from: whole chunks; none if none are needed.

    Drawn chunks of neighbouring cells are read much faster than as many single cells.
    """
    if not (
        config.n_top_genes is not None
        or config.gene_init == "spectral"
        or config.pooling == "expression"
        or config.objective == "generative"
        or _has_global_edges(config)
    ):
        return np.zeros(0, np.int64)
    chunks = datamodule.chunks()
    order = np.random.default_rng(config.seed).permutation(len(chunks.sizes))
    n_chunks = 1 + int(np.searchsorted(np.cumsum(chunks.sizes[order]), _N_STREAMED))
    return np.concatenate([chunks.cells(int(chunk)) for chunk in np.sort(order[:n_chunks])])


def _protein_encoder(config: ModelConfig, vectors: GeneVectors | None) -> GeneEncoder | None:
    if vectors is None:
        return None
    return ProteinGeneEncoder.from_vectors(
        vectors.vectors,
        config.d_model,
        has_vector=torch.from_numpy(vectors.present),
        missing=config.protein_missing,
        input_scale=config.protein_input,
        projection=config.protein_projection,
        output=config.protein_output,
        hidden=config.protein_hidden,
        activation=config.activation,
        init_std=config.init_std,
    )


def _has_global_edges(config: ModelConfig) -> bool:
    return config.expression_encoder == "hard" and config.hard_edges == "global"


def _global_edges(config: ModelConfig, cells: AlignedCounts) -> torch.Tensor | None:
    """Return quantiles of x~ over training cells, where the hard bins want them."""
    if not _has_global_edges(config):
        return None
    rows = np.random.default_rng(config.seed).permutation(cells.n_cells)[:_N_EDGE_CELLS]
    dataset = TokenDataset(cells.rows, cells.gene_map, make_tokenizer(config, context=None))
    loader = dataset.loader(OrderedRequests(np.sort(rows), 512))
    values = torch.cat([batch.values()[batch.valid] for batch in loader])
    levels = np.arange(1, config.n_expression_bins) / config.n_expression_bins
    return torch.from_numpy(np.quantile(values.numpy(), levels)).float()
