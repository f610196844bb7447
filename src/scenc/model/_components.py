"""Principal components of the training cells: where gene vectors and neighbourhoods start."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

import anndata as ad
import numpy as np
import scipy.sparse as sp
import torch
from sklearn.decomposition import PCA

from scenc._threads import kept_threads
from scenc.data import UNKNOWN
from scenc.data.counts import pool_small_batches

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from scenc.model._aligned_counts import AlignedCounts
    from scenc.nn import CellTransformer, ModelConfig

# Variable genes and components are found from a sample of at most so many cells.
_N_SAMPLE = 50_000
# Of which so many are normalised at a time.
_CHUNK = 4096
# Spread of the dimensions of gene vectors that no component fills.
_SMALL = 0.1


@dataclass(frozen=True, slots=True)
class Components:
    """Principal components of x~, and what is needed to project cells on them.

    Attributes
    ----------
    loadings
        Orthonormal columns, the largest variance first, shape ``(n_genes, n_components)``.
    mean
        Mean of x~ of each gene, shape ``(n_genes,)``.
    """

    loadings: NDArray[np.float32]
    mean: NDArray[np.float32]

    def project(self, cells: AlignedCounts, target_sum: float) -> NDArray[np.float32]:
        """Return the components of all cells, shape ``(n_cells, n_components)``."""
        blocks = [
            normalise(block, cells.gene_map, len(self.mean), target_sum) @ self.loadings
            for _, block in cells.rows.chunks()
        ]
        projected: NDArray[np.float32] = np.concatenate(blocks) - self.mean @ self.loadings
        return projected.astype(np.float32)


def find_components(values: sp.csr_matrix, n_components: int, seed: int) -> Components:
    """Find the principal components of normalised expression, without densifying.

    Parameters
    ----------
    values
        x~ of the training cells, or of a `sample` of them, cells x genes.
    n_components
        How many to find; fewer if there are fewer cells or genes.
    seed
        Seed of the solver.

    Raises
    ------
    ValueError
        There are fewer than two cells with counts.
    """
    if min(values.shape) < 2:
        raise ValueError(
            f"A spectral start needs at least 2 cells with counts and 2 genes, the data have "
            f"{values.shape[0]} and {values.shape[1]}. gene_init='random' needs none."
        )
    n_components = min(n_components, *(n - 1 for n in values.shape))
    question = (_digest(values), n_components, seed)
    if question not in _last_found:
        pca = PCA(n_components, svd_solver="arpack", random_state=seed).fit(values)
        loadings = pca.components_.T.astype(np.float32)
        mean = np.asarray(values.mean(axis=0)).ravel()
        _last_found.clear()
        _last_found[question] = Components(loadings, mean.astype(np.float32))
    return _last_found[question]


def leading_components(values: sp.csr_matrix, n_components: int, seed: int) -> Components:
    """Return the first principal components: of those found last, if they are of the same values.

    What is remembered of the last search stays, so that others find in it what they would without.
    """
    digest = _digest(values)
    for (known, n_found, of_seed), found in _last_found.items():
        if known == digest and of_seed == seed and n_found >= n_components:
            return Components(found.loadings[:, :n_components], found.mean)
    kept = dict(_last_found)
    found = find_components(values, n_components, seed)
    if kept:
        _last_found.clear()
        _last_found.update(kept)
    return found


# What was found last: a new model asks for its gene vectors, and its first training again for the
# neighbours, mostly of the same values.
_last_found: dict[tuple[str, int, int], Components] = {}


def _digest(values: sp.csr_matrix) -> str:
    """Return what tells values from others; much faster than to find their components."""
    digest = hashlib.blake2b(repr(values.shape).encode())
    for part in (values.indptr, values.indices, values.data):
        digest.update(np.ascontiguousarray(part))
    return digest.hexdigest()


def start_network(network: CellTransformer, config: ModelConfig, cells: AlignedCounts) -> None:
    """Give a new network the start from data that its settings ask for.

    These are spectral gene vectors, the centre of embeddings, and the genes' mean share of counts.

    Gene vectors are loadings times the root of the number of genes, as large as random ones of
    standard deviation 1. Dimensions beyond the components stay small and random.
    """
    encoder = network.gene_encoder
    n_genes, d_model = encoder.table().shape
    if config.objective == "generative":
        share = torch.from_numpy(mean_share(cells, n_genes, config.seed))
        network.count_decoder.start_at(share)
    if config.gene_init != "spectral" and config.pooling != "expression":
        return
    values = sample(cells, n_genes, config.target_sum, config.seed)
    if config.gene_init == "spectral":
        found = find_components(values, d_model, config.seed)
        vectors = torch.randn(n_genes, d_model) * _SMALL
        vectors[:, : found.loadings.shape[1]] = torch.from_numpy(found.loadings) * n_genes**0.5
        encoder.start_at(vectors)
    if config.pooling == "expression":
        mean = torch.from_numpy(np.asarray(values.mean(axis=0), dtype=np.float32).ravel())
        with torch.no_grad():
            network.center.copy_(mean @ encoder.table().float())


def variable_genes(
    cells: AlignedCounts,
    n_genes: int,
    n_top: int,
    target_sum: float,
    batches: NDArray[np.int64] | None,
    seed: int,
) -> NDArray[np.bool_]:
    """Return which genes vary most, by scanpy's default method, within batches if there are any.

    Returns
    -------
    Shape ``(n_genes,)``, `n_top` of them True.
    """
    import scanpy as sc

    rows = sampled_rows(cells, seed)
    values = ad.AnnData(sample(cells, n_genes, target_sum, seed))
    batch_key = None
    pooled = None if batches is None else pool_small_batches(batches[rows])
    if pooled is not None and len(np.unique(pooled)) > 1:
        values.obs["batch"] = pooled.astype(str)
        values.obs["batch"] = values.obs["batch"].astype("category")
        batch_key = "batch"
    with kept_threads():
        sc.pp.highly_variable_genes(values, n_top_genes=n_top, batch_key=batch_key)
    chosen: NDArray[np.bool_] = values.var["highly_variable"].to_numpy(dtype=bool)
    return chosen


def sum_counts(cells: AlignedCounts, n_genes: int, seed: int) -> NDArray[np.float64]:
    """Return the counts of each gene in a sample of the cells together, ``(n_genes,)``."""
    matrix, positions = cells.rows.select(sampled_rows(cells, seed))
    wanted = np.bincount(positions, minlength=matrix.shape[0]).astype(np.float64)
    sums = np.asarray(matrix.T @ wanted).ravel()
    known = cells.gene_map >= 0
    return np.bincount(cells.gene_map[known], weights=sums[known], minlength=n_genes)


def sampled_rows(cells: AlignedCounts, seed: int) -> NDArray[np.int64]:
    """Return the cells with counts, a sample of them if there are many."""
    filled = np.flatnonzero(cells.n_genes > 0)
    if len(filled) <= _N_SAMPLE:
        return filled
    return np.sort(np.random.default_rng(seed).choice(filled, _N_SAMPLE, replace=False))


def sample(cells: AlignedCounts, n_genes: int, target_sum: float, seed: int) -> sp.csr_matrix:
    """Return x~ of a sample of the cells with counts of the vocabulary, cells x genes."""
    rows = sampled_rows(cells, seed)
    blocks = []
    for start in range(0, max(len(rows), 1), _CHUNK):
        # Other genes than the vocabulary's are never copied for all cells.
        matrix, positions = cells.rows.select(rows[start : start + _CHUNK])
        blocks.append(normalise(matrix[positions], cells.gene_map, n_genes, target_sum))
    return sp.vstack(blocks, format="csr")


def mean_share(cells: AlignedCounts, n_genes: int, seed: int) -> NDArray[np.float32]:
    """Return each gene's share of all counts of the vocabulary, shape ``(n_genes,)``."""
    matrix, positions = cells.rows.select(sampled_rows(cells, seed))
    counts = np.asarray(line_up(matrix[positions], cells.gene_map, n_genes).sum(axis=0)).ravel()
    share: NDArray[np.float32] = (counts / max(counts.sum(), 1)).astype(np.float32)
    return share


