"""Cells of many files with different genes."""

from scenc.data.files._cell_files import CellFiles
from scenc.data.files._file_report import CellFilesError, FileCheck, FilesReport
from scenc.data.files._vocabulary import map_genes

__all__ = [
    "CellFiles",
    "CellFilesError",
    "FileCheck",
    "FilesReport",
    "map_genes",
]
