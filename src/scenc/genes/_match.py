from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd

from scenc._printing import Printed, list_some
from scenc.genes._gene_map import lines
from scenc.genes._gene_table import same_signs
from scenc.genes._harmonize import harmonize
from scenc.genes._identifiers import as_names, group
from scenc.genes._rules import RULES, STRENGTH, WEAKEST, count_rules, table_of_counts

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from numpy.typing import NDArray

    from scenc._printing import PrintedTable
    from scenc.genes._gene_map import GeneMap
    from scenc.genes._identifiers import Names


@dataclass(frozen=True, eq=False, repr=False)
class GeneMatch(Printed):
    """Columns of a data set matched to the genes of a vocabulary; made by `match`.

    Parameters
    ----------
    query
        Names of the data set's columns.
    vocabulary
        Names of the model's genes.
    positions
        Per query name the index into ``vocabulary`` or -1, int32, shape ``(n_query,)``.
    rule
        Per query name how it was matched: ``"exact"`` (the same name) or the weaker of the rules
        that lead query and vocabulary name to one gene (see `GeneMap`), ``"genome"`` (the same name
        beside the name of a genome); or why it was not:
        ``"duplicate"`` (another column matches the gene by a stronger rule), ``"tied"`` (another
        column matches it by an equally strong one), ``"unmatched"``, ``"unnamed"``.
    duplicated
        Vocabulary genes that several query columns mean, and those columns, the one used first.
    tied
        Those of them where several columns match by the strongest rule; with
        ``duplicates="best"`` none of these is used.
    notes
        Remarks, in sentences.

    Examples
    --------
    >>> found = scenc.genes.match(["CD3E", "CPSF3L", "x"], ["CD3E", "INTS11", "MS4A1"])
    >>> found.n_matched, found.missing, found.unmatched
    (2, ('MS4A1',), ('x',))
    >>> found.to_frame()["gene"].tolist()
    ['CD3E', 'INTS11', '']
    """

    query: Names
    vocabulary: Names
    positions: NDArray[np.int32]
    rule: Names
    duplicated: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    tied: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name in ("query", "vocabulary", "positions", "rule"):
            getattr(self, name).setflags(write=False)

    @property
    def n_matched(self) -> int:
        """Number of query columns in use."""
        return int((self.positions >= 0).sum())

    @property
    def n_named(self) -> int:
        """Number of query columns that have a name."""
        return int((self.query != "").sum())

    @property
    def coverage(self) -> float:
        """Share of the vocabulary that the query covers, 0 to 1; 0 for an empty vocabulary."""
        return 1 - len(self.missing) / len(self.vocabulary) if len(self.vocabulary) else 0.0

    @cached_property
    def counts(self) -> dict[str, int]:
        """Number of query columns per rule; rules that none met are left out."""
        return count_rules(self.rule)

    @cached_property
    def missing(self) -> tuple[str, ...]:
        """Vocabulary genes that no query column is used for."""
        covered = np.zeros(len(self.vocabulary), dtype=bool)
        covered[self.positions[self.positions >= 0]] = True
        return tuple(self.vocabulary[~covered].tolist())

    @property
    def unmatched(self) -> tuple[str, ...]:
        """Query names that are not used, whatever the reason."""
        return tuple(self.query[self.positions < 0].tolist())

    def to_frame(self) -> pd.DataFrame:
        """One row per query column.

        Returns
        -------
        Columns ``name``, ``position``, ``gene`` (the vocabulary's name, ``""`` for none), ``rule``.
        """
        used = self.positions >= 0
        gene = np.full(len(self.query), "", dtype=object)
        gene[used] = self.vocabulary[self.positions[used]]
        return pd.DataFrame(
            {"name": self.query, "position": self.positions, "gene": gene, "rule": self.rule}
        )

    def to_uns(self) -> dict[str, Any]:
        """Summarise in plain values that ``.h5ad`` files hold.

        Returns
        -------
        Numbers of query columns, vocabulary genes and matches, coverage, counts by rule and, one
        line of text each, duplicated genes, unmatched columns and missing genes.
        """
        return {
            "n_query": len(self.query),
            "n_vocabulary": len(self.vocabulary),
            "n_matched": self.n_matched,
            "coverage": self.coverage,
            "counts": dict(self.counts),
            "duplicated": lines(self.duplicated),
            "unmatched": np.array(self.unmatched, dtype=object),
            "missing": np.array(self.missing, dtype=object),
            "notes": np.array(self.notes, dtype=object),
        }

    def _table(self) -> PrintedTable:
        rows = [(RULES[rule], count, self._remark(rule)) for rule, count in self.counts.items()]
        notes = list(self.notes)
        if self.duplicated:
            shown = [f"{gene}: {', '.join(names[:3])}" for gene, names in self.duplicated.items()]
            notes.append(f"{len(shown):,} genes have several columns ({list_some(shown)})")
        if self.missing:
            many = f"{len(self.missing):,} vocabulary genes"
            notes.append(f"{many} have no column ({list_some(self.missing)})")
        title = (
            f"GeneMatch: {self.n_matched:,} of {len(self.query):,} columns used, "
            f"{100 * self.coverage:.1f} % of {len(self.vocabulary):,} vocabulary genes covered"
        )
        return table_of_counts(title, rows, len(self.query), notes)

    def _remark(self, rule: str) -> str:
        if rule in ("exact", "ensembl", "symbol", "hgnc", "unlisted", "unnamed"):
            return ""
        return list_some(self.query[self.rule == rule].tolist())


