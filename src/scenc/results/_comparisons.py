"""Which differences are looked at: learned over protein, soft over the others, depth shown."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd

GENE_ENCODERS = ("learned", "protein")
EXPRESSION_ENCODERS = ("raw", "hard", "log", "soft")


@dataclass(frozen=True)
class Comparison:
    """A group of encodings against another, member by member.

    Attributes
    ----------
    name
        What is compared, such as ``"learned over protein"``.
    within
        What is the same on both sides; ``"all"``: the mean over all there are.
    a, b
        The encodings of both groups; their scores are averaged.
    """

    name: str
    within: str
    a: tuple[str, ...]
    b: tuple[str, ...]


def paper_comparisons(encodings: pd.DataFrame) -> list[Comparison]:
    """Return learned over protein for each expression encoder, and soft over each other one.

    Parameters
    ----------
    encodings
        One row per encoding: ``encoding``, ``kind``, ``gene_encoder``, ``expression_encoder``.
    """
    cells = _cells(encodings, "encoding")
    comparisons = []
    pairs = [(("learned", e), ("protein", e), e) for e in _order(cells, 1)]
    comparisons += _matched(cells, "learned over protein", pairs)
    for other in _order(cells, 1):
        if other != "soft":
            pairs = [((g, "soft"), (g, other), g) for g in _order(cells, 0)]
            comparisons += _matched(cells, f"soft over {other}", pairs)
    return comparisons


def control_comparisons(encodings: pd.DataFrame) -> list[Comparison]:
    """Return each control over the encoding it is made from, and soft over the control."""
    cells, controls = _cells(encodings, "encoding"), _cells(encodings, "control")
    comparisons = []
    for (genes, expression), names in controls.items():
        for name in names:
            shown = name.partition(" + ")[2] or name
            if base := cells.get((genes, expression)):
                what = f"{shown} over {expression}"
                comparisons.append(Comparison(what, genes, (name,), tuple(base)))
            if soft := cells.get((genes, "soft")):
                what = f"soft over {shown}"
                comparisons.append(Comparison(what, genes, tuple(soft), (name,)))
    return comparisons


def baseline_comparisons(encodings: pd.DataFrame) -> list[Comparison]:
    """Return each encoding over each baseline."""
    kinds = encodings.set_index("encoding")["kind"]
    baselines = kinds.index[kinds == "baseline"]
    return [
        Comparison(f"encoding over {baseline}", name, (name,), (baseline,))
        for baseline in baselines
        for name in kinds.index[kinds == "encoding"]
    ]


def _cells(encodings: pd.DataFrame, kind: str) -> dict[tuple[str, str], list[str]]:
    """Return the encodings of a kind by their gene and expression encoder."""
    paired = encodings[["gene_encoder", "expression_encoder"]].notna().all(axis=1)
    of_kind = encodings[(encodings["kind"] == kind) & paired]
    cells: dict[tuple[str, str], list[str]] = {}
    columns = (of_kind[name] for name in ("encoding", "gene_encoder", "expression_encoder"))
    for name, genes, expression in zip(*columns, strict=True):
        cells.setdefault((genes, expression), []).append(name)
    return cells


def _order(cells: dict[tuple[str, str], list[str]], position: int) -> list[str]:
    known = (GENE_ENCODERS, EXPRESSION_ENCODERS)[position]
    there = dict.fromkeys(cell[position] for cell in cells)
    return sorted(there, key=lambda name: known.index(name) if name in known else len(known))


def _matched(
    cells: dict[tuple[str, str], list[str]],
    name: str,
    pairs: list[tuple[tuple[str, str], tuple[str, str], str]],
) -> list[Comparison]:
    """Return a comparison for each pair whose two sides are there, and one over all of them."""
    found = [
        Comparison(name, within, tuple(cells[a]), tuple(cells[b]))
        for a, b, within in pairs
        if a in cells and b in cells
    ]
    if len(found) > 1:
        a = tuple(member for comparison in found for member in comparison.a)
        b = tuple(member for comparison in found for member in comparison.b)
        found.append(Comparison(name, "all", a, b))
    return found
