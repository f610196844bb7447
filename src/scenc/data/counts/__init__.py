"""Rows of raw counts from any matrix, and the checks of counts and gene names."""

from scenc.data.counts._anndata import gene_names, inspect_counts
from scenc.data.counts._check import (
    CountCheck,
    Problems,
    check_counts,
    check_names,
    check_values,
    describe_low_coverage,
)
from scenc.data.counts._recover import recover_counts
from scenc.data.counts._rows import CountRows, Csr, as_csr, open_rows

__all__ = [
    "CountCheck",
    "CountRows",
    "Csr",
    "Problems",
    "as_csr",
    "check_counts",
    "check_names",
    "check_values",
    "describe_low_coverage",
    "gene_names",
    "inspect_counts",
    "open_rows",
    "recover_counts",
]
