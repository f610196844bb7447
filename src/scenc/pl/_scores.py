from __future__ import annotations

from typing import TYPE_CHECKING

from scenc._arguments import choose
from scenc.pl._bars import bars
from scenc.results import METRICS, as_results

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

    from scenc.results import ResultsLike


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
    Colour tells the expression encoder, hatching pretrained gene vectors; controls are hollow,
    baselines grey. What has no value has no bar but a word.

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
    return bars(given, metric, ax, points=points, legend=legend)
