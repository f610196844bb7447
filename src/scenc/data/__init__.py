"""From count matrices and files to token batches: rows, checks, draws, tokens, requests."""

from scenc.data._batch import TokenBatch
from scenc.data._cell_files import CellFiles
from scenc.data._cell_loader import CellLoader
from scenc.data._cell_module import CellModule
from scenc.data._cell_store import CellStore
from scenc.data._check import CountCheck, check_counts
from scenc.data._dataset import BatchLoader, TokenDataset
from scenc.data._file_report import CellFilesError, FileCheck, FilesReport
from scenc.data._gene_rows import COUNTED, UNKNOWN
from scenc.data._recover import recover_counts
from scenc.data._requests import OrderedRequests, Request, ShuffledRequests
from scenc.data._rows import CountRows, open_rows
from scenc.data._store import build_store
from scenc.data._thin import thin
from scenc.data._tokens import Tokenizer
from scenc.data._views import Neighborhoods, ViewBatch, ViewDataset
from scenc.data._vocabulary import map_genes

__all__ = [
    "COUNTED",
    "UNKNOWN",
    "BatchLoader",
    "CellFiles",
    "CellFilesError",
    "CellLoader",
    "CellModule",
    "CellStore",
    "CountCheck",
    "CountRows",
    "FileCheck",
    "FilesReport",
    "Neighborhoods",
    "OrderedRequests",
    "Request",
    "ShuffledRequests",
    "TokenBatch",
    "TokenDataset",
    "Tokenizer",
    "ViewBatch",
    "ViewDataset",
    "build_store",
    "check_counts",
    "map_genes",
    "open_rows",
    "recover_counts",
    "thin",
]
