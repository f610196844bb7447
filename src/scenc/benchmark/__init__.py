"""The encoding benchmark: encodings trained alike, judged alike, on anyone's data.

Importing it is light; PyTorch, scvi-tools and the rest are loaded by what needs them.
"""

from __future__ import annotations

from scenc.benchmark._benchmark import Benchmark
from scenc.benchmark._encodings import Encoding, grid
from scenc.benchmark._methods import PCA, SCVI, Method, Untrained
from scenc.benchmark._report import published, write_report
from scenc.benchmark._results import Results
from scenc.benchmark._sets import EvaluationSet, TrainingSet

__all__ = [
    "PCA",
    "SCVI",
    "Benchmark",
    "Encoding",
    "EvaluationSet",
    "Method",
    "Results",
    "TrainingSet",
    "Untrained",
    "grid",
    "published",
    "write_report",
]
