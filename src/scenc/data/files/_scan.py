"""One file of cells: what is in it, looked at before its counts are needed."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from anndata.io import read_elem

from scenc.data.counts import CountRows, check_counts
from scenc.data.files._file_report import FileCheck
from scenc.data.files._file_rows import FileRows
from scenc.io._locate_counts import CountMatrix, count_cells, find_counts, opened

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    from scenc.data.counts import Csr
    from scenc.genes import GeneMatch

# Below this share of the shorter list of genes, a file is taken to name its genes in another way.
_LEAST_SHARED = 0.1
# Rows a block, and number of blocks where not all are looked at.
_BLOCK, _N_BLOCKS = 1024, 8


@dataclass
class Source:
    """A file of cells.

    Attributes
    ----------
    path
        The file.
    rows
        Its counts.
    where
        Where they are and how they are stored.
    genes
        Names of its genes.
    columns
        The columns of obs that were asked for.
    used
        Which cells are not left out, shape ``(n_cells,)``.
    filled
        Which cells have counts, as far as is known, shape ``(n_cells,)``.
    problems, remarks
        What keeps it from being used, and what else to know.
    """

    path: str
    rows: FileRows | None = None
    where: str = ""
    genes: pd.Index[str] = field(default_factory=lambda: pd.Index([], dtype=str))
    columns: dict[str, pd.Categorical] = field(default_factory=dict)
    used: NDArray[np.bool_] = field(default_factory=lambda: np.zeros(0, bool))
    filled: NDArray[np.bool_] = field(default_factory=lambda: np.zeros(0, bool))
    problems: list[str] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)

    @property
    def n_cells(self) -> int:
        """Number of cells."""
        return len(self.used)

    def check(self, found: GeneMatch) -> FileCheck:
        """Sum up what was found, together with how the genes match a vocabulary."""
        problems, remarks = list(self.problems), list(self.remarks)
        shorter = min(len(found.query), len(found.vocabulary))
        if not problems and found.n_matched < _LEAST_SHARED * shorter:
            problems.append(
                f"only {found.n_matched} of its {len(found.query)} genes are among the "
                f"{len(found.vocabulary)} of the vocabulary: it names genes like "
                f"{found.query[0]!r}, the vocabulary like {found.vocabulary[0]!r}"
            )
        if found.duplicated:
            gene, names = next(iter(found.duplicated.items()))
            remarks.append(
                f"{len(found.duplicated):,} genes have several columns, of which one at most is "
                f"used (like {gene}: {', '.join(names[:3])})"
            )
        return FileCheck(
            path=self.path,
            n_cells=self.n_cells,
            n_used=int(self.used.sum()),
            n_genes=len(found.query),
            n_matched=found.n_matched,
            counts=self.where,
            problems=tuple(problems),
            remarks=tuple(remarks),
        )


def look_into(
    path: str,
    layer: str | None,
    gene_ids: str | None,
    columns: Sequence[str],
    only: Mapping[str, Any],
    everything: bool,
) -> Source:
    """Open a file and note what is in it, and all that is wrong with it.

    Parameters
    ----------
    path
        The file.
    layer
        Which matrix; `scenc.io._locate_counts.find_counts` says how it is named.
    gene_ids
        Column of var with the genes' names; ``None``: its index.
    columns
        Columns of obs to read.
    only
        Columns of obs and the values whose cells are used, where a file has the column.
    everything
        Whether to look at every value, or at some of all over the file.
    """
    source = Source(path)
    try:
        with opened(path) as group:
            matrix = find_counts(group, "it", layer)
            source.where = f"{matrix.key} ({matrix.kind})"
            source.rows = FileRows(path, matrix)
            _read_genes(source, group, matrix, gene_ids)
            _read_cells(source, group, matrix, columns, only)
        if source.problems:
            return source
        _check_values(source, everything)
    except (OSError, ValueError, KeyError, IndexError, TypeError) as error:
        # Whatever a damaged file makes the readers say.
        text = error.args[0] if isinstance(error, KeyError) and error.args else error
        source.problems.append(str(text).removeprefix(f"{path}: ").removeprefix(f"{path} "))
    return source


def _read_genes(source: Source, group: Any, matrix: CountMatrix, gene_ids: str | None) -> None:
    var = group[matrix.var]
    column = var.attrs["_index"] if gene_ids is None else gene_ids
    if column not in var:
        source.problems.append(f"{matrix.var} has no column {gene_ids!r} (there: {_names(var)})")
        return
    names = pd.Series(read_elem(var[column]), dtype=object)
    if len(names) != matrix.shape[1]:
        source.problems.append(
            f"{matrix.key} has {matrix.shape[1]} genes, {matrix.var} has {len(names)}"
        )
        return
    empty = names.isna() | (names.astype(str) == "")
    if empty.any():
        source.problems.append(f"{int(empty.sum())} genes have no name")
    genes = pd.Index(names.fillna("").astype(str))
    twice = genes[genes.duplicated() & ~empty.to_numpy()].unique()
    if len(twice):
        source.problems.append(
            f"{len(twice)} genes are named more than once (like {', '.join(twice[:3])})"
        )
    source.genes = genes


def _read_cells(
    source: Source,
    group: Any,
    matrix: CountMatrix,
    columns: Sequence[str],
    only: Mapping[str, Any],
) -> None:
    obs = group["obs"]
    n_cells = count_cells(group)
    if n_cells != matrix.shape[0]:
        source.problems.append(f"{matrix.key} has {matrix.shape[0]} cells, obs has {n_cells}")
        return
    if not n_cells:
        source.problems.append("it has no cells")
        return
    source.used, source.filled = np.ones(n_cells, bool), np.ones(n_cells, bool)
    for column in columns:
        if column not in obs:
            source.problems.append(f"obs has no column {column!r} (there: {_names(obs)})")
            continue
        values = pd.Categorical(read_elem(obs[column]))
        source.columns[column] = values.rename_categories({v: str(v) for v in values.categories})
    for column, wanted in only.items():
        if column in obs:
            source.used &= pd.Series(read_elem(obs[column])).isin(wanted).to_numpy()
    n_out = n_cells - int(source.used.sum())
    if n_out:
        source.remarks.append(f"{n_out:,} cells are left out by {', '.join(map(repr, only))}")


def _names(frame: Any) -> str:
    return ", ".join(name for name in frame if not name.startswith("_")) or "none"


def _check_values(source: Source, everything: bool) -> None:
    """Look at the values, and note which cells have none."""
    assert source.rows is not None
    blocks = _Blocks(source.rows, everything)
    found = check_counts(blocks, pd.RangeIndex(source.n_cells), source.genes, "it")
    if blocks.n_double:
        source.problems.append(
            f"{blocks.n_double} values stand beside another of the same cell and gene; "
            "add them up (adata.X.sum_duplicates()) and write the file again"
        )
    if found.looks_log_normalized:
        source.problems.append(
            f"it looks log-normalised: {found.n_fractional} of {found.n_values} values are "
            f"fractions and none is above {found.maximum:.3g}. Name the layer with raw counts"
        )
    elif found.first_fractional is not None:
        cell, gene, value = found.first_fractional
        source.remarks.append(
            f"{found.n_fractional:,} values are no integers (like {value:.4g} in cell {cell}, "
            f"gene {gene}); they are taken as they are"
        )
    n_values = found.n_genes if everything else source.rows.n_stored
    if n_values is not None:
        source.filled = n_values > 0
    n_empty = int((source.used & ~source.filled).sum())
    if n_empty:
        source.remarks.append(f"{n_empty:,} cells without counts are left out of training")


class _Blocks(CountRows):
    """Blocks of rows, of all of a file or from all over it.

    Attributes
    ----------
    n_double
        Number of values so far beside which there is another for the same cell and gene.
    """

    def __init__(self, rows: FileRows, everything: bool) -> None:
        self.shape = rows.shape
        self.n_double = 0
        self._rows = rows
        self._everything = everything

    def select(self, rows: NDArray[np.int64]) -> tuple[Csr, NDArray[np.int64]]:
        return self._rows.select(rows)

    def chunks(self, size: int = _BLOCK) -> Iterator[tuple[int, Csr]]:
        n_rows, n_columns = self.shape
        starts = np.arange(0, n_rows, size)
        if not self._everything:
            starts = np.unique(np.linspace(0, max(0, n_rows - size), _N_BLOCKS).astype(int))
        for start in starts.tolist():
            block, _ = self.select(np.arange(start, min(start + size, n_rows)))
            if block.nnz and not 0 <= block.indices.min() <= block.indices.max() < n_columns:
                raise ValueError(f"the matrix is damaged: it has {n_columns} columns and more")
            if not block.has_canonical_format:
                tidy = block.copy()
                tidy.sum_duplicates()
                self.n_double += block.nnz - tidy.nnz
            yield start, block
