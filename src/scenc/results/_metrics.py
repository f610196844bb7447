"""The scores of a benchmark: what they are called, and which of them are better when lower."""

from __future__ import annotations

from scenc.metrics._integration import TITLES as INTEGRATION_TITLES

TRAINING_MSE = "training_mse"
"""The paper's measure of reconstruction, read from training curves: see `training_errors`."""

TITLES = {
    **INTEGRATION_TITLES,
    "accuracy": "accuracy",
    "macro_f1": "macro F1",
    "reconstruction_mse": "mean squared error of masked genes",
    TRAINING_MSE: "lowest validation error (MSE)",
}

METRICS = tuple(metric for metric in TITLES if metric != TRAINING_MSE)
"""The scores that a benchmark computes for each embedding, in the order of its tables."""

_OF_LABELS = ("bio_preservation", "nmi", "ari", "accuracy", "macro_f1")
MUST_FALL = {
    "genes": (*_OF_LABELS, "reconstruction_mse"),
    "expression": ("reconstruction_mse",),
    "labels": _OF_LABELS,
}
"""For each negative control the scores that rest on what it shuffles."""

LOWER_IS_BETTER = frozenset({"reconstruction_mse", TRAINING_MSE})


def title(metric: str) -> str:
    """Return what a score is called in figures and tables; an unknown one keeps its name."""
    return TITLES.get(metric, metric)
