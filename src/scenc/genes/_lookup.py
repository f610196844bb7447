from __future__ import annotations

import re
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from scenc.genes._gene_map import GeneMap
from scenc.genes._gene_table import AMBIGUOUS, LEVELS, NONE, GeneTable
from scenc.genes._identifiers import (
    describe_barcodes,
    describe_mixture,
    detect_species,
    group,
    has_lower_case,
    strip_genome,
)
from scenc.genes._rules import STRENGTH, WEAKEST

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from scenc.genes._identifiers import Names

PAR_Y = "_PAR_Y"
_SUFFIXED = re.compile(r"(.+)[-.]\d+")
_DATE = re.compile(r"(?:(\d{1,2})-([A-Z]{3,4})|([A-Z]{3,4})-(\d{1,2}))", re.IGNORECASE)
#: stems of symbols that spreadsheets read as a month
_MONTHS = {
    "MAR": ("MARCH", "MARC", "MAR"),
    "SEP": ("SEPT", "SEP"),
    "SEPT": ("SEPT", "SEP"),
    "DEC": ("DEC",),
    "OCT": ("OCT",),
    "NOV": ("NOV",),
    "FEB": ("FEB",),
    "APR": ("APR",),
}
#: rules strong enough to keep a name such as ``FOO-1`` although ``FOO`` is there too
_SURE = ("ensembl", "symbol", "hgnc", "unlisted", "retired", "unnamed")


