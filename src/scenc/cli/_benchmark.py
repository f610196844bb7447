"""``scenc benchmark``: all encodings from one file; ``scenc report``: its results as a page."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from scenc.cli import _options as options

if TYPE_CHECKING:
    import pandas as pd
    from rich.console import Console

    from scenc.benchmark import Results


def benchmark(
    context: typer.Context,
    config: Annotated[
        str, typer.Argument(help="A YAML file, or 'small' or 'paper', which come with scenc.")
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for the results.")],
    data_dir: Annotated[
        Path | None,
        typer.Option(help="Folder of the data files; default: the config's data_dir, or its own."),
    ] = None,
    budgets: Annotated[
        list[int] | None,
        typer.Option(
            min=1,
            help="Visits of cells after which each encoding is judged, one training for all; "
            "several, one after the other. Default: the config's.",
        ),
    ] = None,
    seeds: Annotated[
        list[int] | None,
        typer.Option(min=0, help="Seeds, as many as wanted; default: the config's."),
    ] = None,
    negative_controls: Annotated[
        bool,
        options.flag(
            "--negative-controls",
            help="Score each encoding also with shuffled genes, expression and labels: scores must "
            "fall. Default: the config's.",
        ),
    ] = False,
    workers: Annotated[int, typer.Option(min=1, help="Processes to work in.")] = 1,
    threads: Annotated[
        int | None, typer.Option(min=1, help="Threads of each job; default: the config's, or 1.")
    ] = None,
    dry_run: Annotated[
        bool, options.flag("--dry-run", help="Print the jobs, their time and memory; do nothing.")
    ] = False,
    all_jobs: Annotated[
        bool, options.flag("--all", help="With --dry-run: every single job.")
    ] = False,
    fresh: Annotated[
        bool, options.flag("--fresh", help="Forget earlier results in the folder first.")
    ] = False,
    resume: Annotated[
        bool, options.flag("--resume", help="Go on where an earlier run was; the default.")
    ] = False,
) -> None:
    """Train, embed and score every encoding; a stopped run goes on where it was."""
    if fresh and resume:
        raise ValueError("--fresh and --resume exclude each other.")
    if all_jobs and not dry_run:
        raise ValueError("--all cannot apply without --dry-run.")
    if dry_run:
        options.refuse_given(context, ("fresh", "resume", "workers"), "--dry-run does nothing.")
    from scenc.benchmark.entries._yaml_file import read_config

    read = read_config(config, data_dir)
    arguments = read.arguments()
    missing = read.missing_files
    if missing and not dry_run:
        raise FileNotFoundError(read.describe_missing(missing))
    chosen = {
        "threads": threads,
        "budgets": budgets,
        "seeds": seeds,
        "negative_controls": negative_controls,
    }
    arguments |= {name: value for name, value in chosen.items() if value}

    from rich.console import Console

    from scenc.benchmark import Benchmark

    # Names of files and data sets are printed as they are, brackets and colons too.
    console = Console(markup=False, emoji=False)
    planned = Benchmark(out=out, **arguments)
    if dry_run:
        with console.status("Reading data and timing a few training steps"):
            jobs = planned.jobs()
        _print_jobs(console, jobs, all_jobs)
        if missing:
            console.print(read.describe_missing(missing), soft_wrap=True)
        return
    results = planned.run(workers=workers, fresh=fresh)
    _print_results(console, results, out)
    n_failed = int((results.jobs["status"] == "failed").sum())
    if n_failed:
        raise RuntimeError(f"{n_failed} jobs failed; jobs.csv says why. Run again to try again.")


def report(
    results: Annotated[Path, typer.Argument(help="Output folder of a benchmark.")],
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="The page; default: report.html in there.")
    ] = None,
    figures: Annotated[
        Path | None, typer.Option(help="Folder for the figures as PDF, SVG and PNG as well.")
    ] = None,
) -> None:
    """Write a benchmark's results as one HTML page, with the paper's numbers beside them."""
    if not results.is_dir():
        what = "is a file; give the folder it is in" if results.exists() else "does not exist"
        raise ValueError(f"{results} {what}.")
    from scenc.benchmark import write_report

    out = write_report(results, out, figures)
    typer.echo(f"wrote {out} ({out.stat().st_size / 1e6:.1f} MB)")
    if figures is not None:
        typer.echo(f"wrote the figures to {figures}")


def _print_jobs(console: Console, jobs: pd.DataFrame, all_jobs: bool) -> None:
    from rich.table import Table

    keys = ["job"] if all_jobs else ["task", "encoding"]
    table = Table(title="Jobs", title_justify="left")
    for name in ("job",) if all_jobs else ("task", "encoding", "jobs", "done"):
        table.add_column(name, justify="right" if name in ("jobs", "done") else "left")
    for name in ("each", "in all", "memory, GB"):
        table.add_column(name, justify="right")
    for group, rows in jobs.groupby(keys, sort=False):
        left = rows[~rows["status"].isin(["done", "diverged"])]
        counts = [] if all_jobs else [str(len(rows)), str(len(rows) - len(left))]
        low, high = _time(rows["seconds"].min()), _time(rows["seconds"].max())
        table.add_row(
            *(str(name) for name in group),
            *counts,
            low if low == high else f"{low} - {high}",
            _time(left["seconds"].sum(skipna=False)),
            _number(rows["memory_mb"].max() / 1000),
        )
    console.print(table)
    _print_total(console, jobs)


def _print_total(console: Console, jobs: pd.DataFrame) -> None:
    left = jobs[~jobs["status"].isin(["done", "diverged"])]
    unknown = int(left["seconds"].isna().sum())
    more = f", and {unknown} jobs of unknown size" if unknown else ""
    console.print(
        f"{len(jobs)} jobs, {len(jobs) - len(left)} of them done; "
        f"left: {_time(left['seconds'].sum())} of work{more}."
    )
    console.print(jobs.attrs["basis"])


def _print_results(console: Console, results: Results, out: Path) -> None:
    console.print(str(results), highlight=False)
    odd = results.jobs[results.jobs["status"].isin(["failed", "diverged"])]
    shown = odd.drop_duplicates("reason").head(10)
    for job, status, reason in zip(shown["job"], shown["status"], shown["reason"], strict=True):
        console.print(f"{status}: {job}: {reason}", highlight=False)
    console.print(f"wrote {out}", soft_wrap=True)


def _time(seconds: float) -> str:
    if math.isnan(seconds):
        return "?"
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    if seconds < 48 * 3600:
        return f"{seconds / 3600:.1f} h"
    return f"{seconds / 86400:,.0f} days"


def _number(value: float) -> str:
    return "?" if math.isnan(value) else f"{value:,.1f}"
