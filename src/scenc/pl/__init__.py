"""Plots: a model's training, a query on a reference's map, figures of an encoding benchmark.

The figures draw on axes given, or on a new figure, and return the axes.
"""

from scenc.pl._bars import classification, reconstruction, scores
from scenc.pl._curves import training, training_curves
from scenc.pl._differences import differences
from scenc.pl._encoder_scheme import encodings
from scenc.pl._explanations import attributions
from scenc.pl._mapping import mapping
from scenc.pl._save import render, save
from scenc.pl._scatter import integration
from scenc.results import ResultsLike

__all__ = [
    "ResultsLike",
    "attributions",
    "classification",
    "differences",
    "encodings",
    "integration",
    "mapping",
    "reconstruction",
    "render",
    "save",
    "scores",
    "training",
    "training_curves",
]
