"""What genes contribute to types, beside what a Wilcoxon test says of them."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.ticker import MaxNLocator

from scenc._arguments import choose
from scenc.pl._canvas import panels, plain, readable
from scenc.pl._looks import INK, MUTED

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import FigureBase
    from numpy.typing import NDArray

    from scenc.tasks import Attributions

# Of genes that are among the first of both, and of all others.
_IN_BOTH, _OTHER = "#14335f", "#a9b4c4"
_TYPES_IN_A_ROW = 3


def attributions(
    found: Attributions,
    n: int = 10,
    types: Sequence[str] | str | None = None,
    ax: Sequence[Axes] | NDArray[np.object_] | FigureBase | None = None,
) -> NDArray[np.object_]:
    """Draw the genes that contribute most to each type, with a Wilcoxon test beside them.

    A type has two panels that share their genes: mean contributions to its score at the left, z
    scores of the test at the right. Dark bars are genes that both have among their first `n`.

    Parameters
    ----------
    found
        What `scenc.Model.attributions` returned.
    n
        Number of genes of each type.
    types
        Types to draw; ``None``: all.
    ax
        Two axes for each type, or a figure; ``None``: a new figure.

    Returns
    -------
    The axes, shape ``(n_types, 2)``.

    Raises
    ------
    TypeError
        `found` is something else, or `ax` are no axes.
    ValueError
        There is no such type, or another number of axes than two for each.

    Examples
    --------
    >>> scenc.pl.attributions(model.attributions(labels_key="cell_type", max_cells=20))
    """
    from scenc.tasks import Attributions  # here, as only this figure needs PyTorch

    if not isinstance(found, Attributions):
        raise TypeError(
            f"found must be what model.attributions returned, got {type(found).__name__}."
        )
    if n < 1:
        raise ValueError(f"n must be at least 1, got {n}.")
    known = [str(name) for name in found.table]
    names = known if types is None else [types] if isinstance(types, str) else list(types)
    for name in names:
        choose(name, known, "types")
    n_columns = min(_TYPES_IN_A_ROW, len(names))
    n_rows = math.ceil(len(names) / n_columns)
    size = (3.7 * n_columns, (0.85 + 0.19 * n) * n_rows)
    axes = np.array(panels(ax, (n_rows, 2 * n_columns), 2 * len(names), size), dtype=object)
    axes = axes.reshape(-1, 2)
    for name, pair in zip(names, axes, strict=True):
        _draw_type(pair, found, name, n)
    return axes


def _draw_type(pair: NDArray[np.object_], found: Attributions, name: str, n: int) -> None:
    contributions, tested = found.table[name], found.wilcoxon[name]
    shown = contributions.nlargest(n)
    in_both = shown.index.isin(tested.dropna().nlargest(n).index)
    colors = np.where(in_both, _IN_BOTH, _OTHER)
    left, right = pair
    _bars(left, shown, colors, "contribution")
    _bars(right, tested.reindex(shown.index), colors, "Wilcoxon z")
    left.set_yticks(np.arange(len(shown)), [readable(gene, 14) for gene in shown.index])
    right.set_yticks([])
    left.set_title(readable(name, 36), loc="left", fontsize="medium", color=INK, pad=16)
    cells = f"{found.n_cells[name]:,} cells, error {found.completeness_error[name]:.1%}"
    left.text(0, 1.02, cells, transform=left.transAxes, fontsize="x-small", color=MUTED)


def _bars(ax: Axes, values: pd.Series[float], colors: NDArray[np.str_], label: str) -> None:
    plain(ax)
    ax.barh(np.arange(len(values)), values.fillna(0), 0.7, color=colors)
    ax.set_ylim(len(values) - 0.4, -0.6)
    style: dict[str, Any] = {"fontsize": "small", "color": MUTED}
    ax.set_xlabel(label if values.notna().any() else f"{label}: not tested", **style)
    ax.xaxis.set_major_locator(MaxNLocator(3))
    ax.tick_params(labelsize="small")
    ax.axvline(0, color=MUTED, linewidth=0.8)
