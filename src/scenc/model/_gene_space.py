"""Genes as a model sees them: their vectors in cells, near genes, and programmes of genes."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd
import scipy.sparse as sp
import torch
from anndata import AnnData
from mudata import MuData
from scvi.model.base import BaseModelClass

from scenc._printing import list_some
from scenc.io import read_groups
from scenc.model._aligned_counts import rna_of
from scenc.model._components import normalise
from scenc.model._inference import inference_precision, token_batches
from scenc.model._initial import make_tokenizer
from scenc.tasks import leiden_of_genes, score_programmes

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from scenc.data import TokenBatch
    from scenc.model._aligned_counts import AlignedCounts
    from scenc.nn import CellTransformer, ModelConfig

# Cells whose x~ is worked out together.
_CHUNK = 4096
# Genes of a programme that its row of the table names.
_N_SHOWN = 20
_STATIC = "gene_vector"


class GeneSpaceMixin(BaseModelClass):
    """The methods of a model that are about genes."""

    config: ModelConfig
    vocabulary: pd.Index[str]
    module: CellTransformer

    def embed_genes(
        self,
        adata: AnnData | MuData | None = None,
        groupby: str | None = None,
        indices: Sequence[int] | NDArray[Any] | None = None,
        batch_size: int | None = None,
        *,
        max_genes: int | Literal["context"] | None = "context",
        precision: str = "auto",
        progress: bool = True,
    ) -> AnnData:
        """Return genes as they look in cells: the mean of each gene's hidden states.

        A gene's hidden state in a cell is what the cell's embedding is a mean of: its token after
        the transformer. Sums are kept over the cells, so that memory is genes x dimensions for
        each group of cells. `get_gene_embeddings` has the vectors before any cell is seen.

        Parameters
        ----------
        adata, indices, batch_size, max_genes, precision
            As in `get_latent_representation`.
        groupby
            Column of obs; genes are also averaged over the cells of each of its values. Cells
            without a value belong to no group.
        progress
            Whether to show progress.

        Returns
        -------
        Genes x dimensions, for scanpy. ``X``: means over all cells that express the gene;
        ``obs["n_cells"]``: their number. ``obsm["gene_vector"]``: the gene encoder's vectors. With
        `groupby` each group's means are a layer (NaN where none of its cells express the gene;
        ``/`` in its name becomes ``|``), and ``obsm["n_cells"]`` has the numbers of cells.
        Genes that no cell expresses are left out, with a warning.

        Raises
        ------
        RuntimeError
            The model is not trained.
        KeyError
            `groupby` is no column of obs.
        ValueError
            As in `get_latent_representation`.

        Examples
        --------
        >>> genes = model.embed_genes(groupby="cell_type")
        >>> sc.pp.neighbors(genes, use_rep="X", metric="cosine")
        >>> sc.tl.umap(genes)
        """
        cells, rows = self._query(adata, indices)
        groups = self._cell_groups(adata, groupby, rows)
        n_groups = len(groups.categories)
        context = self.config.context if max_genes == "context" else max_genes
        tokenizer = make_tokenizer(self.config, context=context)
        batches = token_batches(
            self.module, cells, rows, tokenizer, batch_size, progress="Genes" if progress else None
        )
        # The last is for cells of no group, which count for the means over all cells.
        sums = TokenSums(self.module, n_groups + 1, len(self.vocabulary))
        codes = torch.from_numpy(
            np.where(groups.codes < 0, n_groups, groups.codes).astype(np.int64)
        )
        self.module.eval()
        with torch.inference_mode(), inference_precision(precision, self.module.device):
            for batch in batches:
                sums.add(batch.to(self.module.device), codes[batch.cells])
        return self._as_genes(sums, groups.categories if groupby else None)

    def nearest_genes(
        self, gene: str, n: int = 10, genes: AnnData | None = None, layer: str | None = None
    ) -> pd.DataFrame:
        """Return the genes whose vectors point most nearly where one gene's does.

        Parameters
        ----------
        gene
            Name of the gene, as the model or any data call it.
        n
            How many genes to return.
        genes
            What `embed_genes` returned: genes are compared as they look in cells. ``None``: by the
            gene encoder's vectors.
        layer
            A group of cells in `genes`; ``None``: all cells.

        Returns
        -------
        One row per gene, the nearest first, with its ``cosine_similarity``, -1 to 1.

        Raises
        ------
        RuntimeError
            The model is not trained.
        ValueError
            The model does not know the gene, or no cell of `genes` expresses it.
        KeyError
            `genes` have no such layer.

        Examples
        --------
        >>> model.nearest_genes("CD79A")
        >>> model.nearest_genes("CD79A", genes=model.embed_genes())
        """
        name = self.vocabulary[self._positions([gene])[0]]
        if genes is None:
            table = self.get_gene_embeddings()
        else:
            values = genes.X if layer is None else _layer(genes, layer)
            table = pd.DataFrame(np.asarray(values), genes.obs_names).dropna()
        if name not in table.index:
            where = "these cells" if layer is None else f"the cells of {layer!r}"
            raise ValueError(f"None of {where} expresses {name}: it has no vector there.")
        vectors = table.to_numpy(np.float64)
        lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
        units = np.divide(vectors, lengths, out=np.zeros_like(vectors), where=lengths > 0)
        cosine = pd.Series(units @ units[table.index.get_loc(name)], table.index)
        nearest = cosine.drop(name).sort_values(ascending=False, kind="stable").head(n)
        return pd.DataFrame({"cosine_similarity": nearest.rename_axis("gene")})

    def gene_programmes(
        self,
        genes: AnnData | None = None,
        adata: AnnData | MuData | None = None,
        *,
        resolution: float = 1.0,
        n_neighbors: int = 15,
        n_random: int = 500,
        max_cells: int = 10_000,
        key_added: str = "programme",
        seed: int = 0,
        progress: bool = True,
    ) -> pd.DataFrame:
        """Cluster genes into programmes, and test whether these are more than like expression.

        Genes are clustered by the Leiden algorithm on their nearest neighbours by cosine. Each
        programme's co-expression is compared with that of random sets, in which each gene is
        replaced by one that as many cells express as strongly. Programmes that are found and
        tested in the same cells pass more easily than in new ones: give cells of another study as
        `adata` to test whether they hold there.

        Parameters
        ----------
        genes
            What `embed_genes` returned; ``None``: `embed_genes` of the model's own cells.
        adata
            Cells to test co-expression in; ``None``: those the model was made with.
        resolution
            Of the Leiden algorithm: the higher, the more programmes.
        n_neighbors
            Nearest neighbours of each gene.
        n_random
            Random sets of each programme: p values are no lower than 1 / (n_random + 1).
        max_cells
            Cells to test in, drawn if there are more.
        key_added
            Column of ``genes.obs`` that each gene's programme is written to.
        seed
            Of the clustering and the draws.
        progress
            Whether to show progress.

        Returns
        -------
        One row per programme, the largest first: ``n_genes``; ``coexpression``, the mean Pearson
        correlation of x~ over its pairs of genes; ``random_mean`` and ``random_sd``, of the random
        sets; ``p_value`` and ``p_adjusted`` (Benjamini and Hochberg); ``genes``, the names of those
        nearest to its mean. NaN where fewer than two of its genes are expressed.

        Raises
        ------
        RuntimeError
            The model is not trained.
        ValueError
            There are fewer than three genes, or `key_added` is a column that another made.

        Examples
        --------
        >>> genes = model.embed_genes()
        >>> programmes = model.gene_programmes(genes)
        >>> programmes[programmes["p_adjusted"] < 0.05]
        >>> genes.obs["programme"]
        """
        cells, _ = self._query(adata, None)
        if genes is None:
            genes = self.embed_genes(progress=progress)
        self._check_genes(genes, key_added)
        found = leiden_of_genes(genes, resolution, n_neighbors, seed)
        programmes = np.full(len(self.vocabulary), -1)
        programmes[self.vocabulary.get_indexer(genes.obs_names)] = found
        drawn = draw_cells(cells.n_cells, max_cells, seed)
        values = normalised_expression(cells, drawn, self.config.target_sum, len(self.vocabulary))
        table = score_programmes(values, programmes, n_random, seed, progress)
        table["genes"] = _most_central(genes, found)
        genes.obs[key_added] = pd.Categorical(found.astype(str), table.index.astype(str))
        genes.uns[key_added] = {"resolution": resolution, "n_neighbors": n_neighbors, "seed": seed}
        return table

    def _check_genes(self, genes: AnnData, key_added: str) -> None:
        if genes.n_obs < 3:
            raise ValueError(f"There are {genes.n_obs} genes: programmes need three or more.")
        if (strange := genes.obs_names[~genes.obs_names.isin(self.vocabulary)]).size:
            raise ValueError(
                f"genes has rows that are no genes of the model: {list_some(strange.tolist())}. "
                "Give what model.embed_genes returned."
            )
        if key_added in genes.obs and key_added not in genes.uns:
            raise ValueError(
                f"genes.obs has a column {key_added!r} of its own: give another key_added."
            )

    def _cell_groups(
        self, adata: AnnData | MuData | None, groupby: str | None, rows: NDArray[np.int64]
    ) -> pd.Categorical:
        """Return the group of each cell asked about; without `groupby` none has one."""
        if groupby is None:
            return pd.Categorical.from_codes(np.full(len(rows), -1), pd.Index([], dtype=object))
        return column_of(self.adata if adata is None else adata, groupby, self._setup_args)[rows]

    def _as_genes(self, sums: TokenSums, groups: pd.Index[str] | None) -> AnnData:
        """Return sums over the tokens of each group and gene as an AnnData of genes."""
        vectors, n_cells = sums.vectors.cpu().numpy(), sums.n_cells.cpu().numpy()
        total, seen = n_cells.sum(axis=0), n_cells.sum(axis=0) > 0
        if not seen.all():
            missing = self.vocabulary[~seen].tolist()
            warnings.warn(
                f"{len(missing)} of {len(seen)} genes are left out, since no cell expresses them "
                f"({list_some(missing)}).",
                UserWarning,
                stacklevel=3,
            )
        means = vectors.sum(axis=0)[seen] / total[seen, None]
        obs = pd.DataFrame({"n_cells": total[seen]}, index=self.vocabulary[seen].astype(str))
        genes = AnnData(means.astype(np.float32), obs)
        genes.obsm[_STATIC] = self.get_gene_embeddings().to_numpy()[seen]
        if groups is not None:
            names = [str(name).replace("/", "|") for name in groups]
            genes.obsm["n_cells"] = pd.DataFrame(n_cells[:-1, seen].T, genes.obs_names, names)
            for name, of_group, n in zip(names, vectors, n_cells, strict=False):
                with np.errstate(invalid="ignore"):
                    genes.layers[name] = (of_group[seen] / n[seen, None]).astype(np.float32)
        return genes


class TokenSums:
    """Sums of tokens' vectors by group of cells and gene.

    Attributes
    ----------
    vectors
        Sums of hidden states, shape ``(n_groups, n_genes, d_model)``.
    n_cells
        Number of cells they are over, shape ``(n_groups, n_genes)``.
    """

    def __init__(self, network: CellTransformer, n_groups: int, n_genes: int) -> None:
        shape, device = (n_groups, n_genes), network.device
        self._network = network
        self.vectors = torch.zeros(
            *shape, network.config.d_model, dtype=torch.float64, device=device
        )
        self.n_cells = torch.zeros(*shape, dtype=torch.int64, device=device)

    def add(self, batch: TokenBatch, groups: torch.Tensor) -> None:
        """Add the tokens of cells of given groups, shape ``(n_cells,)``."""
        n_genes, device = self.n_cells.shape[1], self.n_cells.device
        place = groups.to(device)[:, None] * n_genes + batch.genes
        valid = batch.valid
        for cells, hidden in self._network.token_states(batch):
            shown = valid[cells, : hidden.shape[1]]
            where = place[cells, : hidden.shape[1]][shown]
            self.vectors.view(-1, hidden.shape[2]).index_add_(0, where, hidden[shown].double())
            self.n_cells.view(-1).index_add_(0, where, torch.ones_like(where))


def column_of(data: AnnData | MuData, column: str, setup_args: dict[str, Any]) -> pd.Categorical:
    """Return a column of obs as groups; a MuData's own, or else that of its RNA.

    Raises
    ------
    KeyError
        There is no such column; the message names those that are there.
    """
    if isinstance(data, MuData) and column not in data.obs:
        return read_groups(rna_of(data, setup_args).obs, column, "the RNA's obs")
    return read_groups(data.obs, column, "adata.obs")


def normalised_expression(
    cells: AlignedCounts, rows: NDArray[np.int64], target_sum: float, n_genes: int
) -> sp.csr_matrix:
    """Return x~ (eq. 2) of some cells by the genes of the vocabulary, cells x genes."""
    blocks = []
    for start in range(0, max(len(rows), 1), _CHUNK):
        matrix, positions = cells.rows.select(rows[start : start + _CHUNK])
        blocks.append(normalise(matrix[positions], cells.gene_map, n_genes, target_sum))
    values: sp.csr_matrix = sp.vstack(blocks, format="csr")
    values.eliminate_zeros()
    return values


def draw_cells(n_cells: int, most: int, seed: int) -> NDArray[np.int64]:
    """Return the numbers of all cells, or of as many as are allowed, drawn; ascending."""
    if n_cells <= most:
        return np.arange(n_cells)
    rng = np.random.default_rng(seed)
    return np.sort(rng.choice(n_cells, most, replace=False))


def _most_central(genes: AnnData, programmes: NDArray[np.int64]) -> list[str]:
    """Name the genes of each programme that are nearest to its mean direction."""
    vectors = np.asarray(genes.X, dtype=np.float64)
    units = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    named = []
    for name in np.unique(programmes):
        members = np.flatnonzero(programmes == name)
        near = np.argsort(-units[members] @ units[members].mean(axis=0), kind="stable")
        named.append(", ".join(genes.obs_names[members[near[:_N_SHOWN]]]))
    return named


def _layer(genes: AnnData, layer: str) -> NDArray[Any]:
    name = layer.replace("/", "|")
    if name not in genes.layers:
        raise KeyError(
            # Newer versions of anndata count X as a layer without a name.
            f"genes have no layer {layer!r}: there are {list_some([*filter(None, genes.layers)])}. "
            "(embed_genes(groupby=...) makes them.)"
        )
    values: NDArray[Any] = np.asarray(genes.layers[name])
    return values
