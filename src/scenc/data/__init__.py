"""From count matrices and files to token batches: rows, checks, draws, tokens, requests."""

from scenc.data.counts import CountCheck, CountRows, check_counts, open_rows, recover_counts
from scenc.data.files import CellFiles, CellFilesError, FileCheck, FilesReport, map_genes
from scenc.data.loading import (
    BatchLoader,
    CellModule,
    OrderedRequests,
    Request,
    ShuffledRequests,
    TokenDataset,
)
from scenc.data.store import CellStore, build_store
from scenc.data.tokens import COUNTED, UNKNOWN, LengthBucket, Packing, TokenBatch, Tokenizer
from scenc.data.views import CellCounts, FileViews, Neighborhoods, ViewBatch, ViewDataset, thin

# Earlier names.
CellLoader = BatchLoader

__all__ = [
    "COUNTED",
    "UNKNOWN",
    "BatchLoader",
    "CellCounts",
    "CellFiles",
    "CellFilesError",
    "CellLoader",
    "CellModule",
    "CellStore",
    "CountCheck",
    "CountRows",
    "FileCheck",
    "FileViews",
    "FilesReport",
    "LengthBucket",
    "Neighborhoods",
    "OrderedRequests",
    "Packing",
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