def match(
    query: Iterable[object],
    vocabulary: Iterable[object],
    *,
    species: str = "auto",
    duplicates: Literal["best", "all", "error"] = "best",
) -> GeneMatch:
    """Find each column of a data set in a vocabulary of genes, by symbols or Ensembl ids.

    Equal names match first, so that lists of any species or made-up names work, and lists that
    agree never wait for the gene table. The rest match where `harmonize` brings both names
    to one gene: symbols to Ensembl ids and back, outdated symbols, versions.

    Parameters
    ----------
    query
        Names of the data set's columns; need not be unique.
    vocabulary
        Names of the genes sought; unique and not empty.
    species
        As in `harmonize`.
    duplicates
        What to do with several columns for one gene. ``"best"``: use the one with the strongest
        rule (the same name, then Ensembl id, current symbol or HGNC id, then earlier symbol or
        retired id, then alias, then other capitals, then date or other signs); if two are equally
        strong, as with one name twice, use none of them: they are listed in ``tied``. ``"all"``:
        give each its position, for callers who add the columns up. ``"error"``: refuse.

    Returns
    -------
    Positions in the vocabulary, -1 for none, and the report. Of several vocabulary names for one
    gene, a query name takes the same one, else the one with the strongest rule, else none.

    Raises
    ------
    ValueError
        If the vocabulary repeats a name or has an empty one, if ``duplicates`` is not one of the
        three, or, with ``duplicates="error"``, if several columns mean one gene.
    TypeError
        If either list holds something that is not a string.

    Examples
    --------
    >>> from scenc.genes import match
    >>> matched = match(["ENSG00000127054.24", "CD3E", "x"], ["CD3E", "CPSF3L", "MS4A1"])
    >>> matched.positions.tolist()
    [1, 0, -1]
    >>> matched.rule.tolist()
    ['previous', 'exact', 'unmatched']
    """
    if duplicates not in ("best", "all", "error"):
        raise ValueError(f'duplicates={duplicates!r} is not one of "best", "all" and "error".')
    columns, genes = as_names(query, "query"), as_names(vocabulary, "vocabulary")
    _check_vocabulary(genes)
    positions = pd.Index(genes, dtype=object).get_indexer(pd.Index(columns, dtype=object))
    strength = np.where(positions >= 0, STRENGTH["exact"], WEAKEST)
    rule = np.where(columns == "", "unnamed", "unmatched").astype(object)
    rule[positions >= 0] = "exact"
    notes: tuple[str, ...] = ()
    if (rule == "unmatched").any():
        ours = harmonize(columns, "ensembl", species=species)
        theirs = harmonize(genes, "ensembl", species=species)
        notes = tuple(dict.fromkeys((*ours.notes, *theirs.notes)))
        _match_canonical(ours, theirs, positions, strength, rule)
        _match_signs(ours, theirs, positions, strength, rule)
    duplicated, tied = _settle(columns, genes, positions, strength, rule, duplicates)
    return GeneMatch(columns, genes, positions.astype(np.int32), rule, duplicated, tied, notes)


