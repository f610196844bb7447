"""From count matrices to token batches: rows, checks, draws, tokens, requests."""

from scenc.data._batch import TokenBatch
from scenc.data._check import CountCheck, check_counts
from scenc.data._dataset import TokenDataset
from scenc.data._recover import recover_counts
from scenc.data._requests import OrderedRequests, Request, ShuffledRequests
from scenc.data._rows import CountRows, open_rows
from scenc.data._tokens import Tokenizer

__all__ = [
    "CountCheck",
    "CountRows",
    "OrderedRequests",
    "Request",
    "ShuffledRequests",
    "TokenBatch",
    "TokenDataset",
    "Tokenizer",
    "check_counts",
    "open_rows",
    "recover_counts",
]
