"""What people do with an embedding, on arrays alone: nothing here needs a `scenc.Model`."""

from scenc.tasks._annotation import (
    UNKNOWN_LABEL,
    LabelClassifier,
    LabelPredictions,
    majority,
    over_clusters,
)
from scenc.tasks._attributions import (
    Attributions,
    Directions,
    attribute_tokens,
    fit_directions,
    read_directions,
    require_captum,
)
from scenc.tasks._gene_programmes import (
    GeneLevels,
    gene_levels,
    genes_of_like_expression,
    leiden_of_genes,
    mean_correlations,
    score_programmes,
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
    "Attributions",
    "Directions",
    "GeneLevels",
    "attribute_tokens",
    "fit_directions",
    "gene_levels",
    "genes_of_like_expression",
    "leiden_of_genes",
    "mean_correlations",
    "read_directions",
    "require_captum",
    "score_programmes",
]
