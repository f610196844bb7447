"""Rows of raw counts from any matrix, and the checks of counts, gene names and batches."""

from scenc.data.counts._anndata import gene_names, inspect_counts
from scenc.data.counts._check import (
    LEAST_SHARED,
    CountCheck,
    Problems,
    check_counts,
    check_names,
    check_values,
    describe_low_coverage,
)
from scenc.data.counts._groups import (
    describe_continuous,
    describe_missing,
    describe_small_batches,
    pool_small_batches,
)
from scenc.data.counts._recover import recover_counts
from scenc.data.counts._rows import CountRows, Csr, as_csr, open_rows

__all__ = [
    "LEAST_SHARED",
    "CountCheck",
    "CountRows",
    "Csr",
    "Problems",
    "as_csr",
    "check_counts",
    "check_names",
    "check_values",
    "describe_low_coverage",
    "describe_continuous",
    "describe_missing",
    "describe_small_batches",
    "gene_names",
    "inspect_counts",
    "open_rows",
    "pool_small_batches",
    "recover_counts",
]
