"""Encodings in the order of the paper, and which of them are compared with which."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd

KINDS = ("encoding", "control", "baseline")
GENE_ENCODERS = ("learned", "protein")
EXPRESSION_ENCODERS = ("raw", "hard", "log", "soft")


@dataclass(frozen=True)
class Comparison:
    """A group of encodings against another, over the data sets and seeds that both have.

    Attributes
    ----------
    name
        The two groups, such as ``"learned over protein"``.
    within
        The encoder that both sides share; ``"all"``: the mean over all such encoders.
    a, b
        The encodings of both groups; their scores are averaged.
    """

    name: str
    within: str
    a: tuple[str, ...]
    b: tuple[str, ...]


def in_order(table: pd.DataFrame) -> pd.DataFrame:
    """Return the encodings of a table, one row each, in the order to list them in.

    The grid of gene and expression encoders comes first, by expression encoder, then controls, then
    baselines. What has no gene or expression encoder has None there.
    """
    columns = ["encoding", "kind", "gene_encoder", "expression_encoder"]
    rows = table[columns].drop_duplicates("encoding").astype(object)
    rows = rows.where(rows.notna(), None)
    known = {
        "kind": KINDS,
        "expression_encoder": EXPRESSION_ENCODERS,
        "gene_encoder": GENE_ENCODERS,
    }
    return rows.sort_values(
        list(known),
        key=lambda values: values.map(lambda value: _place(value, known[str(values.name)])),
        kind="stable",
    )


def paper_comparisons(encodings: pd.DataFrame) -> list[Comparison]:
    """Return learned over protein for each expression encoder, and soft over each other one.

    Parameters
    ----------
    encodings
        One row per encoding: ``encoding``, ``kind``, ``gene_encoder``, ``expression_encoder``.
    """
    named = _by_encoders(encodings, "encoding")
    genes, expressions = _encoders(named, 0), _encoders(named, 1)
    pairs = [(("learned", e), ("protein", e), e) for e in expressions]
    comparisons = _matched(named, "learned over protein", pairs)
    for other in expressions:
        if other != "soft":
            pairs = [((g, "soft"), (g, other), g) for g in genes]
            comparisons += _matched(named, f"soft over {other}", pairs)
    return comparisons


def control_comparisons(encodings: pd.DataFrame) -> list[Comparison]:
    """Return each control over the encoding it is made from, and soft over each control."""
    named, controls = (_by_encoders(encodings, kind) for kind in ("encoding", "control"))
    comparisons = []
    for (genes, expression), names in controls.items():
        for name in names:
            shown = name.partition(" + ")[2] or name
            if base := named.get((genes, expression)):
                what = f"{shown} over {expression}"
                comparisons.append(Comparison(what, genes, (name,), tuple(base)))
            if soft := named.get((genes, "soft")):
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


def _by_encoders(encodings: pd.DataFrame, kind: str) -> dict[tuple[str, str], list[str]]:
    """Return the encodings of a kind by their gene and expression encoder."""
    paired = encodings[["gene_encoder", "expression_encoder"]].notna().all(axis=1)
    of_kind = encodings[(encodings["kind"] == kind) & paired]
    named: dict[tuple[str, str], list[str]] = {}
    columns = (of_kind[name] for name in ("encoding", "gene_encoder", "expression_encoder"))
    for name, genes, expression in zip(*columns, strict=True):
        named.setdefault((genes, expression), []).append(name)
    return named


def _place(name: object, known: Sequence[str]) -> int:
    """Return the position among the known names; all others come after them."""
    return known.index(name) if name in known else len(known)


def _encoders(named: dict[tuple[str, str], list[str]], position: int) -> list[str]:
    """Return the gene encoders (position 0) or expression encoders (1) in the paper's order."""
    known = (GENE_ENCODERS, EXPRESSION_ENCODERS)[position]
    return sorted(dict.fromkeys(pair[position] for pair in named), key=lambda x: _place(x, known))


def _matched(
    named: dict[tuple[str, str], list[str]],
    name: str,
    pairs: list[tuple[tuple[str, str], tuple[str, str], str]],
) -> list[Comparison]:
    """Return a comparison for each pair whose two sides are there, and one over all of them."""
    matched = [
        Comparison(name, within, tuple(named[a]), tuple(named[b]))
        for a, b, within in pairs
        if a in named and b in named
    ]
    if len(matched) > 1:
        a = tuple(member for comparison in matched for member in comparison.a)
        b = tuple(member for comparison in matched for member in comparison.b)
        matched.append(Comparison(name, "all", a, b))
    return matched
