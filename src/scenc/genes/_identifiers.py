from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

    type Names = NDArray[np.object_]

SPECIES = {
    "ENSG": "human",
    "ENSMUSG": "mouse",
    "ENSRNOG": "rat",
    "ENSDARG": "zebrafish",
    "ENSMMUG": "rhesus macaque",
    "ENSMFAG": "crab-eating macaque",
    "ENSPTRG": "chimpanzee",
    "ENSGGOG": "gorilla",
    "ENSCJAG": "marmoset",
    "ENSMICG": "mouse lemur",
    "ENSSSCG": "pig",
    "ENSBTAG": "cow",
    "ENSOCUG": "rabbit",
    "ENSCAFG": "dog",
    "ENSGALG": "chicken",
    "ENSXETG": "frog",
}

_GENE = re.compile(r"(ENS[A-Z]*?G)(R?)(\d{10,11})(?:\.(\d+))?(_PAR_Y)?", re.IGNORECASE)
# A genome's name before a gene's, as references of two species have it (hg19_CD4, mm10___Cd4), in
# R's spelling too.
_GENOME = re.compile(r"(?:(GRCh3[78]|hg(?:19|38))|GRCm3[89]|mm(?:9|10|39))(?:\.p\d+)?[-_.]+(?=.)")
# A symbol joined with its Ensembl id, in either order.
_ID = r"ENS[A-Z]*?G\d{11}(?:\.\d+)?"
_JOINED = re.compile(rf"(?:(.+?)[-_.|:;,/ ]+({_ID})|({_ID})[-_.|:;,/ ]+(.+))", re.IGNORECASE)
# What may stand behind an id although it is no symbol: copies, and parts of transcripts.
_NO_SYMBOL = re.compile(r"\d+|[UISA]|(un)?spliced|intron.*|exon.*|nascent|mature|.*ENS.*|PAR_Y.*")
_KINDS = (
    ("hgnc", re.compile(r"HGNC:\d+", re.IGNORECASE)),
    ("other_ensembl", re.compile(r"ENS[A-Z]*[TPE]\d{11}(?:\.\d+)?", re.IGNORECASE)),
    ("number", re.compile(r"\d+")),
)
# A cell's barcode, beside a sample's name perhaps (AAACCTGAGAAACCAT-1, s1_AAACCTGAGAAACCAT).
_BARCODE = re.compile(r"(?:.*[^A-Za-z])?[ACGT]{12,}(?:[-_.].*)?")
# Share of the names above which they are taken to be of two species.
_LEAST_OF_TWO = 0.1
_NOT_UPPER = re.compile(r"[a-z]")


def as_names(names: Iterable[object], what: str = "names") -> Names:
    """Turn any sequence of names into an object array of strings, missing values into ``''``."""
    if isinstance(names, str | bytes):
        raise TypeError(f"{what} must be a sequence of gene names, not one string: {names!r}.")
    return np.array([_as_text(value, what) for value in names], dtype=object)


def _as_text(value: Any, what: str) -> str:
    if isinstance(value, str):
        return str(value).strip()
    if value is None or value is pd.NA or (isinstance(value, float) and np.isnan(value)):
        return ""
    raise TypeError(
        f"{what} must be strings, but {value!r} is {type(value).__name__}. "
        "Name the column that holds gene ids or symbols, or convert it with .astype(str)."
    )


def identify(names: Iterable[object]) -> pd.DataFrame:
    """Say what kind of identifier each gene name is.

    Looks at the form of the names only; no table is loaded and nothing is mapped.

    Parameters
    ----------
    names
        Gene names, for example ``adata.var_names``.

    Returns
    -------
    One row per name, in order, with columns

    - ``name``: the name, without surrounding white space,
    - ``kind``: ``"ensembl"`` (an Ensembl gene id of any species), ``"hgnc"`` (``HGNC:5``),
      ``"other_ensembl"`` (a transcript, protein or exon id), ``"number"`` (digits only, such as an
      Entrez id), ``"symbol"`` (anything else) or ``"unnamed"`` (empty or missing),
    - ``stable_id``: the Ensembl id in upper case without its version, ``""`` for other kinds; also
      that of a name which joins it with a symbol (``A1BG_ENSG00000121410``). The
      copy of a pseudoautosomal gene on Y (``ENSG00000182378.15_PAR_Y``, or ``ENSGR0000182378`` in
      older releases) keeps the suffix ``_PAR_Y``: it is not the copy on X,
    - ``version``: the version as text, ``""`` for none,
    - ``species``: told from the Ensembl prefix (the prefix itself for a species without a common
      name here) or from a genome's name before the gene's (``mm10___Actb``), else ``""``.

    Raises
    ------
    TypeError
        If ``names`` is a single string or holds something that is not a string.

    Examples
    --------
    >>> from scenc.genes import identify
    >>> table = identify(["ENSG00000121410.12", "A1BG", "ENSMUSG00000022347", "HGNC:5"])
    >>> table["kind"].tolist()
    ['ensembl', 'symbol', 'ensembl', 'hgnc']
    >>> table["stable_id"][0], table["species"][2]
    ('ENSG00000121410', 'mouse')
    """
    texts = as_names(names)
    rows = [_identify(text) for text in texts.tolist()]
    columns = ["kind", "stable_id", "version", "species"]
    table = pd.DataFrame(rows, columns=columns, dtype=object)
    table.insert(0, "name", texts)
    return table


