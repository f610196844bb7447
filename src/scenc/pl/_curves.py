"""Training curves: of one model, and of all trainings of a benchmark."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from matplotlib.lines import Line2D

from scenc._arguments import choose
from scenc.pl._canvas import name_entries, panels, plain, readable, say_empty, single
from scenc.pl._looks import EXPRESSION_COLORS, INK, looks
from scenc.results import as_results

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes
    from matplotlib.figure import FigureBase
    from numpy.typing import NDArray

    from scenc.model import Model
    from scenc.pl._looks import Look
    from scenc.results import Results, ResultsLike

_MODEL_LOSSES = {
    "reconstruction_loss_validation": "mean squared error of masked genes",
    "validation_loss": "loss, all terms",
}
_RESULTS_LOSSES = {
    "reconstruction_loss_validation": "validation error (MSE)",
    "reconstruction_loss_train": "training error (MSE)",
}
# Of the steps. Errors fall so far in them that, on their scale, all later ones would look flat.
_EARLY = 0.1


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
    ax = single(ax, (5, 3.5))
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
    ax.set(xlabel="optimizer step", ylabel=_MODEL_LOSSES[name])
    # The first steps would squeeze all others into a line.
    later = [curve.loc[curve.index >= len(train) // 10].max() for curve in (smooth, validation)]
    ax.set_ylim(0, 1.1 * float(pd.Series(later).max()))
    ax.legend(frameon=False)
    ax.spines[["top", "right"]].set_visible(False)
    return ax


def training_curves(
    results: ResultsLike | pd.DataFrame,
    ax: Axes | Sequence[Axes] | NDArray[np.object_] | FigureBase | None = None,
    metric: str = "reconstruction_loss_validation",
) -> NDArray[np.object_]:
    """Draw the loss of all encodings by optimizer step, a panel for each expression encoder.

    One line for each seed; learned genes are solid, protein genes dashed, controls dotted. A cross
    marks where a training diverged. All panels have the same scale: that of the errors after the
    first tenth of the steps and before a divergence; lines may leave it at the top.

    Parameters
    ----------
    results
        A benchmark's results, or its table of curves: ``encoding``, ``seed``, ``metric``, ``step``
        and ``value``. The encoders of an encoding are read from the table of scores; with curves
        alone they are not known, and each encoding has its own panel.
    ax
        As many axes as there are panels, a figure or subfigure to divide, or ``None``: a new
        figure.
    metric
        ``"reconstruction_loss_validation"`` or ``"reconstruction_loss_train"``.

    Returns
    -------
    The axes, one for each panel; a single one that says so where there are no curves.

    Raises
    ------
    TypeError, ValueError
        `results` is of another type, a column is missing, the metric is unknown, or there are not
        as many axes as panels.

    Examples
    --------
    >>> scenc.pl.training_curves(results)
    """
    choose(metric, _RESULTS_LOSSES, "metric")
    given = as_results(results, "curves")
    curves = given.curves[(given.curves["metric"] == metric) & given.curves["value"].notna()]
    styles, groups = _group(given, curves)
    if not groups:
        axes = panels(ax, (1, 1), 1, (4.0, 3.0))
        say_empty(axes[0], "no training curves in these results")
        return np.array(axes, dtype=object)
    columns = min(len(groups), 2)
    rows = math.ceil(len(groups) / columns)
    size = (3.3 * columns + 0.4, 2.5 * rows + 0.5)
    axes = panels(ax, (rows, columns), len(groups), size)
    crosses = _crosses(given.jobs, curves)
    for on, (name, encodings) in zip(axes, groups.items(), strict=True):
        for encoding in encodings:
            _draw(on, curves[curves["encoding"] == encoding], styles[encoding], crosses)
        _explain(on, name, encodings, styles, crosses)
    _scale(axes, curves, crosses)
    _label(axes, columns, _RESULTS_LOSSES[metric])
    return np.array(axes, dtype=object)


def _group(results: Results, curves: pd.DataFrame) -> tuple[dict[str, Look], dict[str, list[str]]]:
    """Return the looks of the encodings that have curves, and their names by panel."""
    table = curves[["encoding"]].drop_duplicates()
    table = table.merge(results.encodings, on="encoding", how="left")
    expression = dict(zip(table["encoding"], table["expression_encoder"].fillna(""), strict=True))
    styles = looks(table)
    groups: dict[str, list[str]] = {}
    for name in styles:
        groups.setdefault(expression[name] or name, []).append(name)
    return styles, groups


def _crosses(
    jobs: pd.DataFrame, curves: pd.DataFrame
) -> dict[tuple[str, Any], tuple[float, float]]:
    """Return the point of each diverged training's curve where it diverged."""
    jobs = jobs[(jobs["status"] == "diverged") & jobs["diverged_step"].notna()]
    points = {}
    for name, seed, step in zip(
        jobs["encoding"], jobs["seed"], jobs["diverged_step"].astype(float), strict=True
    ):
        line = curves[(curves["encoding"] == name) & (curves["seed"] == seed)].sort_values("step")
        if len(line):
            points[name, seed] = (step, float(np.interp(step, line["step"], line["value"])))
    return points


