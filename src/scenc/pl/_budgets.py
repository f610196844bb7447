"""Scores against the budget of training, a line for each encoding."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from scenc._arguments import choose
from scenc.pl._canvas import name_entries, panels, plain, readable, say_empty
from scenc.pl._looks import FAINT, INK, MUTED, looks
from scenc.results import METRICS, as_results, title

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import FigureBase
    from numpy.typing import NDArray

    from scenc.pl._looks import Look
    from scenc.results import ResultsLike

_MAIN = ("batch_correction", "bio_preservation", "accuracy", "macro_f1")
_LABELS = {"reconstruction_mse": "error of masked genes (MSE)\nlower is better"}
# Of lines of baselines, which are grey: how they are told apart.
_BASELINE_DASHES = ((), (5, 2), (1, 1.5), (5, 1.5, 1, 1.5))


def budgets(
    results: ResultsLike | pd.DataFrame,
    ax: Axes | Sequence[Axes] | NDArray[np.object_] | FigureBase | None = None,
    metrics: Sequence[str] | None = None,
) -> NDArray[np.object_]:
    """Draw scores by visits of cells in training, a panel for each score.

    A line for each encoding: its mean over data sets of the means over seeds at each budget, on a
    logarithmic axis. Colour shows the expression encoder; learned genes are solid lines and discs,
    pretrained ones dashed with squares, controls hollow. Baselines, which have no budget, are grey
    lines across. A budget at which an encoding lacks data sets that others have is left out, since
    means over other data sets cannot be compared, and named below.

    Parameters
    ----------
    results
        A benchmark's results or a tidy table with the column ``budget``; see `scores`.
    ax
        As many axes as metrics, a figure or subfigure to divide, or ``None``: a new figure.
    metrics
        Names of the scores in the table; ``None``: the two means, accuracy and macro F1, where they
        are there.

    Returns
    -------
    The axes, shape ``(len(metrics),)``.

    Raises
    ------
    TypeError, ValueError
        As in `scores`; or there are not as many axes as metrics.

    Examples
    --------
    >>> scenc.pl.budgets(results, metrics=["macro_f1"])
    """
    given = as_results(results)
    known = [*dict.fromkeys([*given.metrics, *METRICS])]
    if metrics is None:
        metrics = [metric for metric in _MAIN if metric in given.metrics] or list(_MAIN[:1])
    for metric in metrics:
        choose(metric, known, "metrics")
    columns = min(2, len(metrics))
    shape = (math.ceil(len(metrics) / columns), columns)
    axes = panels(ax, shape, len(metrics), (3.4 * columns + 2.0, 2.9 * shape[0] + 0.3))
    means, styles = given.summary(), looks(given.scores)
    lacking: set[tuple[str, int]] = set()
    drawn: set[str] = set()
    for on, metric in zip(axes, metrics, strict=True):
        table = means[(means["metric"] == metric) & means["mean"].notna()]
        whole = table[table["n_datasets"] == table["n_datasets"].max()]
        short = table.loc[~table.index.isin(whole.index)].dropna(subset="budget")
        lacking.update(zip(short["encoding"], short["budget"].astype(int), strict=True))
        drawn.update(whole["encoding"])
        _draw(on, metric, whole, styles, given.budgets)
    shown = {name: look for name, look in styles.items() if name in drawn}
    _explain(axes[columns - 1], shown, [*_baselines(given.scores)])
    _note(axes[-columns], given.scores, lacking)
    return np.array(axes, dtype=object)


def _draw(
    ax: Axes, metric: str, means: pd.DataFrame, styles: dict[str, Look], ticks: Sequence[int]
) -> None:
    """Draw one score of all encodings; `means` holds a row for each encoding and budget."""
    plain(ax)
    ax.set(
        ylabel=_LABELS.get(metric, readable(title(metric))), xlabel="visits of cells in training"
    )
    limited = means.dropna(subset="budget")
    if limited.empty:
        say_empty(ax, f"no {readable(title(metric))}\nat a budget in these results")
        return
    ax.set_xscale("log")
    for number, baseline in enumerate(_baselines(means)):
        value = float(means.loc[means["encoding"] == baseline, "mean"].iloc[0])
        ax.axhline(value, color=MUTED, linewidth=1.2, zorder=1, **_dashes(_baseline(number)))
    for name, rows in limited.groupby("encoding", sort=False):
        rows = rows.sort_values("budget")
        ax.plot(rows["budget"].astype(float), rows["mean"], zorder=3, **_line(styles[str(name)]))
    ax.xaxis.set_major_locator(FixedLocator(list(ticks)))
    ax.xaxis.set_minor_locator(NullLocator())
    ax.xaxis.set_major_formatter(FuncFormatter(lambda visits, _: _short(visits)))
    ax.set_xlim(ticks[0] / 1.25, ticks[-1] * 1.25)
    ax.grid(axis="y", color=FAINT, linewidth=0.6)
    ax.set_axisbelow(True)


def _baselines(table: pd.DataFrame) -> Iterable[str]:
    """Return what has no budget, in the order of the table."""
    return dict.fromkeys(table.loc[table["budget"].isna(), "encoding"])


def _baseline(number: int) -> tuple[float, ...]:
    return _BASELINE_DASHES[number % len(_BASELINE_DASHES)]


def _line(look: Look) -> dict[str, Any]:
    return {
        "color": look.color,
        "linewidth": 1.4,
        "marker": look.marker,
        "markersize": 5.5,
        "markerfacecolor": look.face,
        "markeredgecolor": look.color if look.hollow else "white",
        "markeredgewidth": 1.1 if look.hollow else 0.6,
        **_dashes(look.dashes),
    }


def _dashes(lengths: tuple[float, ...]) -> dict[str, Any]:
    return {"dashes": lengths} if lengths else {}


def _short(visits: float) -> str:
    """Return a number of visits as a tick's label: 250k, 1.5M."""
    for size, letter in ((1_000_000, "M"), (1000, "k")):
        if visits >= size:
            return f"{visits / size:g}{letter}"
    return f"{visits:g}"


