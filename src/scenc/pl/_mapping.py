"""A query on the map of its reference: types of both, and where the query is not at home."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from scenc._printing import list_some
from scenc.io import column_names
from scenc.pl._canvas import name_entries, panels
from scenc.pl._looks import FAINT, INK, MUTED
from scenc.tasks import UNKNOWN_LABEL

if TYPE_CHECKING:
    from collections.abc import Sequence

    from anndata import AnnData
    from matplotlib.axes import Axes
    from matplotlib.figure import FigureBase
    from mudata import MuData
    from numpy.typing import NDArray

_BASIS, _SCORE = "X_umap_joint", "mapping_score"
# Area of a point, in points squared, where there are 1,000 cells; smaller where there are more.
_POINT = 14.0
_UNKNOWN_COLOR = "#16181c"


def mapping(
    reference: AnnData | MuData,
    query: AnnData | MuData,
    color: str | None = "cell_type",
    query_color: str | None = None,
    ax: Axes | Sequence[Axes] | NDArray[np.object_] | FigureBase | None = None,
    *,
    basis: str = "X_umap_joint",
    legend: bool = True,
) -> NDArray[np.object_]:
    """Draw a query on the map of its reference, after `scenc.Model.map`.

    Three panels: the reference by its labels; the query by its own, with the reference in grey
    behind; the query by its mapping score, where cells with a score near 0 are unlike all of the
    reference. Labels of the same name have the same colour in both.

    Parameters
    ----------
    reference, query
        The two, with ``obsm["X_umap_joint"]``, and ``obs["mapping_score"]`` of the query.
    color
        Column of the reference's obs to colour by; its ``uns["..._colors"]`` are used if they are
        there. ``None``: one colour.
    query_color
        Column of the query's obs; ``None``: ``color + "_pred"``, which `scenc.Model.annotate`
        writes, if it is there, else `color`, if it is there, else one colour.
    ax
        Three axes, or a figure to draw in; ``None``: a new figure.
    basis
        Key of obsm with the coordinates of both.
    legend
        Whether to name the colours beside the second panel.

    Returns
    -------
    The three axes.

    Raises
    ------
    KeyError
        Coordinates or a column are missing; the message says what to call.
    TypeError, ValueError
        `ax` is something else, or not three axes.

    Examples
    --------
    >>> model.annotate(query, reference)
    >>> model.map(query, reference)
    >>> scenc.pl.mapping(reference, query, color="cell_type")
    """
    known, new = _places(reference, basis, "reference"), _places(query, basis, "query")
    labels = _labels(reference, color, "reference")
    if query_color is None:
        options = [] if color is None else [f"{color}_pred", color]
        query_color = next((name for name in options if name in query.obs), None)
    query_labels = _labels(query, query_color, "query")
    palette = _palette(reference, color, labels, query_labels)
    axes = panels(ax, (1, 3), 3, (11.4, 3.6))
    _scatter(axes[0], known, labels, palette)
    axes[0].set_title(f"reference, {len(known):,} cells", fontsize="medium", color=INK)
    for one in axes[1:]:
        _background(one, known)
    _scatter(axes[1], new, query_labels, palette)
    named = "" if query_color is None else f" by {query_color}"
    axes[1].set_title(f"query, {len(new):,} cells{named}", fontsize="medium", color=INK)
    _draw_scores(axes[2], query, new)
    for one in axes:
        _frame(one, known, new)
    if legend and palette:
        _explain(axes[1], palette)
    return np.array(axes, dtype=object)


def _places(data: AnnData | MuData, basis: str, whose: str) -> NDArray[np.float64]:
    if basis not in data.obsm:
        there = list_some(sorted(map(str, data.obsm)), 6) or "none"
        raise KeyError(
            f"{whose}.obsm has no {basis!r} (there: {there}): call model.map(query, reference) "
            "first."
        )
    return np.asarray(data.obsm[basis], dtype=np.float64)[:, :2]


def _labels(data: AnnData | MuData, key: str | None, whose: str) -> pd.Series[Any] | None:
    """Return a column as names, None where one is missing."""
    if key is None:
        return None
    if key not in data.obs:
        there = list_some(column_names(data.obs), 10) or "none"
        raise KeyError(f"{whose}.obs has no column {key!r} (there: {there}).")
    values = data.obs[key]
    known = values.astype(object).where(values.notna(), None)
    names: pd.Series[Any] = known.map(str, na_action="ignore")
    return names


def _palette(
    reference: AnnData | MuData, color: str | None, *labels: pd.Series[Any] | None
) -> dict[str, str]:
    """Return a colour for each name, the reference's own first, "Unknown" last and dark."""
    names = sorted({name for some in labels if some is not None for name in some.dropna()})
    names = [name for name in names if name != UNKNOWN_LABEL]
    from scanpy.plotting import palettes

    sizes = (palettes.default_20, palettes.default_28, palettes.default_102)
    drawn = next((list(some) for some in sizes if len(some) >= len(names)), list(sizes[-1]))
    palette = {name: drawn[number % len(drawn)] for number, name in enumerate(names)}
    own = reference.uns.get(f"{color}_colors")
    if own is not None and color in reference.obs:
        categories = pd.Categorical(reference.obs[color]).categories.astype(str)
        palette |= dict(zip(categories, map(str, own), strict=False))
        palette = {name: palette[name] for name in names}
    if any(some is not None and (some == UNKNOWN_LABEL).any() for some in labels):
        palette[UNKNOWN_LABEL] = _UNKNOWN_COLOR
    return palette


