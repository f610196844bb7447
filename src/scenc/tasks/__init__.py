"""What people do with an embedding, on arrays alone: nothing here needs a `scenc.Model`."""

from scenc.tasks._annotation import (
    UNKNOWN_LABEL,
    LabelClassifier,
    LabelPredictions,
    majority,
    over_clusters,
)
from scenc.tasks._mapping import Mapping, map_to_reference

__all__ = [
    "UNKNOWN_LABEL",
    "LabelClassifier",
    "LabelPredictions",
    "Mapping",
    "majority",
    "map_to_reference",
    "over_clusters",
]
