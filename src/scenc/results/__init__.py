"""Tables of scores: read, averaged, compared, written."""

from scenc.results._comparisons import EXPRESSION_ENCODERS, GENE_ENCODERS
from scenc.results._results import Results
from scenc.results._summaries import (
    NOWHERE,
    TITLES,
    ResultsLike,
    Summary,
    diverged,
    read_curves,
    read_jobs,
    read_scores,
    read_table,
    standing,
    summarise,
    title,
    units,
)
from scenc.results._tables import CURVES, JOBS, SCORES

__all__ = [
    "CURVES",
    "EXPRESSION_ENCODERS",
    "GENE_ENCODERS",
    "JOBS",
    "NOWHERE",
    "Results",
    "ResultsLike",
    "SCORES",
    "Summary",
    "TITLES",
    "diverged",
    "read_curves",
    "read_jobs",
    "read_scores",
    "read_table",
    "standing",
    "summarise",
    "title",
    "units",
]
