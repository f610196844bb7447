from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from scenc.metrics._docs import shared_docs
from scenc.metrics._embedded_cells import MIN_CELLS, MISSING, Options, prepare
from scenc.metrics._score import Score

if TYPE_CHECKING:
    from collections.abc import Collection

    from numpy.typing import ArrayLike

    from scenc.metrics._embedded_cells import EmbeddedCells


@shared_docs
def graph_connectivity(
    embedding: ArrayLike,
    labels: ArrayLike,
    *,
    n_neighbors: int = 15,
    missing: Collection[str] = MISSING,
) -> Score:
    r"""Share of each label's cells that hang together in the neighbour graph.

    The graph is cut down to the cells :math:`C_l` of a label; the score is the mean over labels
    of :math:`|\mathrm{LCC}(C_l)| / |C_l|`, the share of its largest connected component.

    {parameters}

    Returns
    -------
    A score in (0, 1], higher is better. It is defined for a single label too.

    {errors}

    Notes
    -----
    Luecken et al., Nature Methods 2022, doi:10.1038/s41592-021-01336-8. As in scib, the graph is
    that of UMAP connectivities, in which two cells are joined when either is a neighbour of the
    other. ``scib_metrics.graph_connectivity`` asks for strongly connected components of the
    directed neighbour graph, which is never larger.

    Examples
    --------
    >>> import numpy as np
    >>> from scenc.metrics import graph_connectivity
    >>> rng = np.random.default_rng(0)
    >>> cells = rng.normal(size=(200, 10)) + np.repeat([0, 99], 100)[:, None]
    >>> float(graph_connectivity(cells, np.repeat(["B", "T"], 100)))
    1.0
    >>> float(graph_connectivity(cells, np.repeat(["B", "B"], 100)))
    0.5
    """
    options = Options(n_neighbors, MIN_CELLS)
    cells = prepare(embedding, labels=labels, missing=missing, options=options)
    return graph_connectivity_score(cells)


def graph_connectivity_score(cells: EmbeddedCells) -> Score:
    """Score prepared cells."""
    from scipy.sparse import csr_matrix
    from scipy.sparse.csgraph import connected_components

    if reason := cells.undefined(labels=1):
        return Score.undefined(reason)
    assert cells.labels is not None
    codes = cells.labels.codes
    edges = cells.graph.tocoo()
    within = codes[edges.row] == codes[edges.col]
    inside = csr_matrix(
        (edges.data[within], (edges.row[within], edges.col[within])), shape=edges.shape
    )
    n_components, component = connected_components(inside, directed=False)
    largest = np.zeros(len(cells.labels), dtype=np.intp)
    label = np.empty(n_components, dtype=np.intp)
    label[component] = codes  # a component lies within one label
    np.maximum.at(largest, label, np.bincount(component))
    return Score(np.mean(largest / cells.labels.sizes))
