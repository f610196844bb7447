from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from scenc.pl._canvas import panels
from scenc.pl._scores import scores

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import FigureBase
    from numpy.typing import NDArray

    from scenc.results import ResultsLike


def classification(
    results: ResultsLike | pd.DataFrame,
    ax: Axes | Sequence[Axes] | NDArray[np.object_] | FigureBase | None = None,
    metrics: Sequence[str] = ("accuracy", "macro_f1"),
) -> NDArray[np.object_]:
    """Draw how well neighbours tell cell types, as bars (Figure 2 of the paper).

    One panel for each metric, each in its own order, the best on top; `scores` says what is drawn.

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
