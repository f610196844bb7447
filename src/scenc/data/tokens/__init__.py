"""Rows of counts to batches of tokens: normalise, draw, pad."""

from scenc.data.tokens._batch import LengthBucket, TokenBatch
from scenc.data.tokens._csr import COUNTED, NO_ROWS, UNKNOWN, GeneRows, Joined, longest_first
from scenc.data.tokens._packing import Packing
from scenc.data.tokens._subsample import mix
from scenc.data.tokens._tokenizer import Tokenizer

__all__ = [
    "COUNTED",
    "GeneRows",
    "Joined",
    "LengthBucket",
    "NO_ROWS",
    "Packing",
    "TokenBatch",
    "Tokenizer",
    "UNKNOWN",
    "longest_first",
    "mix",
]
