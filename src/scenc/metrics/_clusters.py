from __future__ import annotations

import random
from typing import TYPE_CHECKING

import numpy as np

from scenc._arguments import choose

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray
    from scipy.sparse import csr_matrix

RESOLUTIONS = (0.2, 0.4, 0.6, 0.8, 1.0, 1.2, 1.4, 1.6, 1.8, 2.0)
"""The Leiden resolutions scib tries."""


def leiden_clusterings(
    graph: csr_matrix,
    resolutions: Sequence[float] = RESOLUTIONS,
    *,
    implementation: str = "igraph",
    seed: int = 0,
) -> NDArray[np.intp]:
    """Cluster a symmetric graph at several resolutions, each until no move improves it.

    Parameters
    ----------
    graph
        Symmetric weights, shape ``(n_cells, n_cells)``.
    resolutions
        Resolutions of modularity.
    implementation
        ``"igraph"``, or ``"leidenalg"`` on the directed graph, as scib calls it.
    seed
        Set anew for each resolution.

    Returns
    -------
    Cluster of each cell, shape ``(n_resolutions, n_cells)``.
    """
    choose(implementation, ("igraph", "leidenalg"), "leiden")
    cluster = _igraph if implementation == "igraph" else _leidenalg
    return np.array(cluster(graph, resolutions, seed), dtype=np.intp)


def _igraph(graph: csr_matrix, resolutions: Sequence[float], seed: int) -> list[list[int]]:
    import igraph
    from scipy.sparse import triu

    # Each edge once. Modularity does not change when all weights are doubled, so this is the
    # same objective as with both directions.
    edges = triu(graph, k=1).tocoo()
    network = igraph.Graph(n=graph.shape[0], edges=np.column_stack([edges.row, edges.col]))
    weights = edges.data.tolist()
    memberships = []
    try:
        for resolution in resolutions:
            igraph.set_random_number_generator(random.Random(seed))
            clustering = network.community_leiden(
                objective_function="modularity",
                weights=weights,
                resolution=resolution,
                n_iterations=-1,
            )
            memberships.append(clustering.membership)
    finally:
        igraph.set_random_number_generator(random)  # what igraph starts with
    return memberships


def _leidenalg(graph: csr_matrix, resolutions: Sequence[float], seed: int) -> list[list[int]]:
    import igraph
    import leidenalg

    edges = graph.tocoo()
    network = igraph.Graph(
        n=graph.shape[0], edges=np.column_stack([edges.row, edges.col]), directed=True
    )
    weights = edges.data.astype(np.float64)
    return [
        leidenalg.find_partition(
            network,
            leidenalg.RBConfigurationVertexPartition,
            weights=weights,
            resolution_parameter=resolution,
            n_iterations=-1,
            seed=seed,
        ).membership
        for resolution in resolutions
    ]
