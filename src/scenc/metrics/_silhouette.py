from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from scenc.metrics._docs import shared_docs
from scenc.metrics._embedded_cells import MISSING, prepare
from scenc.metrics._score import Score

if TYPE_CHECKING:
    from collections.abc import Collection

    from numpy.typing import ArrayLike

    from scenc.metrics._embedded_cells import EmbeddedCells


@shared_docs
def label_asw(
    embedding: ArrayLike, labels: ArrayLike, *, missing: Collection[str] = MISSING
) -> Score:
    r"""Average silhouette width of the labels.

    The silhouette of a cell is :math:`s = (b - a) / \max(a, b)`, where :math:`a` is its mean
    distance to the other cells of its label and :math:`b` the smallest mean distance to the
    cells of another one. The score is :math:`(\bar s + 1) / 2`, the mean over all cells.

    {parameters}

    Returns
    -------
    A score in [0, 1], higher is better; NaN with its reason if there is one label only, or as
    many as cells.

    {errors}

    Notes
    -----
    Luecken et al., Nature Methods 2022, doi:10.1038/s41592-021-01336-8 ("cell-type ASW");
    Euclidean distance. A label with a single cell has :math:`s = 0` there, by convention.
    Computed by ``scib_metrics.utils.silhouette_samples``.

    Examples
    --------
    >>> import numpy as np
    >>> from scenc.metrics import label_asw
    >>> rng = np.random.default_rng(0)
    >>> labels = np.repeat(["B", "T"], 200)
    >>> cells = rng.normal(size=(400, 2)) + 99 * (labels == "T")[:, None]
    >>> round(label_asw(cells, labels), 2)
    0.99
    """
    return label_asw_score(prepare(embedding, labels=labels, missing=missing))


@shared_docs
def batch_asw(
    embedding: ArrayLike,
    batch: ArrayLike,
    labels: ArrayLike,
    *,
    missing: Collection[str] = MISSING,
) -> Score:
    r"""Average silhouette width of the batches within each label.

    For the cells :math:`C_l` of a label, :math:`1 - |s|` is averaged, where :math:`s` is the
    silhouette with respect to their batches; the score is the mean over labels. 1 where no
    batch can be told from another within any label.

    {parameters}

    Returns
    -------
    A score in [0, 1], higher is better; NaN with its reason if no label has cells of two
    batches. Labels in one batch only, or with one cell in each batch, are passed over.

    {errors}

    Notes
    -----
    Luecken et al., Nature Methods 2022, doi:10.1038/s41592-021-01336-8 ("batch ASW"). Computed
    by scikit-learn's ``silhouette_samples``, as in scib: ``scib_metrics.silhouette_batch`` gives
    the same value but compiles anew for every label.

    Examples
    --------
    >>> import numpy as np
    >>> from scenc.metrics import batch_asw
    >>> rng = np.random.default_rng(0)
    >>> round(batch_asw(rng.normal(size=(400, 10)), np.arange(400) % 2, np.repeat([0, 1], 200)), 2)
    0.97
    """
    return batch_asw_score(prepare(embedding, batch, labels, missing=missing))


def label_asw_score(cells: EmbeddedCells) -> Score:
    """Score prepared cells."""
    if reason := cells.undefined(labels=2):
        return Score.undefined(reason)
    assert cells.labels is not None
    if len(cells.labels) == cells.n_cells:
        return Score.undefined("every cell has a label of its own")
    return Score((cells.label_silhouettes.mean() + 1) / 2)


def batch_asw_score(cells: EmbeddedCells) -> Score:
    """Score prepared cells."""
    from sklearn.metrics import silhouette_samples

    if reason := cells.undefined(batches=2, labels=1):
        return Score.undefined(reason)
    assert cells.batch is not None
    assert cells.labels is not None
    per_label = []
    for label in range(len(cells.labels)):
        members = np.flatnonzero(cells.labels.codes == label)
        batch = cells.batch.codes[members]
        if 1 < len(np.unique(batch)) < len(members):
            silhouette = silhouette_samples(cells.embedding[members], batch)
            per_label.append(1 - np.abs(silhouette).mean())
    if not per_label:
        return Score.undefined("no label has cells of two batches, and two cells of one of them")
    return Score(np.mean(per_label))