def _identify(text: str) -> tuple[str, str, str, str]:
    if not text:
        return "unnamed", "", "", ""
    genome = _GENOME.match(text)
    of_genome = "" if genome is None else "human" if genome[1] else "mouse"
    text = _unjoined(text if genome is None else text[genome.end() :])
    gene = _GENE.fullmatch(text)
    if gene is not None:
        prefix, on_y, digits, version, par_y = gene.groups()
        if len(digits) == (10 if on_y else 11):
            prefix = prefix.upper()
            suffix = "_PAR_Y" if on_y or par_y else ""
            stable_id = prefix + digits.zfill(11) + suffix
            return "ensembl", stable_id, version or "", SPECIES.get(prefix, prefix)
    for kind, pattern in _KINDS:
        if pattern.fullmatch(text):
            return kind, "", "", ""
    return "symbol", "", "", of_genome


def _unjoined(text: str) -> str:
    """Return the Ensembl id of a name that joins it with a symbol, or the name."""
    joined = _JOINED.fullmatch(text)
    if joined is None:
        return text
    symbol, stable_id = joined[1] or joined[4], joined[2] or joined[3]
    return text if _NO_SYMBOL.fullmatch(symbol) else stable_id


def strip_genome(names: Names) -> Names:
    """Remove the name of a genome before that of a gene (``GRCh38_CD4``)."""
    return np.array(
        [
            _GENOME.sub("", name, count=1) if _GENOME.match(name) else name
            for name in names.tolist()
        ],
        dtype=object,
    )


def strip_version(names: Iterable[object]) -> Names:
    """Remove the version from Ensembl gene ids; other names are returned as they are.

    Parameters
    ----------
    names
        Gene names of any kind.

    Returns
    -------
    Names in the same order, an object array of strings.

    Examples
    --------
    >>> from scenc.genes import strip_version
    >>> strip_version(["ENSG00000121410.12", "RP11-34P13.7"]).tolist()
    ['ENSG00000121410', 'RP11-34P13.7']
    """
    table = identify(names)
    stable, name = table["stable_id"].to_numpy(object), table["name"].to_numpy(object)
    return np.where(stable != "", stable, name)


def group(keys: Names, names: Names) -> dict[str, tuple[str, ...]]:
    """Names per key, both in order of appearance."""
    groups: dict[str, list[str]] = {}
    for key, name in zip(keys.tolist(), names.tolist(), strict=True):
        groups.setdefault(key, []).append(name)
    return {key: tuple(members) for key, members in groups.items()}


def has_lower_case(names: Names) -> NDArray[np.bool_]:
    """Say which names have lower-case letters other than the ``orf`` of ``C1orf112``."""
    lower = [_NOT_UPPER.search(name.replace("orf", "")) is not None for name in names.tolist()]
    return np.array(lower, dtype=bool)


def count_species(table: pd.DataFrame, known: NDArray[np.bool_]) -> tuple[int, pd.Series[int], int]:
    """Count the names that look human, and those that do not.

    Parameters
    ----------
    table, known
        As in `detect_species`.

    Returns
    -------
    Number of human names, numbers of names whose prefix tells another species, by species, and
    number of symbols in lower case, as in mouse, rat or fish.
    """
    told = table["species"] != ""
    species = table.loc[told, "species"].value_counts()
    is_symbol = ((table["kind"] == "symbol") & ~told).to_numpy()
    lower = has_lower_case(table["name"].to_numpy(object)[is_symbol & ~known])
    for_human = int(species.get("human", 0)) + int((is_symbol & known).sum())
    for_human += int((table["kind"] == "hgnc").sum())
    return for_human, species.drop("human", errors="ignore"), int(lower.sum())


def describe_barcodes(names: Names) -> str:
    """Return that names are barcodes of cells, ``""`` if most are not."""
    barcodes = [name for name in names.tolist() if _BARCODE.fullmatch(name)]
    if len(barcodes) <= 0.5 * len(names):
        return ""
    return (
        f"{len(barcodes):,} of {len(names):,} genes are named like barcodes of cells "
        f"({barcodes[0]}): is the matrix genes x cells? scenc wants cells x genes (adata.T.copy())"
    )


def describe_mixture(table: pd.DataFrame, known: NDArray[np.bool_]) -> str:
    """Return in which numbers names of two species stand together, ``""`` for one species."""
    for_human, foreign, lower = count_species(table, known)
    against = int(foreign.sum()) + lower
    if min(for_human, against) <= _LEAST_OF_TWO * len(table):
        return ""
    return (
        f"{for_human:,} names are human and {against:,} of another species: genes of two species "
        "are different genes of the data"
    )


def detect_species(table: pd.DataFrame, known: NDArray[np.bool_]) -> tuple[str, str]:
    """Guess the species of a list of names from its prefixes and its capitals.

    Parameters
    ----------
    table
        The table that `identify` returns.
    known
        Which names the human table lists exactly as they are written.

    Returns
    -------
    The species (``"human"`` where nothing speaks against it, ``"not human"`` where the symbols are
    capitalised as in mouse, rat or fish) and the reason in words, ``""`` for human.
    """
    for_human, foreign, lower = count_species(table, known)
    against = int(foreign.sum()) + lower
    if against <= for_human:
        return "human", ""
    if int(foreign.sum()) < lower:
        return "not human", (
            f"{lower:,} symbols are in lower case, as in mouse (Actb, not ACTB), and {for_human:,} "
            "names are human"
        )
    is_told = table["species"] != ""
    what = "Ensembl ids" if (table.loc[is_told, "kind"] == "ensembl").all() else "names"
    return str(foreign.index[0]), (
        f"{int(foreign.iloc[0]):,} {what} are {foreign.index[0]}, and {for_human:,} names are human"
    )
