"""Tables of scores: read, averaged, compared, written."""

from scenc.results._comparisons import EXPRESSION_ENCODERS, GENE_ENCODERS, in_order
from scenc.results._metrics import LOWER_IS_BETTER, METRICS, TRAINING_MSE, title
from scenc.results._results import Results, ResultsLike, as_results
from scenc.results._summaries import (
    NOWHERE,
    Summary,
    diverged,
    spread_unit,
    standing,
    summarise,
    training_errors,
)
from scenc.results._tidy import CHECKS, CURVES, INTERVALS, JOBS, SCORES, tidy

__all__ = [
    "CHECKS",
    "CURVES",
    "EXPRESSION_ENCODERS",
    "GENE_ENCODERS",
    "INTERVALS",
    "JOBS",
    "LOWER_IS_BETTER",
    "METRICS",
    "NOWHERE",
    "SCORES",
    "TRAINING_MSE",
    "Results",
    "ResultsLike",
    "Summary",
    "as_results",
    "diverged",
    "in_order",
    "spread_unit",
    "standing",
    "summarise",
    "tidy",
    "title",
    "training_errors",
]
