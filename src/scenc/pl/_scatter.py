"""Batch correction against biological preservation, a marker for each encoding."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from matplotlib.legend_handler import HandlerTuple
from matplotlib.lines import Line2D

from scenc.pl._canvas import name_entries, plain, readable, say_empty, single
from scenc.pl._looks import MUTED, looks
from scenc.results import NOWHERE, as_results, spread_unit, standing, summarise, title

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

    from scenc.pl._looks import Look
    from scenc.results import ResultsLike, Summary

X, Y = "batch_correction", "bio_preservation"
_SIZE = 10.5  # of a marker, points


def integration(
    results: ResultsLike | pd.DataFrame, ax: Axes | None = None, *, legend: bool = True
) -> Axes:
    """Draw batch correction against biological preservation (Figure 1 of the paper).

    A marker is the mean over data sets of the means over seeds, its lines one standard deviation
    over data sets; with a single data set, over its seeds. Colour and letter tell the expression
    encoder, the marker's shape the gene encoder; controls are hollow, baselines grey. Encodings
    without one of the two scores cannot be placed and are named below the axes.

    Parameters
    ----------
    results
        A benchmark's results or a tidy table; see `scores`.
    ax
        Where to draw; ``None``: a new figure.
    legend
        Whether to explain the markers beside the axes.

    Raises
    ------
    TypeError, ValueError
        As in `scores`.

    Examples
    --------
    >>> fig, ax = plt.subplots()
    >>> scenc.pl.integration(results, ax)
    """
    given = as_results(results)
    table, x, y = given.scores, summarise(given, X), summarise(given, Y)
    places = {
        name: Place(look, x.get(name, NOWHERE), y.get(name, NOWHERE))
        for name, look in looks(table[table["metric"].isin([X, Y])]).items()
    }
    drawn = {name: place for name, place in places.items() if place.x.n and place.y.n}
    ax = single(ax, (5.6, 3.6))
    ax.set(xlabel=title(X), ylabel=title(Y))
    plain(ax)
    if not drawn:
        empty = f"{title(X)} or {title(Y)} is undefined\nfor every encoding"
        say_empty(ax, empty if places else f"no {title(X)} or {title(Y)}\nin these results")
        return ax
    for order, place in enumerate(reversed(drawn.values())):  # the grid on top, baselines below
        _draw(ax, place, zorder=3 + 0.1 * order)
    ax.margins(0.06)
    if legend:
        _explain(ax, {name: place.look for name, place in drawn.items()})
    _note(ax, places, spread_unit(given, X), standing(given.jobs))
    return ax


class Place(NamedTuple):
    look: Look
    x: Summary
    y: Summary


def _draw(ax: Axes, place: Place, zorder: float) -> None:
    look, x, y = place
    line: dict[str, Any] = {"color": look.color, "linewidth": 1, "alpha": 0.55, "zorder": 2}
    if x.n > 1:
        ax.errorbar(x.mean, y.mean, xerr=x.sd, fmt="none", **line)
    if y.n > 1:
        ax.errorbar(x.mean, y.mean, yerr=y.sd, fmt="none", **line)
    for part in _marker(look):
        part.set_data([x.mean], [y.mean])
        part.set_zorder(zorder)
        zorder += 0.05
        ax.add_line(part)


def _marker(look: Look) -> list[Line2D]:
    """Return the marker and the letter on it; the letter is a marker, so that it sits in place."""
    disc = {
        "marker": look.marker,
        "markersize": _SIZE if look.letter else 0.85 * _SIZE,
        "markerfacecolor": look.face,
        "markeredgecolor": look.color if look.hollow else "white",
        "markeredgewidth": 1.4 if look.hollow else 0.8,
    }
    letter = {
        "marker": rf"$\mathbf{{{look.letter}}}$",
        "markersize": _SIZE * (0.26 + 0.22 * len(look.letter)),
        "markerfacecolor": look.on_face,
        "markeredgewidth": 0,
    }
    parts: list[dict[str, Any]] = [disc, letter] if look.letter else [disc]
    return [Line2D([], [], linestyle="", **part) for part in parts]


def _explain(ax: Axes, styles: dict[str, Look]) -> None:
    box = ax.legend(
        [tuple(_marker(look)) for look in styles.values()],
        ["·"] * len(styles),
        handler_map={tuple: HandlerTuple(ndivide=1)},
        loc="center left",
        bbox_to_anchor=(1.01, 0.5),
        frameon=False,
        fontsize="small",
        handlelength=1.4,
        labelspacing=0.65,
    )
    name_entries(box, list(styles))


def _note(ax: Axes, places: dict[str, Place], unit: str, words: dict[str, str]) -> None:
    """Say below the axes what the lines are, and which encodings lack scores or some of them."""
    most = max(min(place.x.n, place.y.n) for place in places.values())
    lines = [f"lines: 1 standard deviation over {most} {unit}"] if most > 1 else []
    for name, (_, x, y) in places.items():
        if not (x.n and y.n):
            what = " and ".join(title(metric) for metric, score in ((X, x), (Y, y)) if not score.n)
            word = "failed" if words.get(name) == "failed" else "undefined"
            lines.append(f"not drawn: {readable(name)}, {what} {word}")
        elif min(x.n, y.n) < most:
            lines.append(f"{readable(name)}: {min(x.n, y.n)} of {most} {unit}")
    absent = {name: word for name, word in words.items() if name not in places}
    lines += [f"not drawn: {readable(name)}, {word}" for name, word in absent.items()]
    style: dict[str, Any] = {"va": "top", "fontsize": "x-small", "color": MUTED}
    below: dict[str, Any] = {"xycoords": "axes fraction", "textcoords": "offset points"}
    if lines:
        ax.annotate("\n".join(lines), (0, 0), (0, -34), **below, **style)
