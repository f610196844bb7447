"""The report: results as one HTML page, with the paper's published numbers beside them."""

from __future__ import annotations

from scenc.benchmark.report._published import published
from scenc.benchmark.report._write import write_report

__all__ = ["published", "write_report"]
