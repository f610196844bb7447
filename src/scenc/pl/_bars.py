"""Scores as horizontal bars, the best on top, with their values in a column at the right."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.patheffects import withStroke
from matplotlib.ticker import MaxNLocator

from scenc._arguments import choose
from scenc.pl._canvas import (
    decimals,
    mean_and_spread,
    name_entries,
    panels,
    plain,
    readable,
    say_empty,
    single,
)
from scenc.pl._looks import FAINT, INK, MUTED, PLAIN, looks
from scenc.results import (
    LOWER_IS_BETTER,
    METRICS,
    NOWHERE,
    TRAINING_MSE,
    Results,
    as_results,
    diverged,
    spread_unit,
    standing,
    summarise,
    title,
    training_errors,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import FigureBase
    from numpy.typing import NDArray

    from scenc.pl._looks import Look
    from scenc.results import ResultsLike, Summary

_HEIGHT = 0.62  # of a bar, as a fraction of the distance between two
_ROOM = 1.55  # width of the axes with the column of values, relative to that without
_DIVERGED = " †"
_CUT = 3  # longer bars of errors, in medians, are cut
_LABELS = {
    "training": "lowest validation error in training (MSE)",
    "evaluation": "error on the evaluation sets (MSE)",
}


def scores(
    results: ResultsLike | pd.DataFrame,
    metric: str,
    ax: Axes | None = None,
    *,
    points: bool = True,
    legend: bool = True,
) -> Axes:
    """Draw one score of all encodings as bars, the best on top.

    A bar is the mean over data sets of the means over seeds, its line one standard deviation over
    data sets, and each point one data set; with a single data set, line and points are over seeds.
    Colour shows the expression encoder, hatching pretrained gene vectors; controls are hollow,
    baselines grey. An encoding without a value has a word ("undefined", "failed") and no bar.

    Parameters
    ----------
    results
        A benchmark's results, or a tidy table with the columns ``encoding``, ``dataset``,
        ``metric``, ``value`` and, where there are any, ``seed``, ``kind`` (``"encoding"``,
        ``"control"`` or ``"baseline"``), ``gene_encoder`` and ``expression_encoder``.
    metric
        The score's name in the table.
    ax
        Where to draw; ``None``: a new figure.
    points
        Whether to draw a point for each data set.
    legend
        Whether to explain colour and hatching below.

    Raises
    ------
    TypeError
        `results` or `ax` is of another type.
    ValueError
        A column is missing, a value is no number, a score is given twice, or the metric is unknown.

    Examples
    --------
    >>> scenc.pl.scores(results, "nmi")
    """
    given = as_results(results)
    choose(metric, [*dict.fromkeys([*given.metrics, *METRICS])], "metric")
    return _bars(given, metric, ax, points=points, legend=legend)


def classification(
    results: ResultsLike | pd.DataFrame,
    ax: Axes | Sequence[Axes] | NDArray[np.object_] | FigureBase | None = None,
    metrics: Sequence[str] = ("accuracy", "macro_f1"),
) -> NDArray[np.object_]:
    """Draw how well neighbours tell cell types, as bars (Figure 2 of the paper).

    One panel for each metric, the best on top in each; see `scores` for what is drawn.

    Parameters
    ----------
    results
        A benchmark's results or a tidy table; see `scores`.
    ax
        As many axes as metrics, a figure or subfigure to divide, or ``None``: a new figure.
    metrics
        Names of the scores in the table.

    Returns
    -------
    The axes, shape ``(len(metrics),)``.

    Raises
    ------
    TypeError, ValueError
        As in `scores`; or there are not as many axes as metrics.

    Examples
    --------
    >>> fig, axes = plt.subplots(1, 2, figsize=(10, 4), layout="constrained")
    >>> scenc.pl.classification(results, axes)
    """
    axes = panels(ax, (1, len(metrics)), len(metrics), (4.8 * len(metrics), 4.2))
    drawn = [scores(results, metric, on) for metric, on in zip(metrics, axes, strict=True)]
    return np.array(drawn, dtype=object)


def reconstruction(
    results: ResultsLike | pd.DataFrame, ax: Axes | None = None, of: str | None = None
) -> Axes:
    """Draw the error of masked genes, as bars (Figure 3 of the paper).

    The lowest error is on top; see `scores` for what is drawn. A bar more than three times as long
    as the median is cut, which its end shows. Baselines, which do not predict masked genes, are
    left out.

    Parameters
    ----------
    results
        A benchmark's results or a tidy table with the metric ``reconstruction_mse``; see `scores`.
    ax
        Where to draw; ``None``: a new figure.
    of
        ``"training"``: the lowest validation error of each training, which is the paper's measure
        and is read from the training curves. ``"evaluation"``: ``reconstruction_mse``, the error on
        the evaluation sets. ``None``: the first where there are curves.

    Raises
    ------
    TypeError, ValueError
        As in `scores`; or `of` is unknown.

    Examples
    --------
    >>> scenc.pl.reconstruction(results)
    """
    given = as_results(results)
    errors = training_errors(given)
    if of is None:
        of = "evaluation" if errors.empty else "training"
    choose(of, _LABELS, "of")
    scores = given.scores
    baselines = {*scores.loc[scores["kind"] == "baseline", "encoding"]}
    metric = TRAINING_MSE if of == "training" else "reconstruction_mse"
    table = errors if of == "training" else scores[scores["metric"] == metric]
    left_out = baselines - {*table.loc[table["value"].notna(), "encoding"]}
    table, jobs = (rows[~rows["encoding"].isin(left_out)] for rows in (table, given.jobs))
    return _bars(Results.from_tables(table, jobs=jobs), metric, ax, label=_LABELS[of])


def _bars(
    results: Results,
    metric: str,
    ax: Axes | None,
    *,
    label: str | None = None,
    points: bool = True,
    legend: bool = True,
) -> Axes:
    """Draw one metric of all encodings.

    Parameters
    ----------
    results, metric, ax
        As in `scores`.
    label
        Label of the axis; None: the title of the metric.
    points, legend
        As in `scores`.
    """
    label = label or readable(title(metric))
    summary = summarise(results, metric)
    words = standing(results.jobs)
    styles = looks(results.scores)
    rows = [Bar(name, look, summary[name]) for name, look in styles.items() if name in summary]
    rows += [Bar(name, styles.get(name, PLAIN), NOWHERE) for name in words if name not in summary]
    ax = single(ax, (5.0, 0.9 + 0.27 * max(len(rows), 4) + 0.45 * legend))
    ax.set_xlabel(label)
    if not rows:
        say_empty(ax, f"no {label} in these results")
        plain(ax)
        return ax
    lower = metric in LOWER_IS_BETTER
    rows.sort(key=lambda bar: _height(bar.score, lower))
    low, high = _range(rows, lower)
    for y, bar in enumerate(rows):
        _draw(ax, y, bar, high, points)
    _name(ax, [bar.name for bar in rows], diverged(results.jobs))
    _value(ax, rows, spread_unit(results, metric), words)
    _frame(ax, len(rows), low, high)
    if legend:
        _explain(ax, [bar.look for bar in rows if bar.name in summary])
    return ax


class Bar(NamedTuple):
    name: str
    look: Look
    score: Summary


def _height(score: Summary, lower: bool) -> float:
    """Return a key that sorts what has no value first and the best last."""
    return -math.inf if math.isnan(score.mean) else -score.mean if lower else score.mean


def _draw(ax: Axes, y: int, bar: Bar, high: float, points: bool) -> None:
    score, look = bar.score, bar.look
    if math.isnan(score.mean):
        return
    shape: dict[str, Any] = {"y": y, "width": min(score.mean, high), "height": _HEIGHT}
    ax.barh(**shape, color=look.face, edgecolor=look.on_face, hatch=look.hatch, linewidth=0)
    ax.barh(**shape, color="none", edgecolor=look.color if look.hollow else INK, linewidth=0.8)
    if score.mean > high:  # far beyond the others: cut, and torn before its end
        ax.plot(high * 0.95, y, "s", color="white", markersize=10, markeredgewidth=0)
        ax.plot(high * 0.95, y, marker="$//$", color=INK, markersize=9, markeredgewidth=0)
    elif score.n > 1:
        line: dict[str, Any] = {"linewidth": 1.1, "capsize": 2.5, "capthick": 1.1, "zorder": 4}
        halo = [withStroke(linewidth=2.4, foreground="white")]
        ax.errorbar(score.mean, y, xerr=score.sd, color=INK, path_effects=halo, **line)
        if points:
            _strip(ax, y, score.points)


def _strip(ax: Axes, y: int, values: NDArray[np.float64]) -> None:
    """Draw points beside each other, the same at every run."""
    offsets = 0.2 * np.cos(np.pi * np.arange(len(values)))
    style: dict[str, Any] = {"facecolors": "white", "edgecolors": INK, "linewidths": 0.6}
    ax.scatter(values, y + offsets, s=8, zorder=5, alpha=0.85, **style)


def _name(ax: Axes, names: list[str], diverging: set[str]) -> None:
    shown = [readable(name) + (_DIVERGED if name in diverging else "") for name in names]
    ax.set_yticks(range(len(names)), shown)
    ax.tick_params(axis="y", length=0, labelsize="small")


def _value(ax: Axes, rows: list[Bar], unit: str, words: dict[str, str]) -> None:
    """Write the values in a column at the right, inside the axes."""
    places = decimals([bar.score.mean for bar in rows])
    style: dict[str, Any] = {"transform": ax.get_yaxis_transform(), "ha": "right", "va": "center"}
    for y, (name, _, score) in enumerate(rows):
        if math.isnan(score.mean):
            word = words.get(name, "undefined")
            # A model that diverged keeps its best weights and is scored: there is another reason.
            if score is not NOWHERE and word == "diverged":
                word = "undefined"
            ax.text(1.0, y, word, color=MUTED, style="italic", fontsize="small", **style)
        elif score.n < score.of:
            text = (
                f"{mean_and_spread(score.mean, score.sd, places)}\n{score.n} of {score.of} {unit}"
            )
            ax.text(1.0, y, text, color=INK, fontsize="x-small", linespacing=0.95, **style)
        else:
            text = mean_and_spread(score.mean, score.sd, places)
            ax.text(1.0, y, text, color=INK, fontsize="small", **style)


def _range(rows: list[Bar], lower: bool) -> tuple[float, float]:
    """Return where the bars may be; scores between 0 and 1 keep the whole of that range."""
    ends = [end for bar in rows for end in bar.score.ends]
    low, high = min([0.0, *ends]), max([0.0 if lower else 1.0, *ends])
    if lower and high > 0:
        means = [bar.score.mean for bar in rows if bar.score.n]
        high = min(high * 1.04, _CUT * float(np.median(means)))
    return low, high if high > low else low + 1


def _frame(ax: Axes, n: int, low: float, high: float) -> None:
    """Leave the right third to the values."""
    ax.set(xlim=(low, low + _ROOM * (high - low)), ylim=(-0.6, n - 0.4))
    ticks = MaxNLocator(nbins=4, steps=[1, 2, 5, 10]).tick_values(low, high)
    ticks = [tick for tick in ticks if low <= tick <= high * 1.0001]
    ax.set_xticks(ticks)
    ax.vlines(ticks, -0.6, n - 0.4, color=FAINT, linewidth=0.6, zorder=0)
    plain(ax)
    ax.spines["left"].set(visible=low < 0, position=("data", 0))
    ax.spines["bottom"].set_bounds(low, high)
    ax.set_xlabel(ax.get_xlabel(), x=0.5 / _ROOM)


def _explain(ax: Axes, used: list[Look]) -> None:
    entries: dict[str, Any] = {}
    if any(look.hatch for look in used):
        gray: dict[str, Any] = {"facecolor": MUTED, "edgecolor": "white", "linewidth": 0}
        entries["learned genes"] = Patch(**gray)
        entries["pretrained genes"] = Patch(**gray, hatch="////")
    if any(look.hollow for look in used):
        entries["control"] = Patch(facecolor="white", edgecolor=INK, linewidth=0.8)
    if any(not look.letter for look in used):
        entries["baseline"] = Patch(facecolor="#8a9099", edgecolor=INK, linewidth=0.8)
    if any(label.get_text().endswith(_DIVERGED) for label in ax.get_yticklabels()):
        entries["training diverged"] = Line2D([], [], linestyle="", marker="$†$", color=INK)
    if entries:
        box = ax.legend(
            list(entries.values()),
            ["·"] * len(entries),
            loc="upper center",
            bbox_to_anchor=(0.5 / _ROOM, 0),
            borderaxespad=4,
            ncols=2,
            frameon=False,
            fontsize="small",
            handlelength=1.6,
            columnspacing=1.4,
        )
        name_entries(box, list(entries))
