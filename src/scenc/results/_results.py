from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, Self

import numpy as np
import pandas as pd

from scenc._arguments import choose
from scenc._printing import Printed, PrintedTable
from scenc.results._bootstrap import Paired
from scenc.results._comparisons import (
    Comparison,
    baseline_comparisons,
    control_comparisons,
    paper_comparisons,
)
from scenc.results._metrics import LOWER_IS_BETTER, MUST_FALL
from scenc.results._results_files import read_run, read_table, write_run, write_table
from scenc.results._tidy import CHECKS, CURVES, JOBS, SCORES, tidy

if TYPE_CHECKING:
    import os
    from collections.abc import Collection, Iterator, Sequence

    from numpy.typing import NDArray


class ResultsLike(Protocol):
    """Anything with a tidy table of scores, such as the results of a benchmark.

    Examples
    --------
    >>> from types import SimpleNamespace
    >>> some = SimpleNamespace(scores=results.scores.query("kind == 'encoding'"))
    >>> axes = scenc.pl.scores(some, "nmi")
    """

    @property
    def scores(self) -> pd.DataFrame:
        """One row per encoding, data set, metric and seed."""
        ...


_WHO = ["encoding", "kind", "gene_encoder", "expression_encoder"]
_SHOWN = ("batch_correction", "bio_preservation", "accuracy", "macro_f1", "reconstruction_mse")
_TABLES = {"scores": SCORES, "curves": CURVES, "jobs": JOBS, "checks": CHECKS}
_HEAD = ("comparison", "within", "metric", "a", "b", "difference", "relative")
_INTERVAL = ("low", "high", "above", "relative_low", "relative_high")
_SIZE = ("n_datasets", "n_seeds")