def line_up(
    counts: sp.csr_matrix | sp.csr_array, gene_map: NDArray[np.int64], n_genes: int
) -> sp.csr_matrix:
    """Return counts by the genes of the vocabulary, cells x genes."""
    known = np.flatnonzero(gene_map >= 0)
    into = sp.csr_matrix(
        (np.ones(len(known), np.float32), (known, gene_map[known])), (len(gene_map), n_genes)
    )
    return sp.csr_matrix(sp.csr_matrix(counts, dtype=np.float32) @ into)


def normalise(
    counts: sp.csr_matrix | sp.csr_array,
    gene_map: NDArray[np.int64],
    n_genes: int,
    target_sum: float,
) -> sp.csr_matrix:
    """Return x~ (eq. 2) of counts lined up with the vocabulary, cells x genes.

    Cells without counts of the vocabulary are rows of zeros.
    """
    rows = sp.csr_matrix(counts, dtype=np.float32)
    depth = np.asarray(rows @ (gene_map != UNKNOWN).astype(np.float32)).ravel()
    lined_up = line_up(rows, gene_map, n_genes)
    scale = np.divide(target_sum, depth, out=np.zeros_like(depth), where=depth > 0)
    lined_up.data *= np.repeat(scale, np.diff(lined_up.indptr))
    np.log1p(lined_up.data, out=lined_up.data)
    return lined_up
