"""The encoding benchmark: encodings trained and evaluated in the same way, on any data.

Importing it is light; PyTorch, scvi-tools and the rest are loaded by what needs them.
"""

from __future__ import annotations

from scenc.benchmark._benchmark import Benchmark
from scenc.benchmark.entries._encodings import Encoding, grid
from scenc.benchmark.entries._methods import PCA, SCVI, Method, Untrained
from scenc.benchmark.entries._published_encodings import published_encodings
from scenc.benchmark.entries._sets import EvaluationSet, TrainingSet
from scenc.benchmark.report import published, write_report
from scenc.results import Results

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
    "published_encodings",
    "write_report",
]