@dataclass(frozen=True, eq=False, repr=False)
class Results(Printed):
    """The results of a benchmark as tidy tables; made by `Benchmark`, `load` or `from_tables`.

    Attributes
    ----------
    scores
        One row per encoding, data set, metric and seed: ``encoding`` (display name), ``kind``
        (``"encoding"``, ``"control"`` or ``"baseline"``), ``gene_encoder``, ``expression_encoder``
        (None for baselines), ``dataset``, ``metric``, ``seed``, ``budget`` (visits of cells in
        training; missing where there is no such limit), ``value`` (NaN where undefined), ``reason``
        (why it is undefined).
    curves
        Training curves: ``encoding``, ``seed``, ``metric``, ``epoch``, ``step``, ``value``.
    jobs
        One row per job: ``job``, ``task`` (``"train"``, ``"embed"``, ``"score"``), ``encoding``,
        ``dataset``, ``seed``, ``budget``, ``status`` (``"done"``, ``"failed"``, ``"diverged"``,
        ``"pending"``), ``reason``, ``diverged_step``, ``n_steps`` (optimizer steps up to a
        budget), ``seconds``, ``peak_memory_mb``.
    run
        The run itself, as plain values: title, versions, settings, data, seeds, machine.
    checks
        Scores of negative controls, which must fall: ``encoding``, ``shuffled`` (``"genes"``,
        ``"expression"`` or ``"labels"``, which were shuffled), ``dataset``, ``metric``, ``seed``,
        ``budget``, ``value``, ``intact`` (the score of the same model where nothing was).

    Examples
    --------
    >>> results.scores["metric"].unique().tolist()
    ['batch_correction', 'bio_preservation', 'nmi', 'accuracy', 'macro_f1', 'reconstruction_mse']
    >>> means = results.summary()  # of each encoding and metric, over data sets and seeds
    >>> files = results.write("tables")
    >>> len(scenc.benchmark.Results.load("tables").scores) == len(results.scores)
    True
    """

    scores: pd.DataFrame
    curves: pd.DataFrame = field(default_factory=lambda: tidy(None, CURVES, "curves"))
    jobs: pd.DataFrame = field(default_factory=lambda: tidy(None, JOBS, "jobs"))
    run: dict[str, Any] = field(default_factory=dict)
    checks: pd.DataFrame = field(default_factory=lambda: tidy(None, CHECKS, "checks"))

    @classmethod
    def from_tables(
        cls,
        scores: pd.DataFrame,
        curves: pd.DataFrame | None = None,
        jobs: pd.DataFrame | None = None,
        run: dict[str, Any] | None = None,
        checks: pd.DataFrame | None = None,
    ) -> Self:
        """Make results of tables from any source.

        Parameters
        ----------
        scores
            At least ``encoding``, ``dataset``, ``metric`` and ``value``; the other columns, where
            they are missing, are filled in (seed 0, kind ``"encoding"``). Infinite values become
            NaN.
        curves, jobs, run, checks
            The other tables, if there are any.

        Raises
        ------
        ValueError
            A column is missing, does not hold numbers where it must, or two rows give one score.

        Examples
        --------
        >>> import pandas as pd
        >>> from scenc.benchmark import Results
        >>> scores = {"encoding": ["mine"], "dataset": ["liver"], "metric": ["ari"], "value": [0.5]}
        >>> Results.from_tables(pd.DataFrame(scores)).summary()["mean"].tolist()
        [0.5]
        """
        table = tidy(scores, SCORES, "scores")
        cell = ["encoding", "dataset", "metric", "seed", "budget"]
        if (double := table.duplicated(cell)).any():
            which = ", ".join(str(value) for value in table.loc[double, cell].iloc[0])
            raise ValueError(f"scores hold more than one row for {which}.")
        return cls(
            table,
            tidy(curves, CURVES, "curves"),
            tidy(jobs, JOBS, "jobs"),
            dict(run or {}),
            tidy(checks, CHECKS, "checks"),
        )

    @classmethod
    def load(cls, folder: str | os.PathLike[str]) -> Self:
        """Read the tables that `write` wrote.

        Parameters
        ----------
        folder
            The output folder of a benchmark, or any with a table of scores.

        Raises
        ------
        FileNotFoundError
            There is no table of scores.
        ValueError
            A file is damaged, or a table is refused by `from_tables`.
        """
        path = Path(folder)
        tables = {name: read_table(path, name) for name in _TABLES}
        scores = tables.pop("scores")
        if scores is None:
            raise FileNotFoundError(
                f"{path} holds no results: neither scores.parquet nor scores.csv is there."
            )
        run = read_run(path)
        return cls.from_tables(scores, run=run, **tables)

    @property
    def encodings(self) -> pd.DataFrame:
        """One row per encoding: its name, kind, gene and expression encoder."""
        return self.scores[_WHO].drop_duplicates("encoding").reset_index(drop=True)

    @property
    def budgets(self) -> list[int]:
        """Visits of cells after which encodings were judged, in increasing order; may be empty."""
        return sorted(int(budget) for budget in self.scores["budget"].dropna().unique())

    def at_budget(self, budget: int | None = None) -> Results:
        """Return the results at one budget, and those of what has none, such as baselines.

        Parameters
        ----------
        budget
            Visits of cells; ``None``: the largest that all encodings with budgets have reached, or
            any of them if there is none. Training curves reach to it.

        Raises
        ------
        ValueError
            Nothing was judged at this budget; the message names those that there are.

        Examples
        --------
        >>> results.at_budget(25_000).summary()
        """
        known = self.budgets
        if budget is None:
            if not known:
                return self
            limited = self.scores.dropna(subset="budget")
            reached = limited.groupby("budget")["encoding"].nunique()
            common = reached.index[reached == limited["encoding"].nunique()]
            budget = int(max(common, default=known[-1]))
        elif budget not in known:
            what = f"one of {known}" if known else "None, since these results have no budgets"
            raise ValueError(f"budget must be {what}, got {budget}.")
        scores, jobs = (
            table[table["budget"].isna() | (table["budget"] == budget)].reset_index(drop=True)
            for table in (self.scores, self.jobs)
        )
        steps = jobs.dropna(subset="n_steps").set_index(["encoding", "seed"])["n_steps"]
        trainings = pd.MultiIndex.from_frame(self.curves[["encoding", "seed"]])
        last = steps.reindex(trainings).astype("float64").fillna(np.inf).to_numpy()
        curves = self.curves[self.curves["step"].to_numpy() < last].reset_index(drop=True)
        return Results(scores, curves, jobs, self.run, self.checks)

    @property
    def metrics(self) -> list[str]:
        """The metrics, in the order of the table."""
        return list(dict.fromkeys(self.scores["metric"]))

    def per_dataset(self) -> pd.DataFrame:
        """Return means over seeds.

        Returns
        -------
        One row per encoding, budget, data set and metric: ``value`` (the mean over the seeds where
        it is defined), ``std`` (over seeds, ``ddof=1``), ``n_seeds``.

        Examples
        --------
        >>> results.per_dataset()
        """
        keys = ["encoding", "budget", "dataset", "metric"]
        grouped = self.scores.groupby(keys, sort=False, dropna=False)["value"]
        table = grouped.agg(value="mean", std="std", n_seeds="count").reset_index()
        return self._with_who(table)

    def summary(self) -> pd.DataFrame:
        """Return the paper's aggregate: means and standard deviations of the data sets' means.

        Returns
        -------
        One row per encoding, budget and metric: ``mean``, ``std`` (``ddof=1``), ``n_datasets``
        (those where the metric is defined; compare means over the same data sets only, as
        `relative_differences` and `bootstrap` do).

        Examples
        --------
        >>> results.summary()
        """
        keys = ["encoding", "budget", "metric"]
        grouped = self.per_dataset().groupby(keys, sort=False, dropna=False)["value"]
        table = grouped.agg(mean="mean", std="std", n_datasets="count").reset_index()
        return self._with_who(table)

    def minimum_loss(self, metric: str = "reconstruction_loss_validation") -> pd.DataFrame:
        """Return the paper's measure of reconstruction: the lowest loss of each training.

        Parameters
        ----------
        metric
            Which of the curves.

        Returns
        -------
        One row per encoding and seed: ``value``, and the ``step`` and ``epoch`` it was reached at.
        """
        curves = self.curves[(self.curves["metric"] == metric) & self.curves["value"].notna()]
        lowest = curves.loc[curves.groupby(["encoding", "seed"], sort=False)["value"].idxmin()]
        return lowest[["encoding", "seed", "value", "step", "epoch"]].reset_index(drop=True)

    def relative_differences(self) -> pd.DataFrame:
        """Return differences between groups of encodings, as fractions of the second group's mean.

        Learned over protein genes for each expression encoder, and soft over each other expression
        encoder for each gene encoder; each also over all of them (``within == "all"``). Means are
        over the data sets and seeds that both sides have.

        Returns
        -------
        One row per budget, comparison and metric: ``budget``, ``comparison``, ``within``,
        ``metric``, ``a``, ``b`` (the means), ``difference``, ``relative`` (``a / b - 1``),
        ``n_datasets``, ``n_seeds``.

        Examples
        --------
        >>> results.relative_differences()
        """
        rows = [
            {"budget": budget, **_means(paired, comparison, metric), **_size(paired)}
            for budget, comparison in self._at_each(paper_comparisons(self.encodings))
            for metric in self.metrics
            if (paired := self._paired(comparison, metric, budget)) is not None
        ]
        return _with_budget(rows, [*_HEAD, *_SIZE])

    def bootstrap(
        self,
        n: int = 10_000,
        seed: int = 0,
        *,
        a: str | Sequence[str] | None = None,
        b: str | Sequence[str] | None = None,
        metrics: Collection[str] | None = None,
        level: float = 0.95,
    ) -> pd.DataFrame:
        """Return intervals of differences, from a paired bootstrap over data sets and seeds.

        Data sets and seeds are drawn with replacement, independently of each other, and the same
        for both sides; the interval holds the middle part of the differences of all samples. With
        few data sets or seeds it is rough: six data sets can be drawn in 462 ways only.

        Parameters
        ----------
        n
            Number of samples.
        seed
            Of the samples.
        a, b
            Encodings to compare, by name: one, or several whose scores are averaged. ``None``:
            those of `relative_differences`, each control with the encoding it is made from and with
            soft, and each encoding with each baseline.
        metrics
            Which ones; ``None``: all.
        level
            Of the interval.

        Returns
        -------
        One row per budget, comparison and metric: ``budget``, ``comparison``, ``within``,
        ``metric``, ``a``, ``b`` (the means), ``difference``, ``relative``, ``low``, ``high`` (of
        the difference), ``above`` (the share of samples in which a is above b), ``relative_low``,
        ``relative_high``, ``n_datasets``, ``n_seeds``.

        Raises
        ------
        ValueError
            An encoding or metric is unknown, only one side is given, or a number is out of range.

        Examples
        --------
        >>> results.bootstrap(a="learned + soft", b="learned + hard", metrics=["accuracy"])
        """
        if n < 1 or not 0 < level < 1:
            raise ValueError(f"n must be positive and level in (0, 1), got {n} and {level}.")
        wanted = self.metrics if metrics is None else list(metrics)
        for metric in wanted:
            choose(metric, self.metrics, "metrics")
        rows = [
            {"budget": budget, **_interval(paired, comparison, metric, n, seed, level)}
            for budget, comparison in self._at_each(self._comparisons(a, b))
            for metric in wanted
            if (paired := self._paired(comparison, metric, budget)) is not None
        ]
        return _with_budget(rows, [*_HEAD, *_INTERVAL, *_SIZE])

    def negative_controls(self) -> pd.DataFrame:
        """Return how far scores fall where they must.

        The scores of negative controls (`checks`) that rest on what was shuffled: with other genes
        in each cell, or other labels, those that compare cells with labels; with expression dealt
        out anew among a cell's genes, the error of masked genes, since which genes a cell expresses
        tells much of its type by itself.

        Returns
        -------
        One row per encoding, budget, what was shuffled and metric: ``intact``, ``value`` (means
        over data sets and seeds where both are defined), ``worse`` (the share of these where the
        second is the worse one), ``n_datasets``.
        """
        both = self.checks.dropna(subset=["value", "intact"])
        must = [(shuffled, metric) for shuffled, metrics in MUST_FALL.items() for metric in metrics]
        both = both[both.set_index(["shuffled", "metric"]).index.isin(must)]
        lower = both["metric"].isin(LOWER_IS_BETTER)
        worse = np.where(lower, both["value"] > both["intact"], both["value"] < both["intact"])
        keys = ["encoding", "budget", "shuffled", "metric"]
        grouped = both.assign(worse=worse).groupby(keys, sort=False, dropna=False)
        return grouped.agg(
            intact=("intact", "mean"),
            value=("value", "mean"),
            worse=("worse", "mean"),
            n_datasets=("dataset", "nunique"),
        ).reset_index()

    def write(self, folder: str | os.PathLike[str]) -> list[Path]:
        """Write all tables, and those that `summary`, `per_dataset` and the rest derive from them.

        Parameters
        ----------
        folder
            Where to; made if need be. Each file is replaced whole.

        Returns
        -------
        The files: ``scores``, ``curves``, ``jobs`` and ``checks`` as ``.parquet`` and ``.csv``;
        ``summary``, ``per_dataset``, ``relative_differences`` and
        ``bootstrap`` as ``.csv``; ``run.json``.
        """
        path = Path(folder)
        path.mkdir(parents=True, exist_ok=True)
        tables: dict[str, pd.DataFrame] = {
            f"{name}.{kind}": getattr(self, name) for name in _TABLES for kind in ("parquet", "csv")
        }
        tables["summary.csv"] = self.summary()
        tables["per_dataset.csv"] = self.per_dataset()
        tables["relative_differences.csv"] = self.relative_differences()
        tables["bootstrap.csv"] = self.bootstrap(n=2000)
        files = [write_table(table, path / name) for name, table in tables.items()]
        return [*files, write_run(self.run, path)]

    def _with_who(self, table: pd.DataFrame) -> pd.DataFrame:
        """Add kind, gene and expression encoder after the encoding."""
        joined = self.encodings.merge(table, on="encoding", how="right")
        return joined[[*_WHO, *(name for name in table if name != "encoding")]]

    def _comparisons(
        self, a: str | Sequence[str] | None, b: str | Sequence[str] | None
    ) -> list[Comparison]:
        encodings = self.encodings
        if a is None and b is None:
            return [
                *paper_comparisons(encodings),
                *control_comparisons(encodings),
                *baseline_comparisons(encodings),
            ]
        if a is None or b is None:
            raise ValueError("Name both sides, a and b, or neither.")
        sides = [(side,) if isinstance(side, str) else tuple(side) for side in (a, b)]
        for name in (*sides[0], *sides[1]):
            choose(name, encodings["encoding"], "an encoding")
        title = f"{' and '.join(sides[0])} over {' and '.join(sides[1])}"
        return [Comparison(title, "", sides[0], sides[1])]

    def _at_each(
        self, comparisons: Sequence[Comparison]
    ) -> Iterator[tuple[int | None, Comparison]]:
        """Yield each comparison at each budget; once, if neither side has any."""
        limited = {encoding for (_, encoding, budget) in self._values if budget is not None}
        for budget in self.budgets:
            for comparison in comparisons:
                if limited.intersection((*comparison.a, *comparison.b)):
                    yield budget, comparison
        for comparison in comparisons:
            if not limited.intersection((*comparison.a, *comparison.b)):
                yield None, comparison

    @cached_property
    def _values(self) -> dict[tuple[str, str, int | None], NDArray[np.float64]]:
        """Values by metric, encoding and budget, ``(n_datasets, n_seeds)``, NaN where undefined."""
        datasets, seeds = (pd.Index(self.scores[name].unique()) for name in ("dataset", "seed"))
        shape = len(datasets), len(seeds)
        values: dict[Any, NDArray[np.float64]] = {}
        keys = ["metric", "encoding", "budget"]
        grouped = self.scores.groupby(keys, sort=False, dropna=False)
        key: Any
        for key, of in grouped:
            metric, encoding, budget = key
            table = np.full(shape, np.nan)
            rows, columns = datasets.get_indexer(of["dataset"]), seeds.get_indexer(of["seed"])
            table[rows, columns] = of["value"]
            values[metric, encoding, None if pd.isna(budget) else int(budget)] = table
        return values

    def _paired(self, comparison: Comparison, metric: str, budget: int | None) -> Paired | None:
        """Return both sides' scores where all members have them, or None if nowhere.

        What has no budget, such as a baseline, is the same at each.
        """
        values = self._values
        try:
            a, b = (
                np.mean(
                    [
                        values[metric, name, budget]
                        if (metric, name, budget) in values
                        else values[metric, name, None]
                        for name in side
                    ],
                    axis=0,
                )
                for side in (comparison.a, comparison.b)
            )
        except KeyError:  # a member has no score of this metric
            return None
        paired = Paired.of(a, b)
        return paired if paired.n_datasets else None

    def _table(self) -> PrintedTable:
        """Means and standard deviations, encodings x the main metrics."""
        summary = self.at_budget().summary()
        summary["text"] = [
            "-" if np.isnan(mean) else f"{mean:.3f}" + ("" if np.isnan(std) else f" ± {std:.3f}")
            for mean, std in zip(summary["mean"], summary["std"], strict=True)
        ]
        wide = summary.pivot(index="encoding", columns="metric", values="text")
        shown = [name for name in _SHOWN if name in wide] or list(wide)[:5]
        wide = wide.reindex(index=self.encodings["encoding"], columns=shown).fillna("-")
        rows = [(str(name), *row) for name, row in zip(wide.index, wide.to_numpy(), strict=True)]
        return PrintedTable(self._header(), rows, "<" + ">" * len(shown), ["encoding", *shown])

    def _header(self) -> str:
        n_datasets, n_seeds = self.scores["dataset"].nunique(), self.scores["seed"].nunique()
        text = f"{len(self.encodings)} encodings, {n_datasets} data sets, {n_seeds} seeds"
        title = f"{self.run['title']}: " if self.run.get("title") else ""
        states = self.jobs["status"].value_counts()
        jobs = ", ".join(f"{count} {status}" for status, count in states.items())
        return f"{title}{text}" + (f"; jobs: {jobs}" if jobs else "")

    def __repr__(self) -> str:
        return f"<Results: {self._header()}>"


