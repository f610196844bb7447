from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from scenc.genes._gene_table import human_table
from scenc.genes._identifiers import as_names, identify
from scenc.genes._lookup import Lookup

if TYPE_CHECKING:
    from collections.abc import Iterable

    from scenc.genes._gene_map import GeneMap
    from scenc.genes._identifiers import Names


def harmonize(
    names: Iterable[object],
    to: Literal["symbol", "ensembl"] = "symbol",
    *,
    species: str = "auto",
) -> GeneMap:
    """Bring gene names onto one nomenclature, and say what became of each.

    The rules, in order: an Ensembl id (its version is ignored), a current symbol (HGNC, GENCODE),
    an HGNC id, a previous symbol, an alias, any of these in other capitals, a symbol that a
    spreadsheet turned into a date, any name with other dashes, dots and underscores (``HLA.DRA``
    from R). The name of a genome before a gene's (``GRCh38_CD4``) is left out, and of a symbol
    joined with an Ensembl id (``CD4_ENSG00000010610``) the id counts. A name that could mean
    several genes at its strongest rule is ambiguous and never guessed. No name is dropped and no
    two are merged: what has no gene in the table keeps its name, and names that mean one gene are
    reported.

    Parameters
    ----------
    names
        Gene names of any kind, mixed as they come; missing ones are reported, not dropped.
    to
        What ``mapped`` holds: current symbols or Ensembl ids (without version).
    species
        ``"auto"``: names are human unless Ensembl ids of other species and symbols in lower case
        (``Actb``) outnumber human ids and symbols; in such a list no symbol is mapped. In a human
        list, a name in lower case is mapped only if the table has it in these very letters.
        ``"human"``: names are human whatever they look like, and capitals do not matter. Any other
        text: they are not, and symbols are left alone. Human Ensembl and HGNC ids are looked up in
        every case.

    Returns
    -------
    The mapping, one entry per name. Printing it gives the report.

    Raises
    ------
    TypeError
        If ``names`` is a single string or holds something that is not a string.
    ValueError
        If ``to`` is neither ``"symbol"`` nor ``"ensembl"``.

    Examples
    --------
    >>> from scenc.genes import harmonize
    >>> genes = harmonize(["ENSG00000127054.24", "MARCH1", "SEPT2", "ABC1", "nonsense"])
    >>> genes.mapped.tolist()
    ['INTS11', 'MARCHF1', 'SEPTIN2', 'ABCA1', 'nonsense']
    >>> genes.rule.tolist()
    ['ensembl', 'previous', 'previous', 'previous', 'unknown']
    """
    if to not in ("symbol", "ensembl"):
        raise ValueError(f'to={to!r} is not one of "symbol" and "ensembl".')
    table = human_table()
    lookup = Lookup(identify(as_names(names)), table)
    lookup.find_ids()
    species, notes = lookup.find_symbols(species)
    lookup.find_suffixed()
    return lookup.gene_map(to, species, notes)


def ensembl_to_symbol(names: Iterable[object], *, species: str = "auto") -> Names:
    """Replace Ensembl ids (and any outdated symbols) by current symbols.

    Shorthand for ``harmonize(names, to="symbol").mapped``, without the report.

    Parameters
    ----------
    names
        Gene names.
    species
        As in `harmonize`.

    Returns
    -------
    One name per input name, in order; where there is no symbol, the input name without version.

    Examples
    --------
    >>> from scenc.genes import ensembl_to_symbol
    >>> ensembl_to_symbol(["ENSG00000121410.12", "ENSMUSG00000022347"]).tolist()
    ['A1BG', 'ENSMUSG00000022347']
    """
    return harmonize(names, "symbol", species=species).mapped


def symbol_to_ensembl(names: Iterable[object], *, species: str = "auto") -> Names:
    """Replace symbols, current or outdated, by Ensembl ids.

    Shorthand for ``harmonize(names, to="ensembl").mapped``, without the report.

    Parameters
    ----------
    names
        Gene names.
    species
        As in `harmonize`.

    Returns
    -------
    One name per input name, in order; where there is no id, the input name.

    Examples
    --------
    >>> from scenc.genes import symbol_to_ensembl
    >>> symbol_to_ensembl(["A1BG", "CPSF3L"]).tolist()
    ['ENSG00000121410', 'ENSG00000127054']
    """
    return harmonize(names, "ensembl", species=species).mapped
