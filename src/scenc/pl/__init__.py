"""Plots: a model's training, and the figures of an encoding benchmark.

The figures draw on axes given, or on a new figure, and return the axes.
"""

from scenc.pl._classification import classification
from scenc.pl._differences import differences
from scenc.pl._encodings import encodings
from scenc.pl._integration import integration
from scenc.pl._reconstruction import reconstruction
from scenc.pl._save import render, save
from scenc.pl._scores import scores
from scenc.pl._training import training
from scenc.pl._training_curves import training_curves
from scenc.results import ResultsLike

__all__ = [
    "ResultsLike",
    "classification",
    "differences",
    "encodings",
    "integration",
    "reconstruction",
    "render",
    "save",
    "scores",
    "training",
    "training_curves",
]
