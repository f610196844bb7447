from __future__ import annotations

from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

SHOWN = 4


@dataclass(frozen=True)
class Report:
    """What a result says of itself, as plain text and as HTML.

    Parameters
    ----------
    title
        One line.
    rows
        Label, count and an example or remark per line of the table.
    total
        What the counts are shares of.
    notes
        Sentences under the table.
    """

    title: str
    rows: Sequence[tuple[str, int, str]]
    total: int
    notes: Sequence[str] = ()

    def text(self) -> str:
        """Aligned plain text."""
        wide = max((len(label) for label, _, _ in self.rows), default=0)
        high = max((len(f"{count:,}") for _, count, _ in self.rows), default=0)
        lines = [
            f"  {label:<{wide}}  {count:>{high},}  {self._share(count):>7}  {remark}".rstrip()
            for label, count, remark in self.rows
        ]
        return "\n".join([self.title, *lines, *(f"  note: {note}" for note in self.notes)])

    def html(self) -> str:
        """A table for Jupyter."""
        cells = "".join(
            f"<tr><td style='text-align:left'>{escape(label)}</td><td>{count:,}</td>"
            f"<td>{self._share(count)}</td><td style='text-align:left'>{escape(remark)}</td></tr>"
            for label, count, remark in self.rows
        )
        notes = "".join(f"<p>{escape(note)}</p>" for note in self.notes)
        return f"<div><b>{escape(self.title)}</b><table>{cells}</table>{notes}</div>"

    def _share(self, count: int) -> str:
        return f"{100 * count / self.total:.1f} %" if self.total else "-"


def sample(values: Iterable[str], total: int) -> str:
    """The first few of ``total`` values, and how many more there are."""
    shown = [value for value, _ in zip(values, range(SHOWN), strict=False)]
    more = total - len(shown)
    return ", ".join(shown) + (f" and {more:,} more" if more > 0 else "")
