"""Axes to draw on, and the few things that all figures have in common."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import FigureBase

from scenc.pl._looks import INK, MUTED

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.legend import Legend
    from numpy.typing import NDArray


def single(ax: Axes | None, size: tuple[float, float]) -> Axes:
    """Return the axes given, or those of a new figure.

    Raises
    ------
    TypeError
        Not axes.
    """
    if ax is None:
        _, ax = plt.subplots(figsize=size, layout="constrained")
    if not isinstance(ax, Axes):
        raise TypeError(f"ax must be matplotlib Axes, got {type(ax).__name__}.")
    return ax


def panels(
    where: Axes | Sequence[Axes] | NDArray[np.object_] | FigureBase | None,
    shape: tuple[int, int],
    n: int,
    size: tuple[float, float],
) -> list[Axes]:
    """Return `n` axes: those given, or new ones in a grid of a figure given or new.

    Raises
    ------
    TypeError, ValueError
        Not axes, or fewer or more than are drawn on.
    """
    if where is None:
        where = plt.figure(figsize=size, layout="constrained")
    if isinstance(where, FigureBase):
        grid = np.ravel(where.subplots(*shape, squeeze=False))
        for ax in grid[n:]:
            ax.remove()
        return list(grid[:n])
    axes = [where] if isinstance(where, Axes) else list(np.ravel(np.asarray(where, dtype=object)))
    for ax in axes:
        if not isinstance(ax, Axes):
            raise TypeError(f"ax must be matplotlib Axes or a figure, got {type(ax).__name__}.")
    if len(axes) != n:
        raise ValueError(f"ax: this figure has {n} panels, got {len(axes)} axes.")
    return axes


def plain(ax: Axes) -> None:
    """Remove the frame at the top and right, and grey the rest."""
    ax.spines[["top", "right"]].set_visible(False)
    ax.spines[["left", "bottom"]].set_color(MUTED)
    ax.tick_params(color=MUTED, labelcolor=INK)


def readable(name: object, width: int = 36) -> str:
    """Return a name fit for a figure: one line, printable, shortened, dollar signs escaped."""
    text = " ".join(str(name).split())
    text = "".join(letter if letter.isprintable() else "\ufffd" for letter in text)
    text = text if len(text) <= width else text[: width - 1].rstrip() + "…"
    return text.replace("$", r"\$")


def say_empty(ax: Axes, text: str) -> None:
    """Say in the middle of empty axes why they are empty."""
    ax.set(xticks=[], yticks=[])
    style: dict[str, Any] = {"ha": "center", "va": "center", "color": MUTED, "style": "italic"}
    ax.text(0.5, 0.5, text, transform=ax.transAxes, **style)


def name_entries(legend: Legend, names: Sequence[str]) -> None:
    """Put names into a legend of placeholders, which may begin with an underscore."""
    for text, name in zip(legend.get_texts(), names, strict=True):
        text.set_text(readable(name))


def decimals(values: Sequence[float] | NDArray[np.float64]) -> int:
    """Return how many decimals show three digits of the largest value, at least three."""
    largest = max((abs(value) for value in values if math.isfinite(value)), default=0.0)
    return 3 if largest == 0 else min(9, max(3, 2 - math.floor(math.log10(largest))))


def mean_and_spread(mean: float, sd: float, places: int) -> str:
    """Return ``0.550 ± 0.070``, or the mean alone where there is no spread."""
    text = f"{mean:.{places}f}"
    return text if math.isnan(sd) else f"{text} ± {sd:.{places}f}"