def _explain(ax: Axes, styles: dict[str, Look], baselines: list[str]) -> None:
    entries = {name: _line(look) for name, look in styles.items() if name not in baselines}
    for number, name in enumerate(baselines):
        if name in styles:
            entries[name] = {"color": MUTED, "linewidth": 1.2, **_dashes(_baseline(number))}
    if not entries:
        return
    box = ax.legend(
        [Line2D([], [], **entry) for entry in entries.values()],
        ["·"] * len(entries),
        loc="upper left",
        bbox_to_anchor=(1.02, 1.0),
        frameon=False,
        fontsize="small",
        handlelength=2.8,
        labelcolor=INK,
    )
    name_entries(box, list(entries))


def _note(ax: Axes, scores: pd.DataFrame, lacking: set[tuple[str, int]]) -> None:
    """Say below how many data sets and seeds the lines are means of, and what is left out."""
    limited = scores.dropna(subset=["budget", "value"])
    if limited.empty:
        return
    counts = limited.groupby(["encoding", "budget"])["seed"].nunique()
    least, most = int(counts.min()), int(counts.max())
    seeds = f"{most} seed{'s' if most > 1 else ''}" if least == most else f"{least} to {most} seeds"
    lines = [f"means over {limited['dataset'].nunique()} data sets and {seeds}"]
    if lacking:
        names = [f"{readable(name)} at {_short(budget)}" for name, budget in sorted(lacking)]
        more = f" and {len(names) - 3} more" if len(names) > 3 else ""
        lines.append(f"left out, not on all data sets: {', '.join(names[:3])}{more}")
    style: dict[str, Any] = {"va": "top", "fontsize": "x-small", "color": MUTED}
    below: dict[str, Any] = {"xycoords": "axes fraction", "textcoords": "offset points"}
    ax.annotate("\n".join(lines), (0, 0), (0, -36), annotation_clip=False, **below, **style)
