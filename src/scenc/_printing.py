"""Tables that results and reports print: as plain text, and as HTML in notebooks."""

from __future__ import annotations

from dataclasses import dataclass, field
from html import escape
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray


@dataclass(frozen=True)
class PrintedTable:
    """A table of texts with a title.

    Attributes
    ----------
    title
        One line or more above the table.
    rows
        Cells of each row.
    align
        One character per column: ``"<"`` for left, ``">"`` for right.
    header
        Names of the columns, if they are shown.
    details
        Further lines under a row, by its number.
    notes
        Lines under the table.
    indent
        Beginning of each line of the text except for the title.
    """

    title: str
    rows: Sequence[Sequence[str]]
    align: str
    header: Sequence[str] = ()
    details: Mapping[int, Sequence[str]] = field(default_factory=dict)
    notes: Sequence[str] = ()
    indent: str = ""

    def text(self) -> str:
        """Return aligned plain text."""
        rows = [self.header, *self.rows] if self.rows and self.header else self.rows
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = []
        for number, row in enumerate(rows, start=len(self.rows) - len(rows)):
            cells = zip(row, self.align, widths, strict=True)
            lines.append("  ".join(f"{cell:{side}{width}}" for cell, side, width in cells).rstrip())
            lines += [f"  {line}" for line in self.details.get(number, ())]
        title = [self.title] if self.title else []
        return "\n".join([*title, *(f"{self.indent}{line}" for line in (*lines, *self.notes))])

    def html(self) -> str:
        """Return an HTML table, all texts escaped."""
        parts = []
        if self.title:
            parts.append(f"<caption>{'<br/>'.join(map(escape, self.title.splitlines()))}</caption>")
        if self.rows and self.header:
            parts.append(self._html_row(self.header, "th"))
        for number, row in enumerate(self.rows):
            parts.append(self._html_row(row, "td"))
            for line in self.details.get(number, ()):
                cell = f"<td colspan='{len(row)}' style='text-align:left'>{escape(line)}</td>"
                parts.append(f"<tr>{cell}</tr>")
        notes = "".join(f"<p>{escape(note)}</p>" for note in self.notes)
        return f"<div><table>{''.join(parts)}</table>{notes}</div>"

    def _html_row(self, row: Sequence[str], tag: str) -> str:
        sides = ["left" if side == "<" else "right" for side in self.align]
        # Spaces at the beginning of a cell indent it.
        return "".join(
            f"<{tag} style='text-align:{side};white-space:pre-wrap'>{escape(cell)}</{tag}>"
            for side, cell in zip(sides, row, strict=True)
        ).join(("<tr>", "</tr>"))


class Printed:
    """Prints as a table: what `_table` returns."""

    def _table(self) -> PrintedTable:
        raise NotImplementedError

    def __repr__(self) -> str:
        return f"<{self._table().title}>"

    def __str__(self) -> str:
        return self._table().text()

    def _repr_html_(self) -> str:
        return self._table().html()


def list_some(values: Sequence[str] | NDArray[Any], most: int = 4, between: str = ", ") -> str:
    """Join the first few values, and say how many more there are."""
    more = len(values) - most
    end = f"{between.rstrip(', ')} and {more:,} more" if more > 0 else ""
    return between.join(values[:most]) + end
