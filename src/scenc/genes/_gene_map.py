from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from scenc._printing import Printed, list_some
from scenc.genes._rules import MAPPED, RULES, count_rules, table_of_counts

if TYPE_CHECKING:
    from collections.abc import Mapping

    from scenc._printing import PrintedTable
    from scenc.genes._identifiers import Names


@dataclass(frozen=True, eq=False, repr=False)
class GeneMap(Printed):
    """Gene names on one nomenclature, and how each was mapped; made by `harmonize`.

    All arrays have one entry per input name, in the order of the input.

    Parameters
    ----------
    names
        The input names, without surrounding white space; ``""`` for a missing one.
    mapped
        The name to use: a current symbol or an Ensembl id as asked for with ``to``, or the input
        name (an Ensembl id without its version) where there is no such name or another column
        matches that gene by a stronger rule.
    canonical
        A stable key: two names with the same key mean the same gene. The Ensembl id without
        version where the gene has one, else its current symbol, else the name itself.
    symbol
        Current symbol, ``""`` where unknown.
    ensembl_id
        Ensembl id without version, ``""`` where unknown.
    rule
        How the name was mapped: ``"ensembl"``, ``"symbol"``, ``"hgnc"``, ``"retired"`` (an
        Ensembl id another has replaced), ``"previous"``, ``"alias"``, ``"case"``, ``"date"``,
        ``"signs"`` (other dashes, dots and underscores), or, for names left as they are,
        ``"unlisted"`` (an Ensembl id that the table lacks), ``"suffixed"`` (``FOO-1`` beside
        ``FOO``), ``"ambiguous"``, ``"unknown"``, ``"unnamed"``.
    to
        ``"symbol"`` or ``"ensembl"``.
    species
        The species whose symbols were looked up, or the one that the names point to.
    ambiguous
        Each ambiguous name and the genes it could mean.
    duplicated
        Each gene that several names mean, by canonical key, and those names.
    notes
        Remarks, in sentences.
    table
        Sources of the table and their dates.
    cautions
        Those of them to look at before data are used: names of two species, or numbers.

    Examples
    --------
    >>> genes = scenc.genes.harmonize(["CPSF3L", "CD4", "nonsense"])
    >>> genes.mapped.tolist()
    ['INTS11', 'CD4', 'nonsense']
    >>> genes.counts
    {'symbol': 1, 'previous': 1, 'unknown': 1}
    >>> genes.unknown
    ('nonsense',)
    """

    names: Names
    mapped: Names
    canonical: Names
    symbol: Names
    ensembl_id: Names
    rule: Names
    to: str = "symbol"
    species: str = "human"
    ambiguous: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    duplicated: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    table: str = ""
    cautions: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name in ("names", "mapped", "canonical", "symbol", "ensembl_id", "rule"):
            getattr(self, name).setflags(write=False)

    def __len__(self) -> int:
        return len(self.names)

    @cached_property
    def counts(self) -> dict[str, int]:
        """Number of names per rule; rules that no name met are left out."""
        return count_rules(self.rule)

    @property
    def n_mapped(self) -> int:
        """Number of names that lead to a gene of the table."""
        return sum(self.counts.get(rule, 0) for rule in MAPPED)

    @property
    def unknown(self) -> tuple[str, ...]:
        """Names that lead to no gene of the table: unknown, and unlisted Ensembl ids."""
        return self._with_rule("unknown", "unlisted")

    @property
    def suffixed(self) -> tuple[str, ...]:
        """Names such as ``FOO-1`` beside ``FOO``, as ``var_names_make_unique`` leaves them."""
        return self._with_rule("suffixed")

    def _with_rule(self, *rules: str) -> tuple[str, ...]:
        return tuple(self.names[np.isin(self.rule.astype(str), rules)].tolist())

    def to_frame(self) -> pd.DataFrame:
        """One row per name.

        Returns
        -------
        Columns ``name``, ``mapped``, ``canonical``, ``symbol``, ``ensembl_id``, ``rule``.
        """
        columns = ("mapped", "canonical", "symbol", "ensembl_id", "rule")
        return pd.DataFrame({"name": self.names, **{key: getattr(self, key) for key in columns}})

    def to_uns(self) -> dict[str, Any]:
        """Summarise in plain values that ``.h5ad`` files hold.

        Returns
        -------
        For ``adata.uns["scenc_genes"]``: the number of names, the counts by rule, the table's
        sources, and ambiguous, duplicated and unknown names, one line of text each.
        """
        return {
            "n": len(self),
            "n_mapped": self.n_mapped,
            "to": self.to,
            "species": self.species,
            "table": self.table,
            "counts": dict(self.counts),
            "ambiguous": lines(self.ambiguous),
            "duplicated": lines(self.duplicated),
            "unknown": np.array(self.unknown, dtype=object),
            "notes": np.array(self.notes, dtype=object),
        }

    def _table(self) -> PrintedTable:
        rows = [(RULES[rule], count, self._remark(rule)) for rule, count in self.counts.items()]
        if self.duplicated:
            names = sum(len(names) for names in self.duplicated.values())
            shown = [f"{gene}: {', '.join(names[:3])}" for gene, names in self.duplicated.items()]
            remark = f"for {len(shown):,} genes ({list_some(shown)})"
            rows.append(("sharing a gene", names, remark))
        target = "Ensembl ids" if self.to == "ensembl" else "current symbols"
        title = f"GeneMap: {len(self):,} names to {target}, {self.n_mapped:,} mapped"
        return table_of_counts(f"{title} ({self.species})", rows, len(self), self.notes)

    def _remark(self, rule: str) -> str:
        if rule == "ambiguous":
            return list_some(
                [f"{name}: {' or '.join(genes[:3])}" for name, genes in self.ambiguous.items()]
            )
        if rule in ("ensembl", "symbol", "hgnc", "unnamed"):
            return ""
        return list_some(self._with_rule(rule))


def lines(groups: Mapping[str, tuple[str, ...]]) -> Names:
    """Write groups of names as lines of text, which ``.h5ad`` files hold."""
    return np.array([f"{key}: {', '.join(names)}" for key, names in groups.items()], dtype=object)
