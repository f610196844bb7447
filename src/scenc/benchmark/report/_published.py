"""The paper's published numbers, and a table of them beside those of a run."""

from __future__ import annotations

import math
from importlib.resources import files
from io import StringIO
from typing import TYPE_CHECKING, Any

import pandas as pd

from scenc.benchmark.report._page_table import UNDEFINED, Cell, Table, interval, text
from scenc.results import title

if TYPE_CHECKING:
    from collections.abc import Mapping

    from scenc.results import Results

_ABSENT = Cell("not in this run", None, "none")


def published() -> pd.DataFrame:
    """Return the numbers that the paper printed.

    Returns
    -------
    One row per number: ``kind`` (``"mean"`` of an encoding over data sets, ``"group mean"`` over
    the encodings of one gene encoder, ``"relative"`` difference, or ``"diverged"``: the encoding's
    loss did), ``subject``, ``within``, ``metric``, ``value`` and ``spread`` (standard deviation
    over data sets) as fractions, ``printed`` (as the paper has it), ``figure`` (of the paper, that
    shows the quantity). The source is in ``attrs["source"]``.

    Examples
    --------
    >>> from scenc.benchmark import published
    >>> table = published()
    >>> table.loc[(table["kind"] == "mean") & (table["metric"] == "accuracy"), "value"].item()
    0.916
    """
    file = files("scenc.benchmark.report").joinpath("published.csv").read_text("utf-8")
    source, _, rows = file.partition("\n")
    words = dict.fromkeys(("kind", "subject", "within", "metric", "printed", "figure"), "string")
    table = pd.read_csv(
        StringIO(rows),
        dtype=words,
        keep_default_na=False,
        na_values={"value": [""], "spread": [""]},
    )
    table.attrs["source"] = source.removeprefix("# ")
    return table


def beside(results: Results, intervals: pd.DataFrame) -> Table:
    """Return the published numbers with those of a run at their side.

    Parameters
    ----------
    results
        The run, with the metric `TRAINING_MSE` among its scores.
    intervals
        Its `Results.bootstrap`.
    """
    table = published()
    summary = results.summary()
    encodings = summary[summary["kind"] == "encoding"]
    rows = []
    for row in table[table["kind"] != "diverged"].to_dict("records"):
        ours, reading = _ours(row, encodings, intervals)
        what = [text(_quantity(row)), text(title(row["metric"]))]
        theirs = Cell(row["printed"], float(row["value"]), "published")
        rows.append([*what, theirs, ours, reading])
    rows.append(_divergence(table, results))
    return Table(
        caption="Numbers printed in the paper, and the same quantities of this run",
        heads=["quantity", "score", "published", "this run", "direction"],
        rows=rows,
    )


def _quantity(row: Mapping[Any, Any]) -> str:
    subject = str(row["subject"]).replace("protein", "pretrained")
    if row["kind"] == "group mean":
        return f"{subject} genes, mean of encodings"
    return subject + (", learned genes" if row["within"] == "learned" else "")


def _ours(
    row: Mapping[Any, Any], encodings: pd.DataFrame, intervals: pd.DataFrame
) -> tuple[Cell, Cell]:
    """Return the number of this run, and whether it points in the published direction."""
    if row["kind"] == "mean":
        genes, _, expression = row["subject"].partition(" + ")
        found = encodings[
            (encodings["gene_encoder"] == genes)
            & (encodings["expression_encoder"] == expression)
            & (encodings["metric"] == row["metric"])
        ]
        if len(found) != 1:
            return (_ABSENT if found.empty else Cell("several encodings", None, "none")), text("")
        return _mean(
            float(found["mean"].iloc[0]), float(found["std"].iloc[0]), row["metric"]
        ), text("")
    comparison = row["subject"] if row["kind"] == "relative" else "learned over protein"
    found = intervals[
        (intervals["comparison"] == comparison)
        & (intervals["within"] == row["within"])
        & (intervals["metric"] == row["metric"])
    ]
    if found.empty:
        return _ABSENT, text("")
    ours = found.iloc[0]
    if row["kind"] == "group mean":
        side = "a" if row["subject"] == "learned" else "b"
        return _mean(float(ours[side]), math.nan, row["metric"]), text("")
    low, high = float(ours["relative_low"]), float(ours["relative_high"])
    cell = interval(float(ours["relative"]), low, high, percent=True)
    return Cell(cell.text, cell.sort, "ours"), _direction(row["value"], low, high)


def _mean(mean: float, spread: float, metric: str) -> Cell:
    if math.isnan(mean):
        return Cell(UNDEFINED, None, "none")
    percent = metric in ("accuracy", "macro_f1")  # as the paper prints them
    scale, form, sign = (100, ".1f", " %") if percent else (1, ".3f", "")
    shown = f"{scale * mean:{form}}"
    if not math.isnan(spread):
        shown += f" ± {scale * spread:{form}}"
    return Cell(shown + sign, mean, "ours")


def _direction(theirs: float, low: float, high: float) -> Cell:
    if not high > low:
        return text("no interval", "unsure")
    if low <= 0 <= high:
        return text("undecided", "unsure")
    return (
        text("the same", "same") if (low > 0) == (theirs > 0) else text("the opposite", "opposite")
    )


def _divergence(table: pd.DataFrame, results: Results) -> list[Cell]:
    theirs = list(table.loc[table["kind"] == "diverged", "subject"])
    entries = results.encodings
    grid = entries.loc[entries["kind"] == "encoding", "encoding"]
    trained = results.jobs[(results.jobs["task"] == "train") & results.jobs["encoding"].isin(grid)]
    said = [
        f"{name} ({(group['status'] == 'diverged').sum()} of {len(group)} seeds)"
        for name, group in trained.groupby("encoding", sort=False)
        if (group["status"] == "diverged").any()
    ]
    n = trained["encoding"].nunique()
    ours = f"{len(said)} of {n}" + (f": {', '.join(said)}" if said else "")
    shown = ", ".join(theirs).replace("protein", "ESM-2")
    return [
        text("encodings whose loss diverged"),
        text("validation loss"),
        Cell(f"{len(theirs)} of 8: {shown}", float(len(theirs)), "published wrap"),
        Cell(ours, float(len(said)), "ours wrap") if n else _ABSENT,
        text(""),
    ]