class Lookup:
    """The state of one harmonisation: a row of the table (-1: none) and a rule per name."""

    def __init__(self, ids: pd.DataFrame, table: GeneTable) -> None:
        self.ids, self.table = ids, table
        self.names = ids["name"].to_numpy(object)
        # Without the genome that some names have before them.
        self.plain = strip_genome(self.names)
        self.kind = ids["kind"].to_numpy(object)
        self.stable = ids["stable_id"].to_numpy(object)
        self.row = np.full(len(ids), NONE, dtype=np.int64)
        self.rule = np.full(len(ids), "unknown", dtype=object)
        self.rule[self.kind == "unnamed"] = "unnamed"
        self.canonical = np.where(self.stable != "", self.stable, self.plain)
        self.base: dict[str, str] = {}
        self.cautions: list[str] = []
        self.dates: dict[str, tuple[str, ...]] = {}

    def take(self, rows: NDArray[np.int64], rule: str | Names) -> None:
        """Accept rows for names that have none yet."""
        new = (self.row == NONE) & (rows != NONE)
        self.row[new] = rows[new]
        self.rule[new] = rule if isinstance(rule, str) else rule[new]
        self.rule[new & (self.row == AMBIGUOUS)] = "ambiguous"

    def find_ids(self) -> None:
        """Look up Ensembl and HGNC ids."""
        ensembl = self.kind == "ensembl"
        stable = np.array([name.removesuffix(PAR_Y) for name in self.stable.tolist()], dtype=object)
        self.rule[ensembl] = "unlisted"
        self.take(np.where(ensembl, self.table.find_ensembl(stable), NONE), "ensembl")
        self.take(np.where(ensembl, self.table.find_retired(stable), NONE), "retired")
        hgnc = self.kind == "hgnc"
        ids = np.array([name.upper() for name in self.plain.tolist()], dtype=object)
        self.take(np.where(hgnc, self.table.find_name(ids)[0], NONE), "hgnc")

    def find_symbols(self, species: str) -> tuple[str, tuple[str, ...]]:
        """Look up symbols if the names are human; return the species and notes."""
        told = self.ids["species"].to_numpy(object)
        is_symbol = (self.kind == "symbol") & ((told == "") | (told == "human"))
        rows, levels = self.table.find_name(self.plain)
        rows = np.where(is_symbol, rows, NONE)
        notes, human = self._notes(), species == "human"
        if species == "auto":
            odd = describe_barcodes(self.names) or describe_mixture(self.ids, rows != NONE)
            if odd:
                self.cautions.append(odd)
            species, reason = detect_species(self.ids, rows != NONE)
            if reason:
                hint = 'symbols were not mapped; species="human" maps them'
                notes = (*notes, f"{reason}: {hint}")
                # Those that have a human genome before them are human all the same.
                is_symbol &= told == "human"
                rows = np.where(is_symbol, rows, NONE)
        elif not human:
            return species, notes
        any_case = is_symbol if human else is_symbol & ~has_lower_case(self.plain)
        self.take(rows, np.array(LEVELS, dtype=object)[levels])
        upper, _ = self.table.find_any_case(np.where(any_case, self.plain, ""))
        self.take(np.where(any_case, upper, NONE), "case")
        self._find_dates(is_symbol)
        left = is_symbol & (self.row == NONE)
        if left.any():
            self.take(self.table.find_any_signs(np.where(left, self.plain, "")), "signs")
        return species, notes

    def _notes(self) -> tuple[str, ...]:
        counts = self.ids["kind"].value_counts()
        notes = []
        if count := counts.get("other_ensembl", 0):
            notes.append(
                f"{count:,} names are Ensembl ids of transcripts or proteins, not of genes"
            )
        if count := counts.get("number", 0):
            notes.append(f"{count:,} names are numbers (Entrez ids?), which are not looked up")
            if count > 0.5 * len(self.ids):
                self.cautions.append(
                    f"{count:,} of {len(self.ids):,} genes have numbers as names (Entrez ids, or "
                    "the numbers of rows?), which match no symbols and no Ensembl ids: name the "
                    "column of var that holds these (gene_ids=...)"
                )
        n_genome = int((self.plain != self.names).sum())
        if n_genome:
            first = self.names[self.plain != self.names][0]
            notes.append(
                f"{n_genome:,} names have a genome before them, which is left out ({first})"
            )
        return tuple(notes)

    def _find_dates(self, is_symbol: NDArray[np.bool_]) -> None:
        rows = np.full(len(self.names), NONE, dtype=np.int64)
        for i in np.flatnonzero((self.row == NONE) & is_symbol).tolist():
            if date := _DATE.fullmatch(self.plain[i]):
                day, month = date[1] or date[4], date[2] or date[3]
                stems = _MONTHS.get(month.upper(), ())
                rows[i] = self._undate(self.plain[i], [f"{stem}{int(day)}" for stem in stems])
        self.take(rows, "date")

    def _undate(self, name: str, symbols: list[str]) -> int:
        """Find the one gene that a spreadsheet may have turned into this date."""
        rows, levels = self.table.find_name(np.array(symbols, dtype=object))
        known = rows != NONE
        if not known.any():
            return NONE
        strongest: set[int] = set(rows[known & (levels == levels[known].min())].tolist())
        if len(strongest) == 1:
            return strongest.pop()
        self.dates[name] = tuple(sorted(str(self.table.symbol[row]) for row in strongest))
        return AMBIGUOUS

    def find_suffixed(self) -> None:
        """Take back a weak match of ``FOO-1`` where ``FOO`` is there too: it may be its copy."""
        present = set(self.names.tolist())
        for i in np.flatnonzero(~np.isin(self.rule.astype(str), _SURE)).tolist():
            suffixed = _SUFFIXED.fullmatch(self.names[i])
            if suffixed and suffixed[1] in present:
                self.row[i], self.rule[i] = NONE, "suffixed"
                self.base[self.names[i]] = suffixed[1]

    def gene_map(self, to: str, species: str, notes: tuple[str, ...]) -> GeneMap:
        """Collect the results."""
        has_row = self.row >= 0
        suffix = np.where([name.endswith(PAR_Y) for name in self.stable.tolist()], PAR_Y, "")
        suffix = np.where(has_row, suffix, "").astype(object)
        ensembl_id = np.where(has_row, self.table.ensembl_id[self.row], self.stable)
        ensembl_id = ensembl_id + np.where(ensembl_id != "", suffix, "").astype(object)
        symbol = np.where(has_row, self.table.symbol[self.row], "")
        symbol = symbol + np.where(symbol != "", suffix, "").astype(object)
        canonical = np.where(symbol != "", symbol, self.canonical)
        canonical = np.where(ensembl_id != "", ensembl_id, canonical)
        target = ensembl_id if to == "ensembl" else np.where(self._holds_symbol(), symbol, "")
        return GeneMap(
            names=self.names,
            mapped=self._mapped(target, canonical),
            canonical=canonical,
            symbol=symbol,
            ensembl_id=ensembl_id,
            rule=self.rule,
            to=to,
            species=species,
            ambiguous=self._ambiguous(),
            duplicated=self._duplicated(canonical),
            notes=(*notes, *self.cautions),
            cautions=tuple(self.cautions),
            table=f"{self.table.metadata['symbols']}; {self.table.metadata['nomenclature']}, "
            f"{self.table.metadata['nomenclature_date']}",
        )

    def _holds_symbol(self) -> NDArray[np.bool_]:
        """Whether the gene's symbol leads back to it: several genes can share one (Y_RNA)."""
        has_row = self.row >= 0
        rows, _ = self.table.find_name(np.where(has_row, self.table.symbol[self.row], ""))
        return np.asarray(has_row & (rows == self.row))

    def _mapped(self, target: Names, canonical: Names) -> Names:
        """Rename only the strongest of several names for one gene."""
        strength = np.array([STRENGTH.get(rule, WEAKEST) for rule in self.rule.tolist()])
        order = pd.Series(strength).groupby(pd.Series(canonical, dtype=object))
        best = order.transform("min").to_numpy() == strength
        unchanged = np.where(self.stable != "", self.stable, self.names)
        return np.where(best & (target != ""), target, unchanged)

    def _ambiguous(self) -> dict[str, tuple[str, ...]]:
        ambiguous = self.rule == "ambiguous"
        names, plain = self.names[ambiguous].tolist(), self.plain[ambiguous]
        known = self.table.candidates(plain) | self.dates
        return {name: known[key] for name, key in zip(names, plain.tolist(), strict=True)}

    def _duplicated(self, canonical: Names) -> dict[str, tuple[str, ...]]:
        key_of = dict(zip(self.names.tolist(), canonical.tolist(), strict=True))
        keys = canonical.copy()
        for i in np.flatnonzero(self.rule == "suffixed").tolist():
            keys[i] = key_of[self.base[self.names[i]]]
        named = self.rule != "unnamed"
        groups = group(keys[named], self.names[named])
        return {key: names for key, names in groups.items() if len(names) > 1}
