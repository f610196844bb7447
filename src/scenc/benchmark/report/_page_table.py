"""Tables as the page shows them: text to read, values to sort by."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, Self

import pandas as pd

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

UNDEFINED = "undefined"


@dataclass(frozen=True)
class Cell:
    """One cell.

    Attributes
    ----------
    text
        The text shown.
    sort
        The value that rows are sorted by; None ("undefined") comes last.
    mark
        Names of CSS classes.
    """

    text: str
    sort: float | str | None
    mark: str = ""


@dataclass(frozen=True)
class Table:
    """One table.

    Attributes
    ----------
    caption
        Its heading.
    heads
        Titles of the columns.
    rows
        As many cells in each as there are heads.
    note
        Text below it.
    """

    caption: str
    heads: Sequence[str]
    rows: Sequence[Sequence[Cell]] = field(default_factory=list)
    note: str = ""

    @classmethod
    def of(
        cls,
        caption: str,
        records: Iterable[Mapping[Any, Any]],
        columns: Mapping[str, Callable[[Mapping[Any, Any]], Cell]],
        note: str = "",
    ) -> Self:
        """Make a table of records.

        Parameters
        ----------
        caption, note
            As above.
        records
            One for each row.
        columns
            For each title the function that makes a cell of a record.
        """
        rows = [[make(record) for make in columns.values()] for record in records]
        return cls(caption, list(columns), rows, note)

    @cached_property
    def numeric(self) -> list[bool]:
        """Whether each column holds numbers, which are set flush right."""
        return [
            any(isinstance(row[i].sort, float) for row in self.rows) for i in range(len(self.heads))
        ]


def text(value: Any, mark: str = "") -> Cell:
    """Return a cell of words."""
    shown = "" if value is None or (isinstance(value, float) and math.isnan(value)) else str(value)
    return Cell(shown, shown.casefold() or None, mark)


def number(value: Any, form: str = ",.0f", mark: str = "") -> Cell:
    """Return a cell with a number; empty where there is none."""
    if pd.isna(value):
        return Cell("", None, mark)
    return Cell(format(float(value), form), float(value), mark)


def score(mean: float, spread: float = math.nan, note: str = "", mark: str = "") -> Cell:
    """Return a cell with a mean and its spread, or "undefined"."""
    if math.isnan(mean):
        return Cell(UNDEFINED, None, f"{mark} none".strip())
    shown = f"{mean:.3f}" + ("" if math.isnan(spread) else f" ± {spread:.3f}")
    return Cell(f"{shown} {note}".strip(), float(mean), mark)


def interval(middle: float, low: float, high: float, percent: bool = False) -> Cell:
    """Return a cell with a difference and its interval."""
    if math.isnan(middle):
        return Cell(UNDEFINED, None, "none")
    scale, form, unit = (100, "+.1f", " %") if percent else (1, "+.3f", "")
    shown = f"{scale * middle:{form}}{unit}"
    certain = high > low and (low > 0 or high < 0)
    if high > low:
        shown += f" [{scale * low:{form}}, {scale * high:{form}}]"
    return Cell(minus(shown), float(middle), "certain" if certain else "")


def minus(shown: str) -> str:
    """Return a number with minus signs in place of hyphens."""
    return shown.replace("-", "\N{MINUS SIGN}")
