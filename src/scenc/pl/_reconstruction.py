from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pandas as pd

from scenc._arguments import choose
from scenc.pl._bars import bars
from scenc.results import read_curves, read_jobs, read_scores

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from scenc.results import ResultsLike

_METRIC = "reconstruction_mse"
_LABELS = {
    "training": "lowest validation error in training (MSE)",
    "evaluation": "error on the evaluation sets (MSE)",
}
_WHO = ["encoding", "kind", "gene_encoder", "expression_encoder"]


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
    table = read_scores(results)
    lowest = _lowest(results, table)
    if of is None:
        of = "evaluation" if lowest.empty else "training"
    choose(of, _LABELS, "of")
    baselines = {*table.loc[table["kind"] == "baseline", "encoding"]}
    table = lowest if of == "training" else table[table["metric"] == _METRIC]
    valued = {*table.loc[table["value"].notna(), "encoding"]}
    jobs = read_jobs(results)
    table, jobs = (rows[~rows["encoding"].isin(baselines - valued)] for rows in (table, jobs))
    return bars(table, _METRIC, ax, jobs, label=_LABELS[of])


def _lowest(results: Any, scores: pd.DataFrame) -> pd.DataFrame:
    """Return a table of scores with the lowest validation error of each training."""
    if not isinstance(getattr(results, "curves", None), pd.DataFrame):
        return scores.iloc[:0]
    curves = read_curves(results, "reconstruction_loss_validation")
    lowest = curves.groupby(["encoding", "seed"], sort=False)["value"].min().reset_index()
    lowest = lowest.assign(dataset="training", metric=_METRIC)
    return lowest.merge(scores[_WHO].drop_duplicates("encoding"), on="encoding", how="left")