def as_results(given: ResultsLike | pd.DataFrame, table: str = "scores") -> Results:
    """Return anything that has tables of results as `Results`, checked and completed.

    Parameters
    ----------
    given
        An object with the table as an attribute (and the other tables, where it has them), or the
        table itself.
    table
        Which table must be there: ``"scores"`` or ``"curves"``.

    Raises
    ------
    TypeError
        Neither a table nor something that has it.
    ValueError
        As in `Results.from_tables`.
    """
    if isinstance(given, Results):
        return given
    if isinstance(given, pd.DataFrame):
        tables = {table: given}
    else:
        attributes = {name: getattr(given, name, None) for name in _TABLES}
        tables = {name: of for name, of in attributes.items() if isinstance(of, pd.DataFrame)}
    if table not in tables:
        raise TypeError(
            f"results must be a DataFrame or have one as .{table}, got {type(given).__name__}."
        )
    scores = tables.get("scores", pd.DataFrame(columns=list(SCORES)))
    others: dict[str, Any] = {name: of for name, of in tables.items() if name != "scores"}
    return Results.from_tables(scores, **others)


def _means(paired: Paired, comparison: Comparison, metric: str) -> dict[str, Any]:
    a, b = paired.means()
    relative = a / b - 1 if b else np.nan
    values = (comparison.name, comparison.within, metric, a, b, a - b, relative)
    return dict(zip(_HEAD, values, strict=True))


def _with_budget(rows: list[dict[str, Any]], columns: list[str]) -> pd.DataFrame:
    """Return rows of comparisons as a table, the budget first."""
    return pd.DataFrame(rows, columns=["budget", *columns]).astype({"budget": "Int64"})


def _size(paired: Paired) -> dict[str, int]:
    return dict(zip(_SIZE, (paired.n_datasets, paired.n_seeds), strict=True))


def _interval(
    paired: Paired, comparison: Comparison, metric: str, n: int, seed: int, level: float
) -> dict[str, Any]:
    many_a, many_b = paired.resampled(n, seed)
    ends = [(1 - level) / 2, (1 + level) / 2]
    low, high = np.quantile(many_a - many_b, ends)
    ratio = np.divide(many_a, many_b, out=np.full_like(many_a, np.nan), where=many_b != 0) - 1
    relative = np.nanquantile(ratio, ends) if np.isfinite(ratio).any() else (np.nan, np.nan)
    values = (low, high, np.mean(many_a > many_b), *relative)
    return {
        **_means(paired, comparison, metric),
        **dict(zip(_INTERVAL, map(float, values), strict=True)),
        **_size(paired),
    }
