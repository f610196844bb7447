"""Looks of encodings: colour and letter by expression encoder, shape and hatch by gene encoder."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from itertools import cycle
from typing import TYPE_CHECKING, Any

from scenc.results import in_order

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterator

    import pandas as pd

INK, MUTED, FAINT = "#1f2328", "#6b7280", "#d0d4da"

EXPRESSION_COLORS = {"raw": "#f0bc42", "hard": "#bf4519", "log": "#4ba3d4", "soft": "#14335f"}
"""They differ in lightness too, so that they can be told apart in grey and by the colour-blind."""

# Gene encoder: marker, hatch, dashes of a line (matplotlib's on and off lengths; none: solid).
_GENE_LOOKS: dict[str, tuple[str, str, tuple[float, ...]]] = {
    "learned": ("o", "", ()),
    "protein": ("s", "////", (4, 1.6)),
}
_OTHER_GENES = ("D", "....", (1, 1.2))
_CONTROL_DASHES = ((1, 1.2), (6, 1.5, 1, 1.5), (3, 1.5, 1, 1.5, 1, 1.5))
_OTHER_MARKERS = ("^", "v", "D", "P", "X", "<", ">", "p", "h", "*", "d", "8")
_OTHER_COLORS = ("#8a9099", "#5b616b", "#b4b9c1")


@dataclass(frozen=True)
class Look:
    """The look of one encoding, the same in all figures.

    Attributes
    ----------
    color
        That of its expression encoder; grey if it has none.
    marker, hatch, dashes
        Those of its gene encoder.
    letter
        First letter of its expression encoder, with a number where two encodings would look the
        same.
    hollow
        Whether it is a control.
    """

    color: str
    marker: str
    hatch: str
    dashes: tuple[float, ...]
    letter: str
    hollow: bool

    @property
    def face(self) -> str:
        """The colour inside."""
        return "white" if self.hollow else self.color

    @property
    def on_face(self) -> str:
        """The colour of a letter or a hatch inside."""
        if self.hollow:
            return self.color if self.color != EXPRESSION_COLORS["raw"] else INK
        return INK if self.color in (EXPRESSION_COLORS["raw"], _OTHER_COLORS[2]) else "white"


PLAIN = Look(_OTHER_COLORS[0], "o", "", (), "", hollow=False)
"""The look of an encoding of which only the name is known, because it has no scores."""


def looks(table: pd.DataFrame) -> dict[str, Look]:
    """Return the look of each encoding of a table, in the order to list them in."""
    used: Counter[Hashable] = Counter()
    others = zip(cycle(_OTHER_MARKERS), cycle(_OTHER_COLORS), strict=False)
    rows = in_order(table).itertuples(index=False)
    return {str(row.encoding): _look(row, used, others) for row in rows}


def _look(row: Any, used: Counter[Hashable], others: Iterator[tuple[str, str]]) -> Look:
    if row.expression_encoder not in EXPRESSION_COLORS or row.kind == "baseline":
        marker, color = next(others)
        return Look(color, marker, "", (2, 1), "", row.kind == "control")
    marker, hatch, dashes = _GENE_LOOKS.get(row.gene_encoder, _OTHER_GENES)
    control = row.kind == "control"
    key = (row.expression_encoder, row.gene_encoder, control)
    if control:
        dashes = _CONTROL_DASHES[used[row.expression_encoder] % len(_CONTROL_DASHES)]
        used[row.expression_encoder] += 1
    used[key] += 1
    letter = row.expression_encoder[0].upper() + (str(used[key]) if used[key] > 1 else "")
    return Look(EXPRESSION_COLORS[row.expression_encoder], marker, hatch, dashes, letter, control)
