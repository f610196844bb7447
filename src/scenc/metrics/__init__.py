"""Scores of a cell embedding: how well batches mix, how much of the biology is kept.

Arrays in, numbers out: nothing here knows a model or an AnnData. Importing the sub-package is
light; jax and scib-metrics are loaded by the first score that needs them, and
:func:`~scenc.metrics.knn_classification` never does.
"""

from __future__ import annotations

from ._cells import MISSING
from ._classification import ClassificationScores, knn_classification
from ._clusters import RESOLUTIONS
from ._graph_connectivity import graph_connectivity
from ._integration import BATCH_CORRECTION, BIO_PRESERVATION, IntegrationScores, integration
from ._isolated_labels import isolated_labels_asw, isolated_labels_f1
from ._lisi import clisi, ilisi
from ._nmi_ari import ari, nmi
from ._score import Score
from ._silhouette import batch_asw, label_asw

__all__ = [
    "BATCH_CORRECTION",
    "BIO_PRESERVATION",
    "MISSING",
    "RESOLUTIONS",
    "ClassificationScores",
    "IntegrationScores",
    "Score",
    "ari",
    "batch_asw",
    "clisi",
    "graph_connectivity",
    "ilisi",
    "integration",
    "isolated_labels_asw",
    "isolated_labels_f1",
    "knn_classification",
    "label_asw",
    "nmi",
]
