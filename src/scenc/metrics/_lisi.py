from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from scenc.metrics._docs import shared_docs
from scenc.metrics._embedded_cells import MISSING, Options, prepare
from scenc.metrics._score import Score

if TYPE_CHECKING:
    from collections.abc import Collection

    from numpy.typing import ArrayLike

    from scenc.metrics._embedded_cells import EmbeddedCells, Groups


@shared_docs
def ilisi(embedding: ArrayLike, batch: ArrayLike, *, n_neighbors: int = 90) -> Score:
    r"""Integration LISI: how many batches a cell's neighbourhood holds.

    The local inverse Simpson's index of a cell is :math:`1 / \sum_b p_b^2`, where :math:`p_b` is
    the weight of batch :math:`b` among its neighbours; the weights fall with distance so that
    their perplexity is a third of ``n_neighbors``. With :math:`m` the median over cells and
    :math:`B` batches, the score is :math:`(m - 1) / (B - 1)`: 0 where every neighbourhood is of
    one batch, 1 where all batches have equal weight in it.

    {parameters}

    Returns
    -------
    A score in [0, 1], higher is better; NaN with its reason if there is one batch only.

    {errors}

    See Also
    --------
    scenc.metrics.integration : All scores at once, from one neighbour search.

    Notes
    -----
    LISI: Korsunsky et al., Nature Methods 2019, doi:10.1038/s41592-019-0619-0. Scaling: Luecken
    et al., Nature Methods 2022, doi:10.1038/s41592-021-01336-8. Computed by
    ``scib_metrics.lisi_knn`` on exact neighbours; scib's ``ilisi_graph`` takes shortest paths on
    the 15-neighbour graph in their place.

    Examples
    --------
    >>> import numpy as np
    >>> from scenc.metrics import ilisi
    >>> rng = np.random.default_rng(0)
    >>> round(ilisi(rng.normal(size=(400, 10)), np.arange(400) % 2), 1)
    0.9
    """
    return ilisi_score(prepare(embedding, batch, options=Options(lisi_neighbors=n_neighbors)))


@shared_docs
def clisi(
    embedding: ArrayLike,
    labels: ArrayLike,
    *,
    n_neighbors: int = 90,
    missing: Collection[str] = MISSING,
) -> Score:
    r"""Cell-type LISI: how pure in label a cell's neighbourhood is.

    With :math:`m` the median over cells of the local inverse Simpson's index of the labels and
    :math:`L` labels, the score is :math:`(L - m) / (L - 1)`: 1 where every neighbourhood is of
    one label. See `scenc.metrics.ilisi` for the index.

    {parameters}

    Returns
    -------
    A score in [0, 1], higher is better; NaN with its reason if there is one label only.

    {errors}

    Notes
    -----
    Sources as for `scenc.metrics.ilisi`.

    Examples
    --------
    >>> import numpy as np
    >>> from scenc.metrics import clisi
    >>> rng = np.random.default_rng(0)
    >>> labels = np.repeat(["B", "T"], 200)
    >>> cells = rng.normal(size=(400, 10)) + 9 * (labels == "T")[:, None]
    >>> float(clisi(cells, labels))
    1.0
    """
    options = Options(lisi_neighbors=n_neighbors)
    return clisi_score(prepare(embedding, labels=labels, missing=missing, options=options))


def ilisi_score(cells: EmbeddedCells) -> Score:
    """Score prepared cells."""
    if reason := cells.undefined(batches=2):
        return Score.undefined(reason)
    assert cells.batch is not None
    median = _median_lisi(cells, cells.batch)
    return Score(np.clip((median - 1) / (len(cells.batch) - 1), 0, 1))


def clisi_score(cells: EmbeddedCells) -> Score:
    """Score prepared cells."""
    if reason := cells.undefined(labels=2):
        return Score.undefined(reason)
    assert cells.labels is not None
    median = _median_lisi(cells, cells.labels)
    return Score(np.clip((len(cells.labels) - median) / (len(cells.labels) - 1), 0, 1))


def _median_lisi(cells: EmbeddedCells, groups: Groups) -> float:
    nearest = cells.neighbors.nearest(cells.options.lisi_neighbors)
    lisi = np.asarray(cells.scib_metrics.lisi_knn(nearest.as_scib_metrics(), groups.codes))
    # Where no bandwidth reaches the perplexity, scib-metrics returns -1: nearly all the weight is
    # on the nearest neighbour, so the neighbourhood is of one group.
    return float(np.median(np.where(lisi < 1, 1, lisi)))
