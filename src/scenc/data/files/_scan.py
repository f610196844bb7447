"""Check one file of cells before it is trained on, and read its gene names and groups."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from scenc._printing import list_some
from scenc.data.counts import (
    CountRows,
    Problems,
    check_names,
    check_values,
    describe_low_coverage,
    describe_missing,
)
from scenc.data.files._file_report import FileCheck
from scenc.data.files._file_rows import FileRows
from scenc.data.files._vocabulary import count_shared
from scenc.genes import flag_genes
from scenc.io import (
    CountMatrix,
    column_names,
    count_rows,
    find_counts,
    group_names,
    opened,
    read_column,
    read_groups,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    from scenc.data.counts import Csr
    from scenc.genes import GeneMatch

# Below this share of its genes, a file is taken to share few with the others.
_FEW = 0.5
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
    has_feature_types
        Whether it says which features are genes.
    columns
        The columns of obs that were asked for.
    obs_names
        Names of all columns of obs.
    held
        Names of the groups in each column that cells are chosen by.
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
    has_feature_types: bool = False
    columns: dict[str, pd.Categorical] = field(default_factory=dict)
    obs_names: list[str] = field(default_factory=list)
    held: dict[str, list[str]] = field(default_factory=dict)
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
            n_genes=match.n_named,
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
    *,
    batch_key: str | None = None,
    feature_types: str | Sequence[str] | None = None,
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
    batch_key
        That of `columns` which every cell must have a value in.
    feature_types
        Which features are genes, as in `scenc.genes.flag_genes`.
    """
    file = ScannedFile(path)
    problems = file.problems
    with problems.collected(path):
        with opened(path) as group:
            matrix = find_counts(group, "it", layer)
            file.counts = f"{matrix.key} ({matrix.kind})"
            file.rows = FileRows(path, matrix)
            with problems.collected():
                _read_genes(file, group[matrix.var], matrix, gene_ids, feature_types)
            with problems.collected():
                _read_cells(file, group["obs"], matrix, columns, only, batch_key)
        if not problems.errors:
            _check_values(file, everything)
    return file


def check_only(only: Mapping[str, Sequence[Any]], files: Sequence[ScannedFile]) -> None:
    """Check that the values by which cells are chosen are somewhere in the files.

    Parameters
    ----------
    only
        As in `scan_file`.
    files
        What was found with it.

    Raises
    ------
    ValueError
        No file has a column, or no cell is left; the message says what there is instead.
    """
    held = {c: sorted({n for file in files for n in file.held.get(c, ())}) for c in only}
    for column, wanted in only.items():
        if not any(column in file.held for file in files):
            there = list(dict.fromkeys(name for file in files for name in file.obs_names))
            raise ValueError(
                f"only names the column {column!r}, which no file has in obs (there: "
                f"{', '.join(there) or 'none'})."
            )
        if any(isinstance(value, bool) for value in wanted) or {*held[column]} <= {"True", "False"}:
            continue
        absent = [
            name
            for name in group_names(v for v in wanted if not pd.isna(v))
            if name not in held[column]
        ]
        if 0 < len(absent) < len(wanted):
            warnings.warn(
                f"only: no cell has the value {list_some(absent)} in obs[{column!r}], which holds "
                f"{list_some(held[column])}.",
                UserWarning,
                stacklevel=3,
            )
    if only and not any(file.used.any() for file in files):
        columns = [f"obs[{c!r}] holds {list_some(held[c]) or 'no values'}" for c in only]
        raise ValueError(f"only={dict(only)!r} leaves no cell: {'; '.join(columns)}.")


def compare_genes(files: Sequence[ScannedFile], matches: Sequence[GeneMatch]) -> None:
    """Find files that share few genes with the others: with other names, or of another species.

    Those that share next to none get a problem, and of the others that share few one is warned of.

    Parameters
    ----------
    files
        The files.
    matches
        How the genes of each match the vocabulary that was made of them.
    """
    known = [number for number, file in enumerate(files) if (file.genes != "").any()]
    if len(known) < 2:
        return
    counts = count_shared([matches[number] for number in known])
    usual = _first_name(files[known[int(np.argmax(counts.belongs))]])
    few = []
    for place, number in enumerate(known):
        file, n_shared, n_own = files[number], counts.n_shared[place], counts.n_own[place]
        text = f"shares {n_shared:,} of {n_own:,} genes with the others"
        if not counts.belongs[place]:
            file.problems.errors.append(
                f"it {text}: it names genes like {_first_name(file)!r}, they like {usual!r}. Leave "
                "it out, name a column of var with the same kind of names (gene_ids=...), or give "
                "a list of genes (genes=[...])"
            )
        elif n_shared < _FEW * min(n_own, counts.n_others[place]):
            few.append(f"{file.path} {text}")
    if few:
        warnings.warn(
            f"{len(few)} of {len(files)} files share few genes with the others: "
            f"{list_some(few, between='; ')}.",
            UserWarning,
            stacklevel=3,
        )


def _first_name(file: ScannedFile) -> str:
    return str(file.genes[file.genes != ""][0])


def _read_genes(
    file: ScannedFile,
    var: Any,
    matrix: CountMatrix,
    gene_ids: str | None,
    feature_types: str | Sequence[str] | None,
) -> None:
    name = matrix.var.replace("/", ".")
    values = read_column(var, gene_ids, name)
    if len(values) != matrix.shape[1]:
        file.problems.errors.append(
            f"{matrix.key} has {matrix.shape[1]} genes, {matrix.var} has {len(values)}"
        )
        return
    where = f"{name}_names" if gene_ids is None else f"{name}[{gene_ids!r}]"
    file.has_feature_types = "feature_types" in var
    is_gene, left_out = flag_genes(var, feature_types, name)
    if left_out is not None:
        file.problems.remarks.append(left_out)
    file.genes = check_names(values, where, file.problems, is_gene)


def _read_cells(
    file: ScannedFile,
    obs: Any,
    matrix: CountMatrix,
    columns: Sequence[str],
    only: Mapping[str, Any],
    batch_key: str | None,
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
    file.obs_names = column_names(obs)
    for column, wanted in only.items():
        if column in obs:
            groups = read_groups(obs, column, "obs")
            file.held[column] = groups.categories.tolist()
            names = group_names(value for value in wanted if not pd.isna(value))
            # A boolean is 1 or 0 as well, and cells may be wanted whose value is missing.
            equal = read_column(obs, column, "obs").isin(wanted).to_numpy(bool)
            file.used &= equal | groups.isin(names)
    n_out = n_cells - int(file.used.sum())
    if n_out:
        file.problems.remarks.append(
            f"{n_out:,} cells are left out by {', '.join(map(repr, only))}"
        )
    if batch_key in file.columns:
        missing = describe_missing(file.columns[batch_key], batch_key, file.used)
        if missing is not None:
            file.problems.errors.append(missing)


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
