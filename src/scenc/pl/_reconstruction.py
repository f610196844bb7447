from __future__ import annotations

from typing import TYPE_CHECKING

from scenc._arguments import choose
from scenc.pl._bars import bars
from scenc.results import TRAINING_MSE, Results, as_results, training_errors

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

    from scenc.results import ResultsLike

_LABELS = {
    "training": "lowest validation error in training (MSE)",
    "evaluation": "error on the evaluation sets (MSE)",
}


def reconstruction(
    results: ResultsLike | pd.DataFrame, ax: Axes | None = None, of: str | None = None
) -> Axes:
    """Draw the error of masked genes, as bars (Figure 3 of the paper).

    The lowest error is on top; `scores` says what is drawn. A bar more than three times as long as
    the median is cut, which its end shows. Baselines, which do not predict masked genes, are left
    out.

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
    return bars(Results.from_tables(table, jobs=jobs), metric, ax, label=_LABELS[of])
