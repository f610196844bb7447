from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from scenc.metrics._clusters import RESOLUTIONS
from scenc.metrics._docs import shared_docs
from scenc.metrics._embedded_cells import MIN_CELLS, MISSING, Options, prepare
from scenc.metrics._score import Score

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from numpy.typing import ArrayLike

    from scenc.metrics._embedded_cells import EmbeddedCells


@shared_docs
def nmi(
    embedding: ArrayLike,
    labels: ArrayLike,
    *,
    n_neighbors: int = 15,
    resolutions: Sequence[float] = RESOLUTIONS,
    leiden: str = "igraph",
    missing: Collection[str] = MISSING,
    seed: int = 0,
) -> Score:
    r"""Normalised mutual information of labels and the best of several Leiden clusterings.

    :math:`\mathrm{NMI} = 2 I(L; C) / (H(L) + H(C))`, the arithmetic normalisation, for the
    clustering :math:`C` at the resolution where it is highest.

    {parameters}

    Returns
    -------
    A score in [0, 1], higher is better; NaN with its reason if there is one label only.

    {errors}

    See Also
    --------
    scenc.metrics.integration : NMI and ARI from the same clusterings.

    Notes
    -----
    Luecken et al., Nature Methods 2022, doi:10.1038/s41592-021-01336-8.

    Examples
    --------
    >>> import numpy as np
    >>> from scenc.metrics import nmi
    >>> rng = np.random.default_rng(0)
    >>> labels = np.repeat(["B", "T"], 100)
    >>> cells = rng.normal(size=(200, 10)) + 99 * (labels == "T")[:, None]
    >>> float(nmi(cells, labels))
    1.0
    """
    options = Options(n_neighbors, MIN_CELLS, resolutions, leiden, seed=seed)
    return nmi_score(prepare(embedding, labels=labels, missing=missing, options=options))


@shared_docs
def ari(
    embedding: ArrayLike,
    labels: ArrayLike,
    *,
    n_neighbors: int = 15,
    resolutions: Sequence[float] = RESOLUTIONS,
    leiden: str = "igraph",
    missing: Collection[str] = MISSING,
    seed: int = 0,
) -> Score:
    """Adjusted Rand index of labels and a Leiden clustering: the one with the best NMI.

    {parameters}

    Returns
    -------
    A score of at most 1, higher is better, 0 for a clustering at random and below 0 for a worse
    one; NaN with its reason if there is one label only.

    {errors}

    Notes
    -----
    Luecken et al., Nature Methods 2022, doi:10.1038/s41592-021-01336-8; Hubert and Arabie,
    Journal of Classification 1985. Where two resolutions tie in NMI but split the labels
    differently, ARI jumps between them: it is the least stable of the scores.

    Examples
    --------
    >>> import numpy as np
    >>> from scenc.metrics import ari
    >>> rng = np.random.default_rng(0)
    >>> labels = np.repeat(["B", "T"], 100)
    >>> cells = rng.normal(size=(200, 10)) + 99 * (labels == "T")[:, None]
    >>> float(ari(cells, labels))
    1.0
    """
    options = Options(n_neighbors, MIN_CELLS, resolutions, leiden, seed=seed)
    return ari_score(prepare(embedding, labels=labels, missing=missing, options=options))


def nmi_score(cells: EmbeddedCells) -> Score:
    """Score prepared cells."""
    if reason := cells.undefined(labels=2):
        return Score.undefined(reason)
    return Score(max(_nmis(cells)))


def ari_score(cells: EmbeddedCells) -> Score:
    """Score prepared cells."""
    from sklearn.metrics import adjusted_rand_score

    if reason := cells.undefined(labels=2):
        return Score.undefined(reason)
    assert cells.labels is not None
    best = cells.clusterings[np.argmax(_nmis(cells))]
    return Score(adjusted_rand_score(cells.labels.codes, best))


def best_resolution(cells: EmbeddedCells) -> float:
    """Return the resolution whose clustering has the highest NMI."""
    return float(cells.options.resolutions[int(np.argmax(_nmis(cells)))])


def _nmis(cells: EmbeddedCells) -> list[float]:
    from sklearn.metrics import normalized_mutual_info_score

    assert cells.labels is not None
    return [
        # Rounding can lift a perfect match above 1.
        min(normalized_mutual_info_score(cells.labels.codes, clusters), 1.0)
        for clusters in cells.clusterings
    ]
