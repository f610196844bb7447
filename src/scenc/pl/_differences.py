"""Relative differences between encodings, with their intervals."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator, PercentFormatter

from scenc.pl._canvas import plain, readable, say_empty, single
from scenc.pl._looks import FAINT, INK, MUTED
from scenc.results import INTERVALS, tidy, title

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd
    from matplotlib.axes import Axes

_COLUMNS = ["within", "relative", "relative_low", "relative_high"]
_CERTAIN = "#14335f"


def differences(
    intervals: pd.DataFrame, metric: str, ax: Axes | None = None, *, legend: bool = True
) -> Axes:
    """Draw relative differences between encodings with their intervals.

    A filled point is a difference whose interval leaves zero out, a hollow one a difference that
    may be none, or has no interval.

    Parameters
    ----------
    intervals
        What `scenc.benchmark.Results.bootstrap` returned, or some of its rows: ``comparison``,
        ``within``, ``metric``, ``relative``, ``relative_low`` and ``relative_high``.
    metric
        The score's name in the table.
    ax
        Where to draw; ``None``: a new figure.
    legend
        Whether to explain the points below.

    Raises
    ------
    TypeError, ValueError
        `intervals` is no table, or lacks a column.

    Examples
    --------
    >>> scenc.pl.differences(results.bootstrap(metrics=["accuracy"]), "accuracy")
    """
    table = tidy(intervals, INTERVALS, "intervals")
    table = table[(table["metric"] == metric) & table["relative"].notna()]
    groups = dict(list(table.groupby("comparison", sort=False)))
    height = 0.9 + 0.24 * (len(table) + len(groups)) + 0.25 * legend
    ax = single(ax, (5.0, max(height, 1.6)))
    ax.set_xlabel(f"{readable(title(metric))}: relative difference")
    if table.empty:
        say_empty(ax, f"no difference in {readable(title(metric))} in this table")
        plain(ax)
        return ax
    y, heads, names = 0.0, [], []
    for comparison, rows in groups.items():
        heads.append((y, readable(comparison, 60)))
        for within, middle, low, high in rows[_COLUMNS].itertuples(index=False, name=None):
            y -= 1
            _draw(ax, y, middle, low, high)
            names.append((y, readable(within)))
        y -= 1.35
    _frame(ax, heads, names, table)
    if legend:
        _explain(ax)
    return ax


def _draw(ax: Axes, y: float, middle: float, low: float, high: float) -> None:
    certain = high > low and (low > 0 or high < 0)  # of a single score there is no interval
    style = _point(certain)
    if np.isfinite([low, high]).all():
        line = {"color": style["markeredgecolor"], "linewidth": 1.4}
        ax.plot([low, high], [y, y], solid_capstyle="butt", **line)
    ax.plot(middle, y, **style)
    text = f"{100 * middle:+.1f} %".replace("-", "\N{MINUS SIGN}")
    place: dict[str, Any] = {"ha": "right", "va": "center", "fontsize": "small"}
    ax.text(1.0, y, text, transform=ax.get_yaxis_transform(), color=INK, **place)


def _point(certain: bool) -> dict[str, Any]:
    color = _CERTAIN if certain else MUTED
    face = color if certain else "white"
    return {"marker": "o", "markersize": 5.5, "markeredgecolor": color, "markerfacecolor": face}


def _frame(
    ax: Axes,
    heads: Sequence[tuple[float, str]],
    names: Sequence[tuple[float, str]],
    table: pd.DataFrame,
) -> None:
    ends = table[_COLUMNS[1:]].to_numpy(float)
    ends = ends[np.isfinite(ends)]
    low, high = min(0.0, ends.min()), max(0.0, ends.max())
    room = (high - low) or 1.0
    low, high = low - 0.03 * room, high + 0.03 * room
    bottom, top = names[-1][0] - 0.7, 0.6
    ax.set(xlim=(low, high + 0.28 * (high - low)), ylim=(bottom, top))
    ticks = MaxNLocator(nbins=5, steps=[1, 2, 5, 10]).tick_values(low, high)
    ticks = [tick for tick in ticks if low <= tick <= high]
    ax.set_xticks(ticks)
    ax.xaxis.set_major_formatter(PercentFormatter(1, decimals=0, symbol=" %"))
    ax.vlines(ticks, bottom, top, color=FAINT, linewidth=0.6, zorder=0)
    ax.vlines(0, bottom, top, color=INK, linewidth=0.9, zorder=1)
    places = sorted([*heads, *names], reverse=True)
    ax.set_yticks([y for y, _ in places], [name for _, name in places])
    plain(ax)
    ax.tick_params(axis="y", length=0, labelsize="small")
    for label, place in zip(ax.get_yticklabels(), places, strict=True):
        label.set_fontweight("bold" if place in heads else "normal")
    ax.spines["left"].set_visible(False)
    ax.spines["bottom"].set_bounds(low, high)


def _explain(ax: Axes) -> None:
    points = [
        Line2D([], [], color=_point(certain)["markeredgecolor"], linewidth=1.4, **_point(certain))
        for certain in (True, False)
    ]
    ax.legend(
        points,
        ["interval without zero", "with zero, or none"],
        loc="upper center",
        bbox_to_anchor=(0.4, 0),
        borderaxespad=4,
        ncols=2,
        frameon=False,
        fontsize="small",
    )
