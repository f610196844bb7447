"""Tidy tables of scores, checked and summed up for drawing."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import pandas as pd

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

NEEDED = ("encoding", "dataset", "metric", "value")
_OPTIONAL = {
    "kind": "encoding",
    "gene_encoder": None,
    "expression_encoder": None,
    "seed": 0,
}

TITLES = {
    "batch_correction": "batch correction",
    "bio_preservation": "biological preservation",
    "ilisi": "iLISI",
    "graph_connectivity": "graph connectivity",
    "batch_asw": "batch ASW",
    "label_asw": "label ASW",
    "clisi": "cLISI",
    "nmi": "NMI",
    "ari": "ARI",
    "isolated_labels_f1": "isolated-label F1",
    "isolated_labels_asw": "isolated-label silhouette",
    "accuracy": "accuracy",
    "macro_f1": "macro F1",
    "reconstruction_mse": "mean squared error of masked genes",
}
"""What the scores are called in figures; a name that is not here is shown as it is."""


class ResultsLike(Protocol):
    """Anything with a tidy table of scores, such as the results of a benchmark."""

    @property
    def scores(self) -> pd.DataFrame:
        """One row per encoding, data set, metric and seed."""
        ...


def title(metric: str) -> str:
    """Return what a score is called in a figure."""
    return TITLES.get(metric, metric)


def read_scores(results: ResultsLike | pd.DataFrame) -> pd.DataFrame:
    """Return the scores of a results object or a tidy table, checked and completed.

    Values that are not finite become NaN, "undefined".

    Raises
    ------
    TypeError
        Neither a table nor something that has one.
    ValueError
        A column is missing, a value is no number, or two rows give the same score.
    """
    table = read_table(results, "scores", NEEDED)
    for column, value in _OPTIONAL.items():
        if column not in table:
            table[column] = value
    table["encoding"] = table["encoding"].astype(str)
    table["value"] = _numbers(table["value"])
    key = ["encoding", "dataset", "metric", "seed"]
    twice = table.duplicated(key)
    if twice.any():
        first = table[twice].iloc[0]
        found = ", ".join(f"{name} {first[name]!r}" for name in key)
        raise ValueError(f"The results table gives the same score twice: {found}.")
    return table


def read_curves(results: Any, metric: str) -> pd.DataFrame:
    """Return one metric's training curves of a results object or a table, where it is finite."""
    curves = read_table(results, "curves", ("encoding", "seed", "metric", "step", "value"))
    curves = curves[curves["metric"] == metric]
    curves = curves.assign(encoding=curves["encoding"].astype(str), value=_numbers(curves["value"]))
    return curves[curves["value"].notna()]


def read_table(results: Any, name: str, needed: Iterable[str]) -> pd.DataFrame:
    """Return a copy of a table that is given itself or as an attribute of a results object."""
    table = results if isinstance(results, pd.DataFrame) else getattr(results, name, None)
    if not isinstance(table, pd.DataFrame):
        raise TypeError(
            f"results must be a DataFrame or have one as .{name}, got {type(results).__name__}."
        )
    missing = [column for column in needed if column not in table]
    if missing:
        raise ValueError(
            f"The results table lacks the column {missing[0]!r}; it needs {', '.join(needed)} "
            f"and has {', '.join(map(str, table)) or 'none'}."
        )
    return table.reset_index(drop=True)


def read_jobs(results: Any) -> pd.DataFrame:
    """Return the jobs of a results object; of anything else an empty table."""
    jobs = getattr(results, "jobs", None)
    if not isinstance(jobs, pd.DataFrame) or not {"encoding", "status"} <= {*jobs.columns}:
        return pd.DataFrame({"encoding": [], "status": []}, dtype=object)
    return jobs.reset_index(drop=True)


def diverged(jobs: pd.DataFrame) -> set[str]:
    """Return the encodings of which at least one training diverged."""
    return {*jobs.loc[jobs["status"] == "diverged", "encoding"].astype(str)}


def standing(jobs: pd.DataFrame) -> dict[str, str]:
    """Return the word for "no value" of each encoding whose jobs are not all done."""
    words: dict[str, str] = {}
    for word in ("diverged", "pending", "failed"):  # the last one found is the strongest
        words.update(dict.fromkeys(jobs.loc[jobs["status"] == word, "encoding"].astype(str), word))
    return words


def units(scores: pd.DataFrame, metric: str) -> str:
    """Return what the spread of a metric is over: "data sets", or "seeds" of a single one."""
    rows = scores[scores["metric"] == metric]
    return "seeds" if rows["dataset"].nunique() == 1 else "data sets"


@dataclass(frozen=True, eq=False)
class Summary:
    """One metric of one encoding.

    Attributes
    ----------
    points
        Its means over seeds, one for each data set where it is defined; with a single data set,
        its values, one for each seed.
    of
        For how many data sets (or seeds) it is defined for any encoding.
    """

    points: NDArray[np.float64]
    of: int

    @property
    def n(self) -> int:
        """Number of points."""
        return len(self.points)

    @property
    def mean(self) -> float:
        """Mean of the points; NaN if there are none."""
        return float(self.points.mean()) if self.n else math.nan

    @property
    def sd(self) -> float:
        """Standard deviation of the points (``ddof=1``); NaN if there are fewer than two."""
        return float(self.points.std(ddof=1)) if self.n > 1 else math.nan

    @property
    def ends(self) -> list[float]:
        """All that is drawn of it."""
        spread = [self.mean - self.sd, self.mean + self.sd] if self.n > 1 else []
        return [*self.points, *spread]


NOWHERE = Summary(np.empty(0), 0)
"""Of a metric that is defined nowhere."""


def summarise(scores: pd.DataFrame, metric: str) -> dict[str, Summary]:
    """Sum one metric up as the paper does: means per data set, then mean and spread over these.

    A single data set has no spread over data sets; then the spread is that over its seeds.

    Returns
    -------
    By name, the encodings that have a row for this metric.
    """
    rows = scores[scores["metric"] == metric]
    unit = "seed" if units(scores, metric) == "seeds" else "dataset"
    means = rows.groupby(["encoding", unit], sort=False, dropna=False)["value"].mean().dropna()
    names = means.index.get_level_values(0)
    of = means.index.get_level_values(1).nunique()
    return {
        str(name): Summary(means[names == name].to_numpy(float), of)
        for name in rows["encoding"].unique()
    }


def _numbers(values: pd.Series[Any]) -> pd.Series[float]:
    numbers = pd.to_numeric(values, errors="coerce").astype(float)
    wrong = numbers.isna() & values.notna()
    if wrong.any():
        raise ValueError(
            f"The results table has a value that is no number: {values[wrong].iloc[0]!r}."
        )
    return numbers.where(np.isfinite(numbers))
