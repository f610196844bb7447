"""Scores of a cell embedding: how well batches mix, how much of the biology is kept.

Arrays in, numbers out: nothing here knows a model or an AnnData. Importing the sub-package is
light; jax and scib-metrics are loaded by the first score that needs them, and
`scenc.metrics.knn_classification` never does.
"""

from __future__ import annotations

from scenc.metrics._classification import ClassificationScores, knn_classification
from scenc.metrics._clusters import RESOLUTIONS
from scenc.metrics._embedded_cells import MISSING
from scenc.metrics._graph_connectivity import graph_connectivity
from scenc.metrics._integration import (
    BATCH_CORRECTION,
    BIO_PRESERVATION,
    IntegrationScores,
    integration,
)
from scenc.metrics._isolated_labels import isolated_labels_asw, isolated_labels_f1
from scenc.metrics._lisi import clisi, ilisi
from scenc.metrics._nmi_ari import ari, nmi
from scenc.metrics._score import Score
from scenc.metrics._silhouette import batch_asw, label_asw

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