def _size(n_cells: int) -> float:
    return float(np.clip(_POINT * np.sqrt(1000 / max(n_cells, 1)), 0.6, 40))


def _scatter(
    ax: Axes,
    places: NDArray[np.float64],
    labels: pd.Series[Any] | None,
    palette: dict[str, str],
) -> None:
    colors: Any = MUTED
    if labels is not None:
        colors = labels.map(palette).fillna(FAINT).tolist()
    _points(ax, places, colors)


def _background(ax: Axes, places: NDArray[np.float64]) -> None:
    _points(ax, places, FAINT)


def _points(ax: Axes, places: NDArray[np.float64], colors: Any, **style: Any) -> Any:
    # Points as an image: a PDF of 100,000 of them would be of no use.
    return ax.scatter(
        places[:, 0], places[:, 1], s=_size(len(places)), c=colors, linewidths=0, rasterized=True,
        **style,
    )  # fmt: skip


def _draw_scores(ax: Axes, query: AnnData | MuData, places: NDArray[np.float64]) -> None:
    if _SCORE not in query.obs:
        raise KeyError(f"query.obs has no {_SCORE!r}: call model.map(query, reference) first.")
    score = query.obs[_SCORE].to_numpy(dtype=np.float64)
    # What is not at home is seen on top.
    order = np.argsort(-score)
    points = _points(ax, places[order], score[order], cmap="plasma", vmin=0, vmax=1)
    bar = ax.figure.colorbar(points, ax=ax, shrink=0.7, pad=0.02, aspect=24)
    bar.outline.set_visible(False)
    bar.ax.tick_params(labelsize="x-small", color=MUTED, labelcolor=INK)
    low = float(np.mean(score < 0.05))
    title = f"query by mapping score ({low:.0%} below 0.05)"
    ax.set_title(title, fontsize="medium", color=INK)


def _frame(ax: Axes, *places: NDArray[np.float64]) -> None:
    """Give all panels the same limits, and no ticks: distances on the map mean little."""
    both = np.concatenate(places)
    low, high = both.min(axis=0), both.max(axis=0)
    margin = 0.04 * np.maximum(high - low, 1e-9)
    ax.set(
        xlim=(low[0] - margin[0], high[0] + margin[0]),
        ylim=(low[1] - margin[1], high[1] + margin[1]),
        xticks=[],
        yticks=[],
    )
    ax.spines[:].set_visible(False)


def _explain(ax: Axes, palette: dict[str, str]) -> None:
    from matplotlib.lines import Line2D

    style: dict[str, Any] = {"linestyle": "", "marker": "o", "markersize": 5}
    box = ax.legend(
        [Line2D([], [], color=color, **style) for color in palette.values()],
        ["·"] * len(palette),
        loc="center left",
        bbox_to_anchor=(1.0, 0.5),
        frameon=False,
        fontsize="x-small",
        ncols=1 + (len(palette) - 1) // 16,
        handletextpad=0.2,
        labelspacing=0.35,
    )
    name_entries(box, list(palette))
