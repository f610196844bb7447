from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from scenc.metrics._clusters import RESOLUTIONS
from scenc.metrics._docs import shared_docs
from scenc.metrics._embedded_cells import MIN_CELLS, MISSING, Options, prepare
from scenc.metrics._score import Score

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from numpy.typing import ArrayLike, NDArray

    from scenc.metrics._embedded_cells import EmbeddedCells


@shared_docs
def isolated_labels_f1(
    embedding: ArrayLike,
    batch: ArrayLike,
    labels: ArrayLike,
    *,
    iso_threshold: int | None = None,
    n_neighbors: int = 15,
    resolutions: Sequence[float] = RESOLUTIONS,
    leiden: str = "igraph",
    missing: Collection[str] = MISSING,
    seed: int = 0,
) -> Score:
    r"""How well one cluster can pick out each isolated label.

    Isolated labels are those in the fewest batches. For an isolated label :math:`l` and a
    Leiden cluster :math:`c`, :math:`F_1 = 2 |l \cap c| / (|l| + |c|)`; the label's score is the
    largest over all clusters of all resolutions, and the mean over isolated labels is returned.

    {parameters}

    Returns
    -------
    A score in (0, 1], higher is better; NaN with its reason if no label is isolated, which is so
    when every label is in every batch.

    {errors}

    Notes
    -----
    ``isolated_labels_f1`` of scib; Luecken et al., Nature Methods 2022,
    doi:10.1038/s41592-021-01336-8. scib-metrics has no such score.

    Examples
    --------
    >>> import numpy as np
    >>> from scenc.metrics import isolated_labels_f1
    >>> rng = np.random.default_rng(0)
    >>> labels = np.repeat(["B", "T", "rare"], 100)
    >>> cells = rng.normal(size=(300, 10)) + 99 * (labels == "rare")[:, None]
    >>> batch = np.where(labels == "rare", 0, np.arange(300) % 2)
    >>> float(isolated_labels_f1(cells, batch, labels))
    1.0
    """
    options = Options(n_neighbors, MIN_CELLS, resolutions, leiden, iso_threshold, seed)
    return isolated_f1_score(prepare(embedding, batch, labels, missing=missing, options=options))


@shared_docs
def isolated_labels_asw(
    embedding: ArrayLike,
    batch: ArrayLike,
    labels: ArrayLike,
    *,
    iso_threshold: int | None = None,
    missing: Collection[str] = MISSING,
) -> Score:
    r"""Silhouette of the isolated labels.

    The mean silhouette :math:`\bar s_l` of the cells of each isolated label, with respect to all
    labels (see `scenc.metrics.label_asw`), as :math:`(\bar s_l + 1) / 2`, averaged over
    the isolated labels. These are the labels in the fewest batches.

    {parameters}

    Returns
    -------
    A score in [0, 1], higher is better; NaN with its reason if no label is isolated, or none of
    them has two cells.

    {errors}

    Notes
    -----
    ``isolated_labels_asw`` of scib; Luecken et al., Nature Methods 2022,
    doi:10.1038/s41592-021-01336-8. A label with a single cell has no silhouette and is left out;
    scib counts it as 0.5.

    Examples
    --------
    >>> import numpy as np
    >>> from scenc.metrics import isolated_labels_asw
    >>> rng = np.random.default_rng(0)
    >>> labels = np.repeat(["B", "T", "rare"], 100)
    >>> cells = rng.normal(size=(300, 2)) + 99 * (labels == "rare")[:, None]
    >>> batch = np.where(labels == "rare", 0, np.arange(300) % 2)
    >>> round(isolated_labels_asw(cells, batch, labels), 2)
    0.99
    """
    options = Options(iso_threshold=iso_threshold)
    return isolated_asw_score(prepare(embedding, batch, labels, missing=missing, options=options))


def isolated_f1_score(cells: EmbeddedCells) -> Score:
    """Score prepared cells."""
    isolated = _isolated(cells)
    if isinstance(isolated, Score):
        return isolated
    assert cells.labels is not None
    best = np.zeros(len(cells.labels))
    for clusters in cells.clusterings:
        n_clusters = int(clusters.max()) + 1
        shared = np.bincount(
            cells.labels.codes * n_clusters + clusters, minlength=len(best) * n_clusters
        ).reshape(len(best), n_clusters)
        f1 = 2 * shared / np.add.outer(shared.sum(axis=1), shared.sum(axis=0))
        best = np.maximum(best, f1.max(axis=1))
    return Score(best[isolated].mean())


def isolated_asw_score(cells: EmbeddedCells) -> Score:
    """Score prepared cells."""
    isolated = _isolated(cells)
    if isinstance(isolated, Score):
        return isolated
    assert cells.labels is not None
    several = isolated[cells.labels.sizes[isolated] > 1]
    if not len(several):
        names = ", ".join(repr(cells.labels.names[label]) for label in isolated)
        return Score.undefined(f"every isolated label ({names}) has a single cell")
    if len(cells.labels) < 2:
        return Score.undefined(f"there is only one label, {cells.labels.names[0]!r}")
    totals = np.bincount(cells.labels.codes, weights=cells.label_silhouettes)
    return Score((np.mean(totals[several] / cells.labels.sizes[several]) + 1) / 2)


def isolated_label_names(cells: EmbeddedCells) -> tuple[str, ...]:
    """Name the isolated labels; none if there is no telling."""
    isolated = _isolated(cells)
    if isinstance(isolated, Score) or cells.labels is None:
        return ()
    return tuple(cells.labels.names[label] for label in isolated)


def _isolated(cells: EmbeddedCells) -> NDArray[np.intp] | Score:
    """Codes of the isolated labels, or the undefined score if there are none."""
    if reason := cells.undefined(batches=2, labels=1):
        return Score.undefined(reason)
    assert cells.batch is not None
    assert cells.labels is not None
    n_batches = len(cells.batch)
    pairs = np.unique(cells.labels.codes * n_batches + cells.batch.codes)
    found_in = np.bincount(pairs // n_batches, minlength=len(cells.labels))
    threshold = cells.options.iso_threshold
    if threshold is None:
        threshold = int(found_in.min())
        if threshold == n_batches:
            return Score.undefined(
                f"no label is isolated: every label is in all {n_batches} batches"
            )
    elif threshold >= n_batches:
        return Score.undefined(
            f"no label is isolated: iso_threshold is {threshold} but there are only "
            f"{n_batches} batches"
        )
    isolated = np.flatnonzero(found_in <= threshold)
    if not len(isolated):
        return Score.undefined(
            f"no label is isolated: every label is in {found_in.min()} batches or more, "
            f"iso_threshold is {threshold}"
        )
    return isolated
