"""Rows of counts to batches of tokens: normalise, draw, pad."""

from scenc.data.tokens._batch import TokenBatch
from scenc.data.tokens._csr import COUNTED, NO_ROWS, UNKNOWN, GeneRows, Joined
from scenc.data.tokens._subsample import mix
from scenc.data.tokens._tokenizer import Tokenizer

__all__ = [
    "COUNTED",
    "GeneRows",
    "Joined",
    "NO_ROWS",
    "TokenBatch",
    "Tokenizer",
    "UNKNOWN",
    "mix",
]