def _draw(
    ax: Axes,
    curves: pd.DataFrame,
    look: Look,
    crosses: dict[tuple[str, Any], tuple[float, float]],
) -> None:
    for seed, line in curves.groupby("seed", sort=True, dropna=False):
        line = line.sort_values("step")
        dashes: dict[str, Any] = {"dashes": look.dashes} if look.dashes else {}
        ax.plot(line["step"], line["value"], color=look.color, linewidth=1.2, **dashes)
        cross = crosses.get((line["encoding"].iloc[0], seed))
        if cross:
            ax.plot(*cross, **_cross(look.color))


def _cross(color: str) -> dict[str, Any]:
    return {
        "linestyle": "",
        "marker": "X",
        "markersize": 8,
        "markerfacecolor": color,
        "markeredgecolor": "white",
        "zorder": 5,
    }


def _explain(
    ax: Axes,
    panel: str,
    encodings: list[str],
    styles: dict[str, Look],
    crosses: dict[tuple[str, Any], tuple[float, float]],
) -> None:
    plain(ax)
    name = f"{panel} expression" if panel in EXPRESSION_COLORS else readable(panel)
    ax.set_title(name, loc="left", fontsize="medium")
    entries = []
    for name in encodings:
        look = styles[name]
        entries.append(Line2D([], [], color=look.color, linewidth=1.2))
        if look.dashes:
            entries[-1].set_dashes(look.dashes)
    names = list(encodings)
    if any(name in encodings for name, _ in crosses):
        entries.append(Line2D([], [], **_cross(INK)))
        names.append("diverged")
    box = ax.legend(
        entries,
        ["·"] * len(names),
        loc="upper right",
        edgecolor="none",
        framealpha=0.85,
        fontsize="x-small",
        handlelength=2.6,
    )
    name_entries(box, names)


def _scale(
    axes: list[Axes], curves: pd.DataFrame, crosses: dict[tuple[str, Any], tuple[float, float]]
) -> None:
    steps = float(curves["step"].max())
    ends = [
        crosses.get((name, seed), (math.inf, math.nan))[0]
        for name, seed in zip(curves["encoding"], curves["seed"], strict=True)
    ]
    shown = curves[(curves["step"] >= _EARLY * steps) & (curves["step"] <= np.array(ends))]
    values = curves["value"] if shown.empty else shown["value"]
    low, high = float(values.min()), float(values.quantile(0.999))
    room = (high - low) or abs(high) or 1.0
    for ax in axes:
        ax.set(xlim=(0, steps * 1.02), ylim=(low - 0.06 * room, high + 0.25 * room))


def _label(axes: list[Axes], columns: int, label: str) -> None:
    for place, ax in enumerate(axes):
        if place >= len(axes) - columns:
            ax.set_xlabel("optimizer step")
        if place % columns == 0:
            ax.set_ylabel(label)
