"""Tables of the page about results: scores, differences, failures, cost."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import pandas as pd

from scenc.benchmark.report._page_table import Cell, Table, interval, number, score, text
from scenc.results import (
    LOWER_IS_BETTER,
    NOWHERE,
    TRAINING_MSE,
    Results,
    in_order,
    summarise,
    title,
    training_errors,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from scenc.results import Summary

MAIN = ("batch_correction", "bio_preservation", "accuracy", "macro_f1", TRAINING_MSE)


def with_training_error(results: Results) -> Results:
    """Return the results with the lowest validation error of each training as one more metric."""
    errors = training_errors(results)
    errors = errors[errors["encoding"].isin(results.encodings["encoding"])]
    scores = pd.concat([results.scores, errors]) if len(errors) else results.scores
    return Results.from_tables(scores, results.curves, results.jobs, results.run, results.checks)


def summary_table(results: Results, metrics: Sequence[str], caption: str) -> Table:
    """Return mean and standard deviation over data sets, encodings x metrics."""
    columns = {metric: summarise(results, metric) for metric in metrics}
    columns = {metric: column for metric, column in columns.items() if column}
    best = {metric: _best(column, metric) for metric, column in columns.items()}
    ordered = in_order(results.encodings)
    rows = []
    for name, kind in zip(ordered["encoding"], ordered["kind"], strict=True):
        row = [text(name), text(kind)]
        for metric, column in columns.items():
            summary = column.get(name, NOWHERE)
            note = f"({summary.n} of {summary.of})" if 0 < summary.n < summary.of else ""
            mark = "best" if not note and summary.mean == best[metric] else ""
            row.append(score(summary.mean, summary.sd, note, mark))
        rows.append(row)
    return Table(
        caption=caption,
        heads=["encoding", "kind", *map(title, columns)],
        rows=rows,
        note="Means over data sets of the means over seeds, ± one standard deviation over data "
        "sets; of a single data set, and of training, over seeds. Bold: the best mean of a column, "
        "certain or not. A note such as (4 of 6): defined on four of six data sets only, and not "
        "to be compared with means over all.",
    )


def _best(column: Mapping[str, Summary], metric: str) -> float:
    means = [of.mean for of in column.values() if of.n == of.of > 0]
    return (min if metric in LOWER_IS_BETTER else max)(means, default=math.nan)


def dataset_table(results: Results) -> Table:
    """Return means over seeds, one row for each encoding and data set."""
    table = results.per_dataset()
    table = table[table["metric"] != TRAINING_MSE]
    metrics = list(dict.fromkeys(table["metric"]))
    values = {
        (name, dataset, metric): (value, std)
        for name, dataset, metric, value, std in zip(
            table["encoding"], table["dataset"], table["metric"], table["value"], table["std"],
            strict=True,
        )
    }  # fmt: skip
    there = {(name, dataset) for name, dataset, _ in values}
    rows = [
        [text(name), text(dataset)]
        + [score(*values.get((name, dataset, metric), (math.nan, math.nan))) for metric in metrics]
        for name in in_order(results.encodings)["encoding"]
        for dataset in dict.fromkeys(table["dataset"])
        if (name, dataset) in there
    ]
    return Table(
        caption="Every score on every data set",
        heads=["encoding", "data set", *map(title, metrics)],
        rows=rows,
        note="Means over seeds, ± one standard deviation over seeds.",
    )


def budget_table(results: Results, metrics: Sequence[str]) -> Table:
    """Return means over data sets, encodings x metrics, a row for each budget."""
    means = results.summary().dropna(subset="budget")
    columns = [metric for metric in metrics if metric in {*means["metric"]}]
    found = {
        (name, int(budget), metric): (mean, std, n)
        for name, budget, metric, mean, std, n in means[
            ["encoding", "budget", "metric", "mean", "std", "n_datasets"]
        ].itertuples(index=False, name=None)
    }
    of = {metric: means.loc[means["metric"] == metric, "n_datasets"].max() for metric in columns}
    there = {(name, budget) for name, budget, _ in found}
    rows = []
    for name in in_order(results.encodings)["encoding"]:
        for budget in results.budgets:
            if (name, budget) in there:
                row = [text(name), number(budget)]
                for metric in columns:
                    mean, std, n = found.get((name, budget, metric), (math.nan, math.nan, 0))
                    note = f"({n} of {of[metric]})" if 0 < n < of[metric] else ""
                    row.append(score(mean, std, note))
                rows.append(row)
    return Table(
        caption="Scores at each budget",
        heads=["encoding", "visits", *map(title, columns)],
        rows=rows,
        note="Means over data sets of the means over seeds, ± one standard deviation over data "
        "sets, after so many visits of cells in one training whose learning rate is laid out for "
        "the largest budget.",
    )


def negative_table(results: Results) -> Table:
    """Return how far the scores of negative controls fall."""
    return Table.of(
        "Negative controls",
        results.negative_controls().to_dict("records"),
        {
            "encoding": lambda row: text(row["encoding"]),
            "shuffled": lambda row: text(row["shuffled"]),
            "score": lambda row: text(title(row["metric"])),
            "as it is": lambda row: number(row["intact"], ".3f"),
            "with it shuffled": lambda row: number(row["value"], ".3f"),
            "share worse": lambda row: number(row["worse"], ".0%"),
            "data sets": lambda row: number(row["n_datasets"]),
        },
        "Genes: the counts of each cell belong to genes drawn anew. Expression: counts are dealt "
        "out anew among the genes that a cell expresses. Labels: permuted over the cells. Shown "
        "are the scores that must be worse for it, of the first seed.",
    )


def difference_table(intervals: pd.DataFrame, caption: str) -> Table:
    """Return differences with their intervals."""
    visits = {"visits": lambda row: number(row["budget"])}
    return Table.of(
        caption,
        intervals.to_dict("records"),
        {
            **(visits if intervals["budget"].notna().any() else {}),
            "a over b": lambda row: text(row["comparison"]),
            "within": lambda row: text(row["within"]),
            "score": lambda row: text(title(row["metric"])),
            "a": lambda row: number(row["a"], ".3f"),
            "b": lambda row: number(row["b"], ".3f"),
            "a - b": lambda row: interval(row["difference"], row["low"], row["high"]),
            "relative to b": lambda row: interval(
                row["relative"], row["relative_low"], row["relative_high"], percent=True
            ),
            "data sets": lambda row: number(row["n_datasets"]),
            "seeds": lambda row: number(row["n_seeds"]),
        },
        "Intervals hold the middle 95 % of a paired bootstrap over data sets and seeds. Bold: the "
        "interval leaves zero out. With few data sets or seeds intervals are rough, and with many "
        "comparisons some leave zero out by chance.",
    )


def trouble_table(jobs: pd.DataFrame) -> Table:
    """Return the jobs that diverged or failed, less those that failed because another one did."""
    failed_for_another = jobs["reason"].str.contains(r"^(?:train|embed)/.* failed: ", regex=True)
    trouble = pd.concat(
        jobs[(jobs["status"] == status) & ~failed_for_another] for status in ("diverged", "failed")
    )
    return Table.of(
        "Trainings that diverged and jobs that failed",
        trouble.to_dict("records"),
        {
            "what": lambda row: Cell(row["status"], row["status"], row["status"]),
            "task": lambda row: text(row["task"]),
            "encoding": lambda row: text(row["encoding"]),
            "data set": lambda row: text(row["dataset"]),
            "seed": lambda row: number(row["seed"]),
            "at step": lambda row: number(row["diverged_step"]),
            "reason": lambda row: text(row["reason"], "wrap"),
        },
    )


def undefined_table(scores: pd.DataFrame, jobs: pd.DataFrame) -> Table:
    """Return why scores are undefined, other than by failed jobs."""
    failed = {*jobs.loc[jobs["status"] == "failed", "reason"]}
    undefined = scores[scores["value"].isna() & ~scores["reason"].isin(failed)]
    groups = undefined.groupby("reason", sort=False)
    return Table.of(
        "Scores that are undefined, and why",
        ({"reason": reason, "rows": rows} for reason, rows in groups),
        {
            "reason": lambda group: text(group["reason"] or "no reason given", "wrap"),
            "scores": lambda group: _list(map(title, group["rows"]["metric"].unique())),
            "data sets": lambda group: _list(group["rows"]["dataset"].unique()),
            "encodings": lambda group: _list(group["rows"]["encoding"].unique()),
            "how many": lambda group: number(len(group["rows"])),
        },
    )


def cost_table(jobs: pd.DataFrame) -> Table:
    """Return the seconds of each encoding by task, and its peak memory."""
    rows = []
    for name, group in jobs.groupby("encoding", sort=False):
        seconds = group.groupby("task")["seconds"].sum(min_count=1)
        cells = [number(seconds.get(task)) for task in ("train", "embed", "score")]
        rows.append([text(name), *cells, number(group["peak_memory_mb"].max())])
    return Table(
        caption="Time and memory",
        heads=["encoding", "training, s", "embedding, s", "scoring, s", "peak memory, MB"],
        rows=rows,
        note="Seconds summed over seeds and data sets.",
    )


def _list(names: Iterable[str], most: int = 8) -> Cell:
    names = list(names)
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return text(", ".join(names[:most]) + more, "wrap")
