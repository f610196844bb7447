from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd

from scenc._printing import Printed, list_some
from scenc.genes._match import match
from scenc.genes._rules import RULES, count_rules, table_of_counts

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from scenc._printing import PrintedTable
    from scenc.genes._identifiers import Names

    type Missing = Literal["learned", "zero", "drop"]


@dataclass(frozen=True, eq=False, repr=False)
class EmbeddingCoverage(Printed):
    """Which genes of a vocabulary have a vector in a file.

    Parameters
    ----------
    names
        The vocabulary.
    positions
        Per gene the row of its vector or -1, int32, shape ``(n_vocabulary,)``.
    rule
        Per gene how the vector was found (see `GeneMatch`), ``"unmatched"`` for none.
    source
        Where the vectors come from.
    notes
        Remarks, in sentences.

    Examples
    --------
    >>> proteins = scenc.genes.ProteinEmbeddings.from_arrays(["A1BG", "CD4"], np.eye(2))
    >>> coverage = proteins.coverage(["CD4", "unheard of"])
    >>> coverage.share, coverage.missing
    (0.5, ('unheard of',))
    """

    names: Names
    positions: NDArray[np.int32]
    rule: Names
    source: str
    notes: tuple[str, ...] = ()

    @property
    def has_vector(self) -> NDArray[np.bool_]:
        """Whether each gene has a vector, shape ``(n_vocabulary,)``."""
        return np.asarray(self.positions >= 0)

    @property
    def share(self) -> float:
        """Share of the vocabulary with a vector, 0 to 1; 0 for an empty vocabulary."""
        return float(self.has_vector.mean()) if len(self.names) else 0.0

    @property
    def missing(self) -> tuple[str, ...]:
        """Genes without a vector."""
        return tuple(self.names[~self.has_vector].tolist())

    @cached_property
    def counts(self) -> dict[str, int]:
        """Number of genes per rule; rules that none met are left out."""
        return count_rules(self.rule)

    def to_uns(self) -> dict[str, Any]:
        """Summarise in plain values that ``.h5ad`` files hold."""
        return {
            "source": self.source,
            "n": len(self.names),
            "share": self.share,
            "counts": dict(self.counts),
            "missing": np.array(self.missing, dtype=object),
            "notes": np.array(self.notes, dtype=object),
        }

    def _table(self) -> PrintedTable:
        n, missing = len(self.names), self.missing
        remarks = {"unmatched": list_some(missing)}
        rows = [(RULES[rule], k, remarks.get(rule, "")) for rule, k in self.counts.items()]
        title = f"EmbeddingCoverage: {n - len(missing):,} of {n:,} genes have a vector"
        return table_of_counts(
            f"{title} ({100 * self.share:.1f} %) in {self.source}", rows, n, self.notes
        )


@dataclass(frozen=True, eq=False, repr=False)
class AlignedEmbeddings:
    """Vectors in the order of a vocabulary; made by `ProteinEmbeddings.align`.

    Parameters
    ----------
    matrix
        float32, shape ``(n_genes, dim)``, with zeros where a gene has no vector.
    has_vector
        Whether a row holds a vector of the file, shape ``(n_genes,)``.
    names
        Gene per row: the vocabulary, or with ``missing="drop"`` what is left of it.
    index
        Position of each row in the vocabulary asked for, shape ``(n_genes,)``.
    missing
        What happens to genes without a vector: ``"learned"`` (the model gives each a vector and
        trains it), ``"zero"`` (zeros) or ``"drop"`` (they are left out).
    coverage
        The report on the whole vocabulary asked for.

    Examples
    --------
    >>> proteins = scenc.genes.ProteinEmbeddings.from_arrays(["A1BG", "CD4"], np.eye(2))
    >>> aligned = proteins.align(["CD4", "unheard of", "A1BG"], missing="drop")
    >>> aligned.names.tolist(), aligned.index.tolist(), aligned.dim
    (['CD4', 'A1BG'], [0, 2], 2)
    """

    matrix: NDArray[np.float32]
    has_vector: NDArray[np.bool_]
    names: Names
    index: NDArray[np.int64]
    missing: Missing
    coverage: EmbeddingCoverage

    @property
    def dim(self) -> int:
        """Length of a vector."""
        return int(self.matrix.shape[1])

    def __len__(self) -> int:
        return len(self.names)

    def __repr__(self) -> str:
        without = int((~self.has_vector).sum())
        return (
            f"<AlignedEmbeddings: {len(self):,} genes x {self.dim:,}, "
            f"{without:,} without a vector (missing={self.missing!r})>"
        )


def find_vectors(
    genes: Names,
    names: Names,
    symbols: Names | None,
    source: str,
    species: str,
    ignore_case: bool,
) -> EmbeddingCoverage:
    """Find a row for each gene: by name, then by the file's symbols, then ignoring capitals."""
    by_name = match(genes, names, species=species, duplicates="all")
    positions, rule = by_name.positions.copy(), by_name.rule.copy()
    if symbols is not None and (positions < 0).any():
        rows = np.flatnonzero((symbols != "") & ~_repeated(symbols))
        unmatched = np.flatnonzero(positions < 0)
        by_symbol = match(genes[unmatched], symbols[rows], species=species, duplicates="all")
        matched = by_symbol.positions >= 0
        positions[unmatched[matched]] = rows[by_symbol.positions[matched]]
        rule[unmatched[matched]] = by_symbol.rule[matched]
    notes = by_name.notes
    rows = _without_case(genes, names if symbols is None else symbols)
    more = (positions < 0) & (rows >= 0) & (rule != "unnamed")
    if ignore_case:
        positions[more], rule[more] = rows[more], "case"
    elif more.any():
        notes = (
            *notes,
            f"{int(more.sum()):,} more match if capitals are ignored (ignore_case=True), which is "
            "right only where the vectors are of the same species",
        )
    return EmbeddingCoverage(genes, positions.astype(np.int32), rule, source, notes)


def align_vectors(
    matrix: NDArray[Any], coverage: EmbeddingCoverage, missing: Missing
) -> AlignedEmbeddings:
    """Put vectors in the order of the genes of a coverage."""
    if missing not in ("learned", "zero", "drop"):
        raise ValueError(f'missing={missing!r} is not one of "learned", "zero" and "drop".')
    covered = coverage.has_vector
    if not covered.any():
        wanted = list_some(coverage.names)
        hints = "".join(f" {note}." for note in coverage.notes)
        raise ValueError(f"{coverage.source} has no vector for any gene of {wanted}.{hints}")
    index = np.flatnonzero(covered) if missing == "drop" else np.arange(len(covered))
    rows, has_vector = coverage.positions[index], covered[index]
    aligned = np.zeros((len(index), matrix.shape[1]), dtype=np.float32)
    aligned[has_vector] = matrix[rows[has_vector]]
    return AlignedEmbeddings(aligned, has_vector, coverage.names[index], index, missing, coverage)


def _without_case(genes: Names, names: Names) -> NDArray[np.int64]:
    upper = np.array([name.upper() for name in names.tolist()], dtype=object)
    rows = np.flatnonzero((upper != "") & ~_repeated(upper))
    wanted = pd.Index([gene.upper() for gene in genes.tolist()], dtype=object)
    at = pd.Index(upper[rows], dtype=object).get_indexer(wanted)
    return np.asarray(np.where(at >= 0, rows[at], -1) if len(rows) else at)


def _repeated(names: Names) -> NDArray[np.bool_]:
    return np.asarray(pd.Series(names, dtype=object).duplicated(keep=False))
