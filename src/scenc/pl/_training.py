from __future__ import annotations

from typing import TYPE_CHECKING

import matplotlib.pyplot as plt
import pandas as pd

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from scenc.model import Model


_LABELS = {
    "reconstruction_loss_validation": "mean squared error of masked genes",
    "validation_loss": "loss (contrast, anchor and masked genes)",
}


def training(model: Model, ax: Axes | None = None) -> Axes:
    """Draw a model's training and validation loss by optimizer step.

    Parameters
    ----------
    model
        A trained model.
    ax
        Where to draw; ``None``: a new figure.

    Raises
    ------
    ValueError
        The model has no curves.

    Examples
    --------
    >>> scenc.pl.training(model)
    """
    history = model.history
    if not history:
        raise ValueError("The model has no training curves: call model.train() first.")
    if ax is None:
        _, ax = plt.subplots(figsize=(5, 3.5), layout="constrained")
    train = history["train_loss"]["train_loss"]
    smooth = train.rolling(max(1, len(train) // 50), min_periods=1, center=True).mean()
    ax.plot(train.index, train, color="#9ecae1", linewidth=0.6, label="training, each step")
    ax.plot(smooth.index, smooth, color="#08519c", linewidth=1.5, label="training, smoothed")
    name = "validation_loss" if "validation_loss" in history else "reconstruction_loss_validation"
    validation = history[name][name]
    if len(validation):
        ax.plot(
            validation.index,
            validation,
            color="#d94801",
            marker="o",
            markersize=3,
            linewidth=1.2,
            label="validation",
        )
    ax.set(xlabel="optimizer step", ylabel=_LABELS[name])
    # The first steps would squeeze all others into a line.
    later = [curve.loc[curve.index >= len(train) // 10].max() for curve in (smooth, validation)]
    ax.set_ylim(0, 1.1 * float(pd.Series(later).max()))
    ax.legend(frameon=False)
    ax.spines[["top", "right"]].set_visible(False)
    return ax
