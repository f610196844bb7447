from __future__ import annotations

import lzma
from dataclasses import dataclass
from functools import cached_property, lru_cache
from importlib.resources import files
from io import StringIO
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from scenc.genes._identifiers import Names

#: how a name can stand in the table, strongest first
LEVELS = ("symbol", "hgnc", "previous", "alias")
NONE, AMBIGUOUS = -1, -2
_SIGNS = str.maketrans("-_", "..")


@dataclass(frozen=True, eq=False)
class GeneTable:
    """Genes of one species and the names each has had.

    Parameters
    ----------
    genes
        One row per gene with the text columns ``ensembl_id``, ``symbol``, ``hgnc_id`` and
        ``previous``, ``alias``, ``retired`` (several values separated by ``|``).
    metadata
        Sources and dates.
    """

    genes: pd.DataFrame
    metadata: dict[str, str]

    @cached_property
    def ensembl_id(self) -> Names:
        """Ensembl id per gene, ``''`` for none."""
        return self.genes["ensembl_id"].to_numpy(object)

    @cached_property
    def symbol(self) -> Names:
        """Current symbol per gene, ``''`` for none."""
        return self.genes["symbol"].to_numpy(object)

    def find_ensembl(self, ids: Names) -> NDArray[np.int64]:
        """Row per current Ensembl id, -1 for none."""
        return self._find(self._ensembl, ids)

    def find_retired(self, ids: Names) -> NDArray[np.int64]:
        """Row of the gene that took over from a retired Ensembl id, -1 for none."""
        return self._find(self._retired, ids)

    def find_name(self, names: Names) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Row (-1 none, -2 ambiguous) and index into `LEVELS` per name."""
        return self._find_resolved(self._resolved, names)

    def find_any_case(self, names: Names) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Like `find_name`, ignoring capitals."""
        upper = np.array([name.upper() for name in names.tolist()], dtype=object)
        return self._find_resolved(self._resolved_upper, upper)

    def find_any_signs(self, names: Names) -> NDArray[np.int64]:
        """Row per name whatever dashes, dots and underscores it has, -1 for none or several."""
        rows, _ = self._find_resolved(self._resolved_signs, same_signs(names))
        return np.maximum(rows, NONE)

    def candidates(self, names: Names) -> dict[str, tuple[str, ...]]:
        """Genes each name could stand for at its strongest level: symbols, ids where not unique."""
        known = self._names[self._names["name"].isin(set(names.tolist()))]
        strongest = known.groupby("name")["level"].transform("min")
        known = known[known["level"] == strongest].drop_duplicates(["name", "row"])
        candidates: dict[str, tuple[str, ...]] = {}
        for name, genes in known.groupby("name", sort=False):
            symbols, ids = self.symbol[genes["row"]], self.ensembl_id[genes["row"]]
            if len(set(symbols.tolist())) < len(symbols):
                symbols = ids
            candidates[str(name)] = tuple(np.where(symbols == "", ids, symbols).tolist())
        return candidates

    @staticmethod
    def _find(index: pd.Series[int], keys: Names) -> NDArray[np.int64]:
        at = index.index.get_indexer(pd.Index(keys, dtype=object))
        rows = index.to_numpy()[at] if len(index) else at
        return np.asarray(np.where(at < 0, NONE, rows), dtype=np.int64)

    @staticmethod
    def _find_resolved(
        resolved: pd.DataFrame, keys: Names
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        at = resolved.index.get_indexer(pd.Index(keys, dtype=object))
        rows = np.where(at < 0, NONE, resolved["row"].to_numpy()[at]) if len(resolved) else at
        levels = resolved["level"].to_numpy()[at] if len(resolved) else at
        return np.asarray(rows, dtype=np.int64), np.asarray(levels, dtype=np.int64)

    @cached_property
    def _ensembl(self) -> pd.Series[int]:
        known = self.ensembl_id != ""
        return pd.Series(
            np.flatnonzero(known), index=pd.Index(self.ensembl_id[known], dtype=object)
        )

    @cached_property
    def _retired(self) -> pd.Series[int]:
        retired = self._explode("retired").drop_duplicates("name", keep=False)
        return pd.Series(retired["row"].to_numpy(), index=pd.Index(retired["name"], dtype=object))

    @cached_property
    def _names(self) -> pd.DataFrame:
        """Every name of every gene: ``name``, ``row``, ``level``, HGNC ``listed``."""
        columns = {"symbol": "symbol", "hgnc": "hgnc_id", "previous": "previous", "alias": "alias"}
        parts = [self._explode(columns[level]).assign(level=i) for i, level in enumerate(LEVELS)]
        names = pd.concat(parts, ignore_index=True)
        return names.assign(listed=(self.genes["hgnc_id"] != "").to_numpy()[names["row"]])

    @cached_property
    def _resolved(self) -> pd.DataFrame:
        return _resolve(self._names)

    @cached_property
    def _resolved_upper(self) -> pd.DataFrame:
        names = self._names
        return _resolve(names.assign(name=[name.upper() for name in names["name"]]))

    @cached_property
    def _resolved_signs(self) -> pd.DataFrame:
        names = self._names
        return _resolve(names.assign(name=same_signs(names["name"].to_numpy(object))))

    def _explode(self, column: str) -> pd.DataFrame:
        values = self.genes[column].to_numpy(object)
        rows = np.flatnonzero(values != "")
        split = [text.split("|") for text in values[rows].tolist()]
        names = [name.strip() for parts in split for name in parts]
        table = pd.DataFrame(
            {
                "name": np.array(names, dtype=object),
                "row": np.repeat(rows, [len(parts) for parts in split]),
            }
        )
        return table[table["name"] != ""]


def same_signs(names: Names) -> Names:
    """Write names with dots alone: R turns dashes into dots, Seurat underscores into dashes."""
    return np.array([name.translate(_SIGNS) for name in names.tolist()], dtype=object)


def _resolve(names: pd.DataFrame) -> pd.DataFrame:
    """One gene per name, or `AMBIGUOUS`; a stronger level hides the weaker ones.

    Of several genes with one current symbol, the one HGNC lists under it holds it.
    """
    names = names.drop_duplicates(["name", "row", "level"])
    strongest = names.groupby("name", sort=False)["level"].transform("min")
    names = names[names["level"] == strongest]
    listed = names.groupby("name", sort=False)["listed"].transform("any")
    names = names[names["listed"] | ~listed | (names["level"] != 0)]
    several = names["name"].duplicated(keep=False)
    names = names.assign(row=names["row"].where(~several, AMBIGUOUS)).drop_duplicates("name")
    return pd.DataFrame(
        {"row": names["row"].to_numpy(), "level": names["level"].to_numpy()},
        index=pd.Index(names["name"], dtype=object),
    )


def parse_table(text: str) -> GeneTable:
    """Read a table in the format ``scripts/build_gene_table.py`` writes."""
    lines = text.split("\n", maxsplit=32)
    header = [line[2:].split(": ", maxsplit=1) for line in lines if line.startswith("# ")]
    genes = pd.read_csv(
        StringIO(text), sep="\t", comment=None, skiprows=len(header), dtype=object, quoting=3,
        keep_default_na=False, na_filter=False,
    )  # fmt: skip
    return GeneTable(genes, {key: value for key, value in header})  # noqa: C416


@lru_cache(maxsize=1)
def human_table() -> GeneTable:
    """Load the human table, once per process."""
    packed = files("scenc.genes").joinpath("_table", "human.tsv.xz").read_bytes()
    return parse_table(lzma.decompress(packed).decode())


def table_info() -> dict[str, str]:
    """Sources, versions and dates of the gene table that ships with scenc.

    Returns
    -------
    ``species``, ``symbols`` (the GENCODE release behind Ensembl ids and current symbols),
    ``nomenclature`` and ``nomenclature_date`` (the HGNC table behind HGNC ids, previous symbols and
    aliases, and the day of its last change) and ``genes`` (how many it lists), all as text.

    Examples
    --------
    >>> from scenc.genes import table_info
    >>> table_info()["symbols"]
    'GENCODE v48 (Ensembl ids and gene names)'
    """
    return dict(human_table().metadata)
