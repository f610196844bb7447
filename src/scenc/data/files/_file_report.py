"""Report of the checks of all files of a training."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from scenc._printing import Printed, PrintedTable

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass(frozen=True, slots=True)
class FileCheck:
    """Result of the checks of one file of cells.

    Attributes
    ----------
    path
        The file.
    n_cells
        Number of cells in it.
    n_used
        Number of cells that are not left out.
    n_genes
        Number of its genes.
    n_matched
        Number of its genes that are in the vocabulary.
    counts
        Matrix that holds its counts and how it is stored, such as ``"raw/X (csr)"``.
    problems
        Reasons why it cannot be used.
    remarks
        Other things to know.

    Examples
    --------
    >>> cells = scenc.data.CellFiles(["a.h5ad", "b.h5ad"])
    >>> first = cells.report.files[0]
    >>> first.path, first.n_cells, first.n_matched, first.counts
    ('a.h5ad', 700, 765, 'X (csr)')
    """

    path: str
    n_cells: int = 0
    n_used: int = 0
    n_genes: int = 0
    n_matched: int = 0
    counts: str = ""
    problems: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()


@dataclass(frozen=True, repr=False)
class FilesReport(Printed):
    """Result of the checks of all files; printing it shows every problem of every file.

    Attributes
    ----------
    files
        The files, in the order given.
    n_genes
        Number of genes of the vocabulary.

    Examples
    --------
    >>> report = scenc.data.CellFiles(["a.h5ad", "b.h5ad"]).report
    >>> report.ok, report.n_genes
    (True, 765)
    >>> print(report)
    2 files, 1,400 cells, 765 genes: all can be used
      a.h5ad  700 cells  765 of 765 genes  X (csr)
      b.h5ad  700 cells  765 of 765 genes  X (csr)
    """

    files: Sequence[FileCheck]
    n_genes: int

    @property
    def ok(self) -> bool:
        """Whether all files can be used."""
        return not any(file.problems for file in self.files)

    def _table(self) -> PrintedTable:
        bad = sum(bool(file.problems) for file in self.files)
        state = f"{bad} of {len(self.files)} files cannot be used" if bad else "all can be used"
        cells = sum(file.n_used for file in self.files)
        return PrintedTable(
            f"{len(self.files)} files, {cells:,} cells, {self.n_genes:,} genes: {state}",
            [_row(file) for file in self.files],
            "<<<<",
            details={
                number: [*(f"problem: {problem}" for problem in file.problems), *file.remarks]
                for number, file in enumerate(self.files)
            },
            indent="  ",
        )


class CellFilesError(ValueError):
    """Some files cannot be used; the message says everything that is wrong with any of them.

    Parameters
    ----------
    report
        Result of the checks.

    Attributes
    ----------
    report
        The same.

    Examples
    --------
    >>> sc.pp.log1p(adata, copy=True).write_h5ad("logged.h5ad")
    >>> try:
    ...     scenc.data.CellFiles(["a.h5ad", "logged.h5ad"])
    ... except scenc.data.CellFilesError as error:
    ...     print([file.path for file in error.report.files if file.problems])
    ['logged.h5ad']
    """

    def __init__(self, report: FilesReport) -> None:
        self.report = report
        bad = [file for file in report.files if file.problems]
        lines = [f"{file.path}: {problem}" for file in bad for problem in file.problems]
        super().__init__(
            f"{len(bad)} of {len(report.files)} files cannot be used:\n  " + "\n  ".join(lines)
        )


def _row(file: FileCheck) -> tuple[str, ...]:
    left_out = file.n_cells - file.n_used
    cells = f"{file.n_used:,} cells" + (f" ({left_out:,} left out)" if left_out else "")
    return file.path, cells, f"{file.n_matched:,} of {file.n_genes:,} genes", file.counts
