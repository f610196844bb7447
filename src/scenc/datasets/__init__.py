"""Data to try things on, and the paper's data to download."""

from scenc.datasets._download import download
from scenc.datasets._paper import pretraining, tissues
from scenc.datasets._pbmc68k import pbmc68k
from scenc.datasets._read import read_counts
from scenc.datasets._report import DownloadError, DownloadReport, Entry
from scenc.datasets._tabula_sapiens import tabula_sapiens

__all__ = [
    "DownloadError",
    "DownloadReport",
    "Entry",
    "download",
    "pbmc68k",
    "pretraining",
    "read_counts",
    "tabula_sapiens",
    "tissues",
]
