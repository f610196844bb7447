"""Results summed up for figures and pages: one metric of each encoding, and how jobs stand."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from scenc.results._metrics import TRAINING_MSE

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

    from scenc.results._results import Results


@dataclass(frozen=True, eq=False)
class Summary:
    """One metric of one encoding.

    Attributes
    ----------
    mean, sd
        Of the points; NaN where there are none, or for `sd` fewer than two.
    points
        Means over seeds, one for each data set where the metric is defined; with a single data set,
        values, one for each seed.
    of
        For how many data sets (or seeds) the metric is defined for any encoding.
    """

    mean: float = math.nan
    sd: float = math.nan
    points: NDArray[np.float64] = field(default_factory=lambda: np.empty(0))
    of: int = 0

    @property
    def n(self) -> int:
        """Number of points."""
        return len(self.points)

    @property
    def ends(self) -> list[float]:
        """All values that are drawn: the points and the ends of the line of one `sd`."""
        spread = [self.mean - self.sd, self.mean + self.sd] if self.n > 1 else []
        return [*self.points, *spread]


NOWHERE = Summary()
"""The summary of a metric that is defined nowhere."""


def spread_unit(results: Results, metric: str) -> str:
    """Return what the spread of a metric is over: "data sets", or "seeds" of a single one."""
    rows = results.scores[results.scores["metric"] == metric]
    return "seeds" if rows["dataset"].nunique() == 1 else "data sets"


def summarise(results: Results, metric: str) -> dict[str, Summary]:
    """Return the paper's aggregate of one metric (`Results.summary`) with the points behind it.

    Of results at several budgets, those at one (`Results.at_budget`).

    A single data set has no spread over data sets: mean and spread are then those over its seeds
    (`Results.per_dataset`).

    Returns
    -------
    By name, the encodings that have a row for this metric.
    """
    results = results.at_budget()
    if spread_unit(results, metric) == "seeds":
        points, unit = results.scores, "seed"
        means = results.per_dataset().rename(columns={"value": "mean"})
    else:
        points, unit = results.per_dataset(), "dataset"
        means = results.summary()
    points = points[(points["metric"] == metric) & points["value"].notna()]
    means = means[means["metric"] == metric]
    n_units = points[unit].nunique()
    return {
        name: Summary(mean, sd, points.loc[points["encoding"] == name, "value"].to_numpy(), n_units)
        for name, mean, sd in zip(means["encoding"], means["mean"], means["std"], strict=True)
    }


def training_errors(results: Results) -> pd.DataFrame:
    """Return `Results.minimum_loss` as rows of scores, so that it is shown like any other.

    Kind, gene and expression encoder are missing where an encoding has no scores yet. Of results at
    several budgets, the errors up to one (`Results.at_budget`).
    """
    results = results.at_budget()
    lowest = results.minimum_loss()[["encoding", "seed", "value"]]
    lowest = lowest.merge(results.encodings, on="encoding", how="left")
    return lowest.assign(dataset="(training)", metric=TRAINING_MSE)


def diverged(jobs: pd.DataFrame) -> set[str]:
    """Return the encodings of which at least one training diverged."""
    return {*jobs.loc[jobs["status"] == "diverged", "encoding"]}


def standing(jobs: pd.DataFrame) -> dict[str, str]:
    """Return the worst status of each encoding whose jobs are not all done.

    It is shown where there is no value: "failed", "pending" or "diverged".
    """
    words: dict[str, str] = {}
    for word in ("diverged", "pending", "failed"):  # a later one, which is worse, replaces it
        words.update(dict.fromkeys(jobs.loc[jobs["status"] == word, "encoding"], word))
    return words
