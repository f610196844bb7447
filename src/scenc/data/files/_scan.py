"""Check one file of cells before it is trained on, and read its gene names and groups."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from scenc.data.counts import (
    CountRows,
    Problems,
    check_names,
    check_values,
    describe_low_coverage,
)
from scenc.data.files._file_report import FileCheck
from scenc.data.files._file_rows import FileRows
from scenc.io import CountMatrix, count_rows, find_counts, opened, read_column, read_groups

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    from scenc.data.counts import Csr
    from scenc.genes import GeneMatch

# Rows per block, and number of blocks of a sample.
_BLOCK, _N_BLOCKS = 1024, 8


@dataclass
class ScannedFile:
    """Names, groups and problems of a file of cells.

    Attributes
    ----------
    path
        The file.
    rows
        Its counts; ``None`` where they cannot be found.
    counts
        Matrix that holds the counts and how it is stored, such as ``"raw/X (csr)"``.
    genes
        Names of its genes.
    columns
        The columns of obs that were asked for.
    used
        True for cells that are not left out, shape ``(n_cells,)``.
    filled
        True for cells with counts, as far as is known, shape ``(n_cells,)``.
    problems
        Reasons why the file cannot be used, and remarks.
    """

    path: str
    rows: FileRows | None = None
    counts: str = ""
    genes: pd.Index[str] = field(default_factory=lambda: pd.Index([], dtype=str))
    columns: dict[str, pd.Categorical] = field(default_factory=dict)
    used: NDArray[np.bool_] = field(default_factory=lambda: np.zeros(0, bool))
    filled: NDArray[np.bool_] = field(default_factory=lambda: np.zeros(0, bool))
    problems: Problems = field(default_factory=Problems)

    @property
    def n_cells(self) -> int:
        """Number of cells."""
        return len(self.used)

    def check(self, match: GeneMatch) -> FileCheck:
        """Sum up the problems of the file, and how its genes match a vocabulary."""
        problems, remarks = list(self.problems.errors), list(self.problems.remarks)
        too_few = describe_low_coverage(match)
        if not problems and too_few is not None:
            problems.append(too_few)
        if match.duplicated:
            gene, names = next(iter(match.duplicated.items()))
            remarks.append(
                f"{len(match.duplicated):,} genes have several columns, of which one at most is "
                f"used (like {gene}: {', '.join(names[:3])})"
            )
        return FileCheck(
            path=self.path,
            n_cells=self.n_cells,
            n_used=int(self.used.sum()),
            n_genes=len(match.query),
            n_matched=match.n_matched,
            counts=self.counts,
            problems=tuple(problems),
            remarks=tuple(remarks),
        )


def scan_file(
    path: str,
    layer: str | None,
    gene_ids: str | None,
    columns: Sequence[str],
    only: Mapping[str, Any],
    everything: bool,
) -> ScannedFile:
    """Read the names and groups of a file, check its counts, and collect all that is wrong.

    Parameters
    ----------
    path
        The file.
    layer
        Matrix to use, named as in `scenc.io._locate_counts.find_counts`.
    gene_ids
        Column of var with the genes' names; ``None``: its index.
    columns
        Columns of obs to read.
    only
        Columns of obs and the values whose cells are used, where a file has the column.
    everything
        Whether to check every value, or a sample from all over the file.
    """
    file = ScannedFile(path)
    problems = file.problems
    with problems.collected(path):
        with opened(path) as group:
            matrix = find_counts(group, "it", layer)
            file.counts = f"{matrix.key} ({matrix.kind})"
            file.rows = FileRows(path, matrix)
            with problems.collected():
                _read_genes(file, group[matrix.var], matrix, gene_ids)
            with problems.collected():
                _read_cells(file, group["obs"], matrix, columns, only)
        if not problems.errors:
            _check_values(file, everything)
    return file


def _read_genes(file: ScannedFile, var: Any, matrix: CountMatrix, gene_ids: str | None) -> None:
    name = matrix.var.replace("/", ".")
    values = read_column(var, gene_ids, name)
    if len(values) != matrix.shape[1]:
        file.problems.errors.append(
            f"{matrix.key} has {matrix.shape[1]} genes, {matrix.var} has {len(values)}"
        )
        return
    where = f"{name}_names" if gene_ids is None else f"{name}[{gene_ids!r}]"
    file.genes = check_names(values, where, file.problems)


def _read_cells(
    file: ScannedFile,
    obs: Any,
    matrix: CountMatrix,
    columns: Sequence[str],
    only: Mapping[str, Any],
) -> None:
    n_cells = count_rows(obs)
    if n_cells != matrix.shape[0]:
        file.problems.errors.append(f"{matrix.key} has {matrix.shape[0]} cells, obs has {n_cells}")
        return
    if not n_cells:
        file.problems.errors.append("it has no cells.")
        return
    file.used, file.filled = np.ones(n_cells, bool), np.ones(n_cells, bool)
    for column in columns:
        with file.problems.collected():
            file.columns[column] = read_groups(obs, column, "obs")
    for column, wanted in only.items():
        if column in obs:
            file.used &= read_column(obs, column, "obs").isin(wanted).to_numpy()
    n_out = n_cells - int(file.used.sum())
    if n_out:
        file.problems.remarks.append(
            f"{n_out:,} cells are left out by {', '.join(map(repr, only))}"
        )


def _check_values(file: ScannedFile, everything: bool) -> None:
    """Check the values, and mark cells without any."""
    assert file.rows is not None
    blocks = _Blocks(file.rows, everything)
    check = check_values(blocks, pd.RangeIndex(file.n_cells), file.genes, "it", file.problems)
    if blocks.n_double:
        file.problems.errors.append(
            f"{blocks.n_double} values stand beside another of the same cell and gene; "
            "add them up (adata.X.sum_duplicates()) and write the file again"
        )
    n_values = check.n_genes if everything else file.rows.n_stored
    if n_values is not None:
        file.filled = n_values > 0
    n_empty = int((file.used & ~file.filled).sum())
    if n_empty:
        file.problems.remarks.append(f"{n_empty:,} cells without counts are left out of training")


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
