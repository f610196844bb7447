from __future__ import annotations

import gzip
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from scenc.genes._identifiers import strip_version

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

#: letters ESM-2 has a token for
RESIDUES = frozenset("LAGVSERTIDPKQNFYMHWCXBUZO")
_ODD = re.compile(f"[^{''.join(sorted(RESIDUES))}]")
_NUCLEOTIDES = frozenset("ACGTUNX")
_ENSEMBL_GENE = re.compile(r"\bgene:(\S+)")
_ENSEMBL_SYMBOL = re.compile(r"\bgene_symbol:(\S+)")
_UNIPROT = re.compile(r"(?:sp|tr)\|([^|\s]+)\|")
_UNIPROT_GENE = re.compile(r"\bGN=(.+?)(?=\s+[A-Z]{2}=|\s*$)")
_GENCODE = re.compile(
    r"[^|\s]+\|[^|\s]+\|(ENS[A-Z]*G\d{11}[^|\s]*)\|[^|]*\|[^|]*\|[^|]*\|([^|\s]*)"
)


@dataclass(frozen=True)
class Protein:
    """One record of a FASTA file.

    Parameters
    ----------
    accession
        First word of the header.
    gene
        Name of its vector: the gene id, else the symbol, else the accession.
    symbol
        Gene symbol, ``""`` for none.
    sequence
        Residues, all of them in `RESIDUES`.
    """

    accession: str
    gene: str
    symbol: str
    sequence: str


def parse_header(header: str) -> tuple[str, str, str]:
    """Read accession, gene id and symbol from a header; ``""`` for what it does not say.

    Knows Ensembl's (``gene:``, ``gene_symbol:``), UniProt's (``GN=``) and GENCODE's (fields between
    bars). The first word of any other header is taken for the gene's name.
    """
    words = header.split(maxsplit=1)
    accession = words[0] if words else ""
    if gencode := _GENCODE.match(header):
        return accession, gencode[1], gencode[2]
    if uniprot := _UNIPROT.match(header):
        symbol = _UNIPROT_GENE.search(header)
        return uniprot[1], "", symbol[1] if symbol else ""
    if gene := _ENSEMBL_GENE.search(header):
        named = _ENSEMBL_SYMBOL.search(header)
        return accession, gene[1], named[1] if named else ""
    return accession, "", accession


def read_fasta(paths: Iterable[Path]) -> tuple[list[Protein], tuple[str, ...]]:
    """Read proteins from FASTA files, plain or gzipped.

    Returns
    -------
    The proteins, each accession and sequence once, and notes on what was changed.

    Raises
    ------
    FileNotFoundError
        If a file is missing.
    ValueError
        If a file is no protein FASTA, or an accession comes with two sequences.
    """
    by_accession: dict[str, Protein] = {}
    counts = dict.fromkeys(("empty", "replaced", "repeated", "nameless"), 0)
    for path in paths:
        if not path.is_file():
            raise FileNotFoundError(f"There is no file {path}.")
        before = len(by_accession)
        for header, text in _records(path):
            _add(by_accession, counts, path, header, text)
        if len(by_accession) == before and not counts["repeated"]:
            raise ValueError(f"{path} has no protein sequences.")
    proteins = list(by_accession.values())
    letters = set().union(*(protein.sequence for protein in proteins))
    if letters <= _NUCLEOTIDES and sum(len(protein.sequence) for protein in proteins) > 20:
        raise ValueError("The sequences are nucleotides; protein sequences are needed.")
    return _strip_versions(proteins), _notes(counts)


def _records(path: Path) -> Iterator[tuple[str, str]]:
    with path.open("rb") as binary:
        packed = binary.read(2) == b"\x1f\x8b"
    header, lines = "", list[str]()
    with gzip.open(path, "rt") if packed else path.open(encoding="utf-8") as stream:
        for number, line in enumerate(stream, 1):
            line = line.strip()
            if line.startswith(">"):
                if header:
                    yield header, "".join(lines)
                header, lines = line[1:].strip(), []
                if not header:
                    raise ValueError(f"{path}: the header in line {number:,} is empty.")
            elif line and not header:
                raise ValueError(f"{path} is not FASTA: line {number:,} comes before any header.")
            elif line:
                lines.append(line)
    if header:
        yield header, "".join(lines)


def _add(
    by_accession: dict[str, Protein], counts: dict[str, int], path: Path, header: str, text: str
) -> None:
    """Check one record and add it to the proteins, or count why it was not added."""
    accession, gene, symbol = parse_header(header)
    sequence = text.upper().replace(" ", "").replace("-", "").rstrip("*")
    if not sequence:
        counts["empty"] += 1
        return
    clean = sequence.replace("*", "X").replace("J", "X")
    counts["replaced"] += clean != sequence
    if odd := _ODD.search(clean):
        raise ValueError(
            f"{path}: {accession} has {odd[0]!r} at residue {odd.start() + 1:,}, "
            "which is not an amino acid."
        )
    counts["nameless"] += not gene and not symbol
    key = accession if gene or symbol != accession else f"{accession}\0{clean}"
    if key in by_accession:
        if by_accession[key].sequence != clean:
            raise ValueError(f"{path}: {accession} was read before with another sequence.")
        counts["repeated"] += 1
        return
    by_accession[key] = Protein(accession, gene or symbol or accession, symbol, clean)


def _strip_versions(proteins: list[Protein]) -> list[Protein]:
    genes = strip_version([protein.gene for protein in proteins]).tolist()
    pairs = zip(proteins, genes, strict=True)
    return [Protein(p.accession, gene, p.symbol, p.sequence) for p, gene in pairs]


def _notes(counts: dict[str, int]) -> tuple[str, ...]:
    texts = {
        "empty": "{:,} records without a sequence were left out",
        "replaced": "in {:,} proteins, stops and J (which ESM-2 does not know) were read as X",
        "repeated": "{:,} records were there more than once and count once",
        "nameless": "{:,} proteins name no gene and are filed under their accession",
    }
    return tuple(text.format(counts[key]) for key, text in texts.items() if counts[key])
