"""Votes within clusters: all cells of a cluster get the name that most of them have."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from scenc._threads import kept_threads

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

# Numbers of cells from which on clusters are smaller still.
_CLUSTER_STEPS = (5_000, 20_000, 40_000, 100_000, 200_000)


def majority(labels: NDArray[np.object_], clusters: ArrayLike) -> NDArray[np.object_]:
    """Give all cells of a cluster the name that most of them have; of several, the first by name.

    Parameters
    ----------
    labels
        Name of each cell, shape ``(n_cells,)``.
    clusters
        Cluster of each cell, shape ``(n_cells,)``; a cell without one keeps its name.

    Examples
    --------
    >>> names = np.array(["B", "B", "T", "T"], dtype=object)
    >>> scenc.tasks.majority(names, [0, 0, 0, 1]).tolist()
    ['B', 'B', 'B', 'T']

    References
    ----------
    Dominguez Conde et al. (2022), Cross-tissue immune cell analysis reveals tissue-specific
    features in humans (CellTypist).
    """
    cluster, _ = pd.factorize(np.asarray(clusters, dtype=object))
    code, names = pd.factorize(labels, sort=True)
    votes = np.zeros((cluster.max() + 1, len(names)), np.int64)
    np.add.at(votes, (cluster[cluster >= 0], code[cluster >= 0]), 1)
    winners = np.append(votes.argmax(axis=1), -1)[cluster]
    return np.where(winners < 0, labels, np.asarray(names, dtype=object)[winners])


def over_clusters(embedding: NDArray[np.float32], seed: int = 0) -> NDArray[np.int64]:
    """Part cells into many small clusters by Leiden, as CellTypist does before it votes.

    The resolution grows with the number of cells: 5 below 5,000 cells, up to 30.

    Parameters
    ----------
    embedding
        One row per cell, shape ``(n_cells, n_dims)``.
    seed
        Of the clustering.

    Returns
    -------
    Cluster of each cell, shape ``(n_cells,)``. Up to three cells are clusters of their own.

    Examples
    --------
    >>> cells = np.random.default_rng(0).normal(size=(300, 5)).astype("float32")
    >>> clusters = scenc.tasks.over_clusters(cells)
    >>> clusters.shape
    (300,)
    >>> names = np.repeat(np.array(["B", "T"], dtype=object), 150)
    >>> voted = scenc.tasks.majority(names, clusters)
    """
    n_cells = len(embedding)
    if n_cells <= 3:
        return np.arange(n_cells)
    import scanpy as sc
    from anndata import AnnData

    resolution = 5 * (1 + int(np.searchsorted(_CLUSTER_STEPS, n_cells, side="right")))
    graph = AnnData(obs=pd.DataFrame(index=pd.RangeIndex(n_cells).astype(str)))
    graph.obsm["X"] = embedding
    with kept_threads():
        sc.pp.neighbors(graph, min(10, n_cells - 1), use_rep="X", random_state=seed)
        sc.tl.leiden(
            graph, resolution, flavor="igraph", n_iterations=2, directed=False, random_state=seed
        )
    return np.asarray(graph.obs["leiden"].cat.codes, dtype=np.int64)
