"""Programmes of genes that lie near each other, tested against genes of like expression."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import scipy.sparse as sp
from anndata import AnnData
from scipy.spatial import cKDTree
from scipy.stats import false_discovery_control
from tqdm.auto import tqdm

from scenc._threads import kept_threads

if TYPE_CHECKING:
    from numpy.typing import NDArray

# A gene's stand-in is drawn from so many genes outside the programme that are expressed most alike.
_N_LIKE = 30
# Cells whose sums over gene sets are in memory together.
_CHUNK = 1024


@dataclass(frozen=True, slots=True)
class GeneLevels:
    """How genes are expressed in some cells.

    Attributes
    ----------
    n_cells
        Number of cells that express each gene, shape ``(n_genes,)``.
    detected_mean
        Mean of its x~ in these cells, 0 where there are none.
    mean, sd
        Mean and standard deviation of its x~ over all cells.

    Examples
    --------
    >>> import scipy.sparse as sp
    >>> levels = scenc.tasks.gene_levels(sp.csr_matrix([[0.0, 2.0], [1.0, 2.0]]))
    >>> levels.n_cells.tolist(), levels.detected_mean.tolist(), levels.mean.tolist()
    ([1, 2], [1.0, 2.0], [0.5, 2.0])
    """

    n_cells: NDArray[np.int64]
    detected_mean: NDArray[np.float64]
    mean: NDArray[np.float64]
    sd: NDArray[np.float64]


def gene_levels(values: sp.csr_matrix) -> GeneLevels:
    """Measure how genes are expressed.

    Parameters
    ----------
    values
        Normalised expression x~, cells x genes.

    Examples
    --------
    >>> import scipy.sparse as sp
    >>> values = sp.csr_matrix([[0.0, 2.0], [1.0, 2.0]])  # two cells, two genes
    >>> levels = scenc.tasks.gene_levels(values)
    >>> levels.n_cells.tolist(), levels.mean.tolist(), levels.sd.tolist()
    ([1, 2], [0.5, 2.0], [0.5, 0.0])
    """
    total, n_genes = max(values.shape[0], 1), values.shape[1]
    nonzero = values.data != 0
    columns, data = values.indices[nonzero], values.data[nonzero].astype(np.float64)
    n_cells = np.bincount(columns, minlength=n_genes)
    sums = np.bincount(columns, weights=data, minlength=n_genes)
    squares = np.bincount(columns, weights=data**2, minlength=n_genes)
    mean = sums / total
    sd = np.sqrt(np.maximum(squares / total - mean**2, 0))
    return GeneLevels(n_cells, sums / np.maximum(n_cells, 1), mean, sd)


def genes_of_like_expression(
    levels: GeneLevels, genes: NDArray[np.int64], candidates: NDArray[np.int64], n: int
) -> NDArray[np.int64]:
    """Return, for each gene, the candidates that are expressed most alike.

    Alike are genes that as many cells express, as strongly: near in log10 of the number of cells
    and in the mean x~ of the cells that express them, each over its standard deviation.

    Parameters
    ----------
    levels
        How all genes are expressed.
    genes
        Genes to find others for, as column numbers, shape ``(n_wanted,)``.
    candidates
        Genes to choose from.
    n
        How many to choose; fewer if there are no more.

    Returns
    -------
    Column numbers, the most alike first, shape ``(n_wanted, n)``.

    Examples
    --------
    >>> import scipy.sparse as sp
    >>> values = sp.csr_matrix([[1.0, 0.9, 5.0, 0.0], [1.0, 1.1, 5.0, 3.0]])
    >>> levels = scenc.tasks.gene_levels(values)
    >>> genes, candidates = np.array([0]), np.array([1, 2, 3])
    >>> scenc.tasks.genes_of_like_expression(levels, genes, candidates, n=2).tolist()
    [[1, 2]]
    """
    places = np.stack([np.log10(levels.n_cells + 1.0), levels.detected_mean], axis=1)
    spread = places[candidates].std(axis=0)
    places = places / np.where(spread > 0, spread, 1)
    nearest = np.arange(1, min(n, len(candidates)) + 1)
    _, found = cKDTree(places[candidates]).query(places[genes], nearest)
    alike: NDArray[np.int64] = candidates[found]
    return alike


def mean_correlations(
    values: sp.csr_matrix, sets: sp.csr_matrix, levels: GeneLevels, progress: bool = False
) -> NDArray[np.float64]:
    """Return the mean Pearson correlation over the pairs of genes of each set.

    The mean follows from the variance of the sum of standardised genes, which is the sum of all
    correlations, so that no genes x genes matrix is made.

    Parameters
    ----------
    values
        Normalised expression x~, cells x genes.
    sets
        1 where a gene is in a set, genes x sets. Genes without variance must be in none.
    levels
        `gene_levels` of the values.
    progress
        Whether to show progress.

    Returns
    -------
    Shape ``(n_sets,)``; NaN for sets of fewer than two genes.

    Examples
    --------
    >>> import scipy.sparse as sp
    >>> values = sp.csr_matrix([[0.0, 0.0, 1.0], [1.0, 2.0, 1.0], [2.0, 4.0, 0.0]])
    >>> sets = sp.csr_matrix([[1.0], [1.0], [0.0]])  # one set: the first two genes
    >>> levels = scenc.tasks.gene_levels(values)
    >>> scenc.tasks.mean_correlations(values, sets, levels).round(3).tolist()
    [1.0]
    """
    scale = np.divide(1, levels.sd, out=np.zeros_like(levels.sd), where=levels.sd > 0)
    weights = sp.csr_matrix(sp.diags(scale) @ sets)
    shift = np.asarray(levels.mean @ weights).ravel()
    squares = np.zeros(sets.shape[1])
    n_cells = values.shape[0]
    with tqdm(total=n_cells, desc="Co-expression", unit="cell", disable=not progress) as bar:
        for start in range(0, n_cells, _CHUNK):
            chunk = values[start : start + _CHUNK]
            sums = (chunk @ weights).toarray() - shift
            squares += np.einsum("cs,cs->s", sums, sums)
            bar.update(chunk.shape[0])
    size = np.asarray(sets.sum(axis=0), dtype=np.float64).ravel()
    pairs = size * (size - 1)
    correlations = np.full(len(size), np.nan)
    np.divide(squares / n_cells - size, pairs, out=correlations, where=pairs > 0)
    return correlations


def leiden_of_genes(
    genes: AnnData, resolution: float, n_neighbors: int, seed: int
) -> NDArray[np.int64]:
    """Return Leiden clusters of genes by the cosine of their vectors, the largest called 0.

    Parameters
    ----------
    genes
        Genes x dimensions.
    resolution, n_neighbors, seed
        As in `scenc.Model.gene_programmes`.

    Returns
    -------
    Shape ``(n_genes,)``.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> near = np.repeat(np.eye(2), 20, axis=0)  # 20 genes in one direction, 20 in another
    >>> genes = sc.AnnData(near + 0.1 * rng.normal(size=near.shape))
    >>> clusters = scenc.tasks.leiden_of_genes(genes, resolution=0.1, n_neighbors=10, seed=0)
    >>> np.bincount(clusters).tolist()
    [20, 20]
    """
    import scanpy as sc

    vectors = AnnData(np.asarray(genes.X, dtype=np.float32))
    with kept_threads():
        sc.pp.neighbors(
            vectors, n_neighbors, use_rep="X", metric="cosine", random_state=seed, method="umap"
        )
        sc.tl.leiden(
            vectors, resolution, flavor="igraph", n_iterations=2, directed=False, random_state=seed
        )
    clusters: NDArray[np.int64] = vectors.obs["leiden"].astype(np.int64).to_numpy()
    return clusters


def score_programmes(
    values: sp.csr_matrix,
    programmes: NDArray[np.int64],
    n_random: int,
    seed: int,
    progress: bool = False,
) -> pd.DataFrame:
    """Compare the co-expression of programmes with that of random genes of like expression.

    Each random set has, for each gene of the programme, one that is drawn from those outside it
    which are expressed most alike; where the same one is drawn for two genes it counts once.

    Parameters
    ----------
    values
        Normalised expression x~, cells x genes.
    programmes
        Number of each gene's programme, -1 for none, shape ``(n_genes,)``.
    n_random
        Number of random sets of each programme.
    seed
        Of the draws.
    progress
        Whether to show progress.

    Returns
    -------
    One row per programme: ``n_genes``, ``coexpression`` (mean Pearson correlation of x~ over pairs
    of genes), ``random_mean`` and ``random_sd`` (of random sets), ``p_value`` (the share of random
    sets, the programme counted as one, that are co-expressed as much) and ``p_adjusted``
    (Benjamini and Hochberg). Genes without variance are left out of the correlations.

    Examples
    --------
    >>> import scipy.sparse as sp
    >>> rng = np.random.default_rng(0)
    >>> values = rng.poisson(1.0, size=(200, 50)).astype(float)
    >>> values[:, :5] += rng.poisson(2.0, size=(200, 1))  # five genes go together
    >>> programmes = np.where(np.arange(50) < 5, 0, -1)
    >>> table = scenc.tasks.score_programmes(sp.csr_matrix(values), programmes, n_random=99, seed=0)
    >>> table["n_genes"].tolist(), table["p_value"].tolist()
    ([5], [0.01])
    """
    levels, rng = gene_levels(values), np.random.default_rng(seed)
    varies = levels.sd > 0
    names = np.unique(programmes[programmes >= 0])
    sets = []
    for name in names:
        members = np.flatnonzero((programmes == name) & varies)
        sets.append(_as_columns(members[None], len(programmes)))
        others = np.flatnonzero((programmes != name) & varies)
        if not len(members) or not len(others):
            sets.append(_as_columns(np.empty((n_random, 0), np.int64), len(programmes)))
            continue
        like = genes_of_like_expression(levels, members, others, _N_LIKE)
        drawn = rng.integers(like.shape[1], size=(n_random, len(members)))
        sets.append(_as_columns(like[np.arange(len(members)), drawn], len(programmes)))
    found = mean_correlations(values, sp.hstack(sets, format="csr"), levels, progress)
    found = found.reshape(len(names), n_random + 1)
    return _table(names, np.bincount(programmes[programmes >= 0])[names], found)


def _as_columns(sets: NDArray[np.int64], n_genes: int) -> sp.csr_matrix:
    """Return sets of genes, one a row, as a matrix of ones, genes x sets."""
    columns = np.repeat(np.arange(len(sets)), sets.shape[1])
    ones = np.ones(sets.size)
    matrix = sp.csr_matrix((ones, (sets.ravel(), columns)), (n_genes, len(sets)))
    matrix.data[:] = 1
    return matrix


def _table(
    names: NDArray[np.int64], n_genes: NDArray[np.int64], correlations: NDArray[np.float64]
) -> pd.DataFrame:
    own, random = correlations[:, 0], correlations[:, 1:]
    n_random = random.shape[1]
    testable = np.isfinite(own) & np.isfinite(random).all(axis=1)
    p_value = (1 + (random >= own[:, None]).sum(axis=1)) / (1 + n_random)
    p_value = np.where(testable, p_value, np.nan)
    adjusted = np.full(len(names), np.nan)
    adjusted[testable] = false_discovery_control(p_value[testable]) if testable.any() else 1
    columns: dict[str, Any] = {
        "n_genes": n_genes,
        "coexpression": own,
        "random_mean": random.mean(axis=1),
        "random_sd": random.std(axis=1),
        "p_value": p_value,
        "p_adjusted": adjusted,
    }
    return pd.DataFrame(columns, index=pd.Index(names, name="programme"))
