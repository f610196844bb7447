from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd

from scenc._printing import PrintedTable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from scenc.genes._identifiers import Names

#: how a name was matched or why it was not, strongest first, and what reports call it
RULES = {
    "exact": "same name",
    "ensembl": "Ensembl id",
    "symbol": "current symbol",
    "hgnc": "HGNC id",
    "retired": "retired Ensembl id",
    "previous": "previous symbol",
    "alias": "alias",
    "case": "other capitals",
    "date": "spreadsheet date",
    "signs": "other dashes and dots",
    "genome": "a genome before the name",
    "unlisted": "Ensembl id not in the table",
    "suffixed": "suffixed copy of a name",
    "ambiguous": "ambiguous",
    "duplicate": "another column has the gene",
    "tied": "columns tied for one gene",
    "unknown": "unknown",
    "unmatched": "not found",
    "unnamed": "without a name",
}

#: rules that lead to a gene of the table
MAPPED = ("ensembl", "symbol", "hgnc", "retired", "previous", "alias", "case", "date", "signs")

#: how directly a rule names a gene: of two names for one gene the lower strength counts first
STRENGTH = {
    "exact": 0,
    "ensembl": 1,
    "symbol": 1,
    "hgnc": 1,
    "unlisted": 1,
    "genome": 1,
    "retired": 2,
    "previous": 2,
    "alias": 3,
    "case": 4,
    "date": 5,
    "signs": 5,
}
WEAKEST = 9


def count_rules(rule: Names) -> dict[str, int]:
    """Count names per rule, in the order of `RULES`; rules that no name met are left out."""
    counts = pd.Series(rule, dtype=object).value_counts()
    return {name: int(counts[name]) for name in RULES if name in counts.index}


def _share(count: int, total: int) -> str:
    return f"{100 * count / total:.1f} %" if total else "-"


def table_of_counts(
    title: str, counts: Sequence[tuple[str, int, str]], total: int, notes: Sequence[str]
) -> PrintedTable:
    """Make a table of labels, counts, their shares of a total, and remarks."""
    rows = [
        (label, f"{count:,}", f"{_share(count, total):>7}", remark)
        for label, count, remark in counts
    ]
    return PrintedTable(title, rows, "<>><", notes=[f"note: {note}" for note in notes], indent="  ")
