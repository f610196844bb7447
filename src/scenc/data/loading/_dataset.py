from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from torch.utils.data import Dataset

from scenc.data.loading._loader import BatchLoader
from scenc.data.tokens import GeneRows, longest_first

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from scenc.data.counts import CountRows
    from scenc.data.loading._samplers import BatchSampler, LoadRequest, Request
    from scenc.data.tokens import TokenBatch, Tokenizer


class MemoryDataset[B](Dataset[B]):
    """Counts in memory as the `BatchReader` of a loader: nothing is left to be read."""

    def read(self, load: LoadRequest) -> None:
        """Read nothing."""

    def make(self, buffer: None, request: Request) -> B:
        """Make one batch."""
        return self[request]

    def loader(
        self, requests: BatchSampler, *, num_workers: int = 0, pin_memory: bool = False
    ) -> BatchLoader[B]:
        """Return a loader that yields whole batches, one per request.

        Parameters
        ----------
        requests
            Which rows make up each batch, in which order.
        num_workers
            Number of processes that make batches; 0: threads do.
        pin_memory
            Whether batches are copied to page-locked memory.
        """
        return BatchLoader(self, requests, processes=num_workers, pin_memory=pin_memory)


class TokenDataset(MemoryDataset["TokenBatch"]):
    """Counts seen as tokens: a request for rows in, a batch of tokens out.

    Parameters
    ----------
    rows
        The counts.
    gene_map
        Vocabulary index of each column of the counts; `UNKNOWN` or `COUNTED` where the vocabulary
        lacks it.
    tokenizer
        How rows become tokens.
    subset
        Rows that requests count in, ``None``: all; requested cell i is row ``subset[i]``.
    by_length
        Whether the cells of a batch are put in the order of their number of genes of the
        vocabulary, largest first, so that the network can spare padding.

    Examples
    --------
    >>> rows = scenc.data.open_rows(adata.X)
    >>> tokens = scenc.data.TokenDataset(rows, np.arange(adata.n_vars), scenc.data.Tokenizer())
    >>> len(tokens)
    700
    >>> batch = tokens[scenc.data.Request(np.array([0, 1, 2]), seed=0)]
    >>> batch.n_cells
    3
    >>> loader = tokens.loader(scenc.data.OrderedRequests(np.arange(len(tokens)), batch_size=100))
    """

    def __init__(
        self,
        rows: CountRows,
        gene_map: NDArray[np.int64],
        tokenizer: Tokenizer,
        subset: NDArray[np.int64] | None = None,
        by_length: bool = False,
    ) -> None:
        if len(gene_map) != rows.shape[1]:
            raise ValueError(
                f"gene_map has {len(gene_map)} entries for {rows.shape[1]} columns of counts."
            )
        self._rows = rows
        self._gene_map = np.ascontiguousarray(gene_map, dtype=np.int64)
        self._tokenizer = tokenizer
        self._subset = subset
        self._by_length = by_length
        self._as_stored = np.array_equal(gene_map, np.arange(rows.shape[1])) and rows.is_plain

    def __len__(self) -> int:
        return self._rows.shape[0] if self._subset is None else len(self._subset)

    def __getitem__(self, request: Request) -> TokenBatch:
        asked = request.rows
        rows = asked if self._subset is None else self._subset[asked]
        matrix, positions = self._rows.select(rows)
        if self._by_length:
            order = longest_first(matrix, positions, None if self._as_stored else self._gene_map)
            asked, positions = asked[order], positions[order]
        if self._as_stored:
            stored = GeneRows(matrix.indptr, matrix.indices, matrix.data, None)
            batch = self._tokenizer.tokens(stored, positions, request.seed)
        else:
            batch = self._tokenizer(matrix, positions, self._gene_map, request.seed)
        return batch.at_cells(asked)
