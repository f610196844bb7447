"""What people do with an embedding, on arrays alone: nothing here needs a `scenc.Model`."""

from scenc.tasks._annotation import UNKNOWN_LABEL, LabelClassifier, LabelPredictions
from scenc.tasks._attributions import (
    Attributions,
    attribute_tokens,
    require_captum,
)
from scenc.tasks._check import EmbeddingCheck, Halves, check_embedding
from scenc.tasks._gene_programmes import (
    GeneLevels,
    gene_levels,
    genes_of_like_expression,
    leiden_of_genes,
    mean_correlations,
    score_programmes,
)
from scenc.tasks._linear import Directions, fit_directions, read_directions
from scenc.tasks._majority import majority, over_clusters
from scenc.tasks._mapping import Mapping, map_to_reference

__all__ = [
    "UNKNOWN_LABEL",
    "Attributions",
    "Directions",
    "EmbeddingCheck",
    "GeneLevels",
    "Halves",
    "LabelClassifier",
    "LabelPredictions",
    "Mapping",
    "attribute_tokens",
    "check_embedding",
    "fit_directions",
    "gene_levels",
    "genes_of_like_expression",
    "leiden_of_genes",
    "majority",
    "map_to_reference",
    "mean_correlations",
    "over_clusters",
    "read_directions",
    "require_captum",
    "score_programmes",
]
