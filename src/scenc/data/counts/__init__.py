"""Rows of raw counts from any matrix, and their checks."""

from scenc.data.counts._check import CountCheck, check_counts
from scenc.data.counts._recover import recover_counts
from scenc.data.counts._rows import CountRows, Csr, open_rows

__all__ = [
    "CountCheck",
    "CountRows",
    "Csr",
    "check_counts",
    "open_rows",
    "recover_counts",
]