def _check_vocabulary(genes: Names) -> None:
    names = pd.Series(genes, dtype=object)
    if (repeated := names[names.duplicated()]).size:
        raise ValueError(
            f"The vocabulary has {repeated.iloc[0]!r} more than once; its names must be unique."
        )
    if (names == "").any():
        raise ValueError("The vocabulary has an empty name; give every gene one.")


def _match_canonical(
    columns: GeneMap,
    genes: GeneMap,
    positions: NDArray[np.int64],
    strength: NDArray[np.int64],
    rule: Names,
) -> None:
    """Match by gene what is not matched by name; changes the three arrays."""
    vocabulary = pd.DataFrame({"gene": genes.canonical, "strength": _strength(genes.rule)})
    best = vocabulary.groupby("gene")["strength"].transform("min") == vocabulary["strength"]
    vocabulary = vocabulary[best].drop_duplicates("gene", keep=False)
    keys = pd.Index(columns.canonical, dtype=object)
    at = pd.Index(vocabulary["gene"], dtype=object).get_indexer(keys)
    new = (rule == "unmatched") & (at >= 0)
    gene = vocabulary.index.to_numpy()[at[new]]
    ours, theirs = _strength(columns.rule)[new], vocabulary["strength"].to_numpy()[at[new]]
    positions[new] = gene
    strength[new] = np.maximum(ours, theirs)
    # Of the two rules that lead to the gene, the weaker one counts; names that the table lacks and
    # that are still the same differ by a genome.
    weaker = np.where(ours >= theirs, columns.rule[new], genes.rule[gene])
    rule[new] = np.where(weaker == "unknown", "genome", weaker)


def _match_signs(
    columns: GeneMap,
    genes: GeneMap,
    positions: NDArray[np.int64],
    strength: NDArray[np.int64],
    rule: Names,
) -> None:
    """Match what is left by names that differ in dashes, dots and underscores alone."""
    vocabulary = pd.Series(same_signs(genes.canonical))
    vocabulary = vocabulary[~vocabulary.duplicated(keep=False)]
    # A copy of a name beside it (FOO.1) is no other spelling of a gene.
    left = np.flatnonzero((rule == "unmatched") & (columns.rule != "suffixed"))
    keys = pd.Index(same_signs(columns.canonical[left]), dtype=object)
    at = pd.Index(vocabulary, dtype=object).get_indexer(keys)
    found = left[at >= 0]
    positions[found] = vocabulary.index.to_numpy()[at[at >= 0]]
    strength[found], rule[found] = STRENGTH["signs"], "signs"


def _strength(rule: Names) -> NDArray[np.int64]:
    return np.array([STRENGTH.get(name, WEAKEST) for name in rule.tolist()], dtype=np.int64)


def _settle(
    columns: Names,
    genes: Names,
    positions: NDArray[np.int64],
    strength: NDArray[np.int64],
    rule: Names,
    duplicates: str,
) -> tuple[dict[str, tuple[str, ...]], dict[str, tuple[str, ...]]]:
    """Let at most one column stand for a gene; changes ``positions`` and ``rule``."""
    claims = pd.DataFrame({"gene": positions, "strength": strength})[positions >= 0]
    claims = claims[claims["gene"].duplicated(keep=False)].sort_values("strength", kind="stable")
    best = claims.groupby("gene")["strength"].transform("min") == claims["strength"]
    first = claims[best]
    equal = first[first["gene"].duplicated(keep=False)]
    duplicated = group(genes[claims["gene"]], columns[claims.index])
    tied = group(genes[equal["gene"]], columns[equal.index])
    if duplicates == "best":
        lost = claims[~best | claims["gene"].isin(equal["gene"])].index
        positions[lost] = -1
        rule[lost] = "duplicate"
        rule[equal.index] = "tied"
    if duplicated and duplicates == "error":
        gene, names = next(iter(duplicated.items()))
        raise ValueError(
            f"{len(duplicated):,} genes have several columns, for example {gene}: "
            f"{', '.join(names)}. Add them up or remove all but one, or pass "
            'duplicates="best" or "all".'
        )
    return duplicated, tied
