from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from numba import njit

from scenc.data.tokens._batch import LengthBucket, TokenBatch
from scenc.data.tokens._csr import add, as_type, copy, copy_known
from scenc.data.tokens._distinct import N_SLOTS, log_sum, number_values, quantile_edges, slots_of
from scenc.data.tokens._subsample import END, digest, find_limit, keep_top, place, random_keys

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from scipy.sparse import csr_array, csr_matrix

    from scenc.data.tokens._csr import GeneRows


# What the shares of a cell's logged counts add up to, as in STATE.
_SHARES_SUM = 100.0
# Most cells have no more distinct counts than this.
_FEW_VALUES = 32
# A bucket has at least this many cells, and ends where cells are shorter than this share of it or
# where it has this many tokens.
_MIN_BUCKET, _SHRINK, _MOST_TOKENS = 16, 0.8, 2**14


@dataclass(frozen=True, slots=True)
class Tokenizer:
    """Turn rows of counts into token batches (eq. 1-3).

    Parameters
    ----------
    context
        Largest number of genes a cell keeps; ``None`` keeps all of them.
    target_sum
        c_norm of eq. 2: x~ = log(1 + x / library size * target_sum). The library size is the sum of
        the cell's counts of genes of the vocabulary, and of those that are `COUNTED`.
    mask_fraction
        Share of a cell's tokens to mask. A cell with any token has at least one masked, unless the
        share is 0.
    quantile_bins
        Number of per-cell quantile bins to compute (eq. 14); 0 computes none.
    draw
        Which genes a cell with more than `context` keeps: a uniform draw (``"random"``) or the
        highest counts, ties broken at random (``"top"``).
    totals
        Whether to sum up each cell's x~, needed by ``pooling="expression"``.
    log_shares
        Whether to compute each value's share of its cell's logged counts, needed by
        ``expression_input="log_share"``.

    Examples
    --------
    >>> import numpy as np, scipy.sparse as sp
    >>> counts = sp.csr_matrix(np.array([[1, 0, 3], [0, 2, 0]], dtype="float32"))
    >>> batch = Tokenizer(target_sum=4)(counts, rows=np.array([0, 1]), gene_map=np.arange(3))
    >>> batch.genes.tolist(), batch.lengths.tolist()
    ([[0, 2], [1, 0]], [2, 1])
    """

    context: int | None = None
    target_sum: float = 1e4
    mask_fraction: float = 0.0
    quantile_bins: int = 0
    draw: Literal["random", "top"] = "random"
    totals: bool = False
    log_shares: bool = False

    def __post_init__(self) -> None:
        if self.context is not None and self.context < 1:
            raise ValueError(f"context must be at least 1 (or None), got {self.context}.")
        if not 0 <= self.mask_fraction <= 1:
            raise ValueError(f"mask_fraction must lie in [0, 1], got {self.mask_fraction}.")
        if not self.target_sum > 0:
            raise ValueError(f"target_sum must be positive, got {self.target_sum}.")
        if self.draw not in ("random", "top"):
            raise ValueError(f"draw must be 'random' or 'top', got {self.draw!r}.")

    def __call__(
        self,
        counts: csr_matrix | csr_array,
        rows: NDArray[np.int64],
        gene_map: NDArray[np.int64],
        seed: int = 0,
    ) -> TokenBatch:
        """Tokenise rows of a sparse matrix.

        Parameters
        ----------
        counts
            Raw counts, cells x genes.
        rows
            Rows to read, shape ``(n_cells,)``.
        gene_map
            Vocabulary index of each column, `UNKNOWN` where the vocabulary lacks it, `COUNTED`
            where the column counts in the library size nevertheless; shape ``(n_genes,)``.
        seed
            Seed of the draw and of the mask.

        Raises
        ------
        ValueError
            The matrix has columns without a place in `gene_map`.
        IndexError
            It does not have the rows.
        """
        arrays = counts.indptr, counts.indices, counts.data
        made = self._make(*arrays, np.zeros(0), gene_map, False, rows, seed)
        if made is None:
            raise ValueError(f"Counts have columns beyond the {len(gene_map)} that there are.")
        return made

    def tokens(self, counts: GeneRows, rows: NDArray[np.int64], seed: int = 0) -> TokenBatch:
        """Tokenise rows that are over the vocabulary already.

        Parameters
        ----------
        counts
            Raw counts, cells x vocabulary.
        rows
            Rows to read, shape ``(n_cells,)``.
        seed
            Seed of the draw and of the mask.
        """
        sizes = np.zeros(0) if counts.library_sizes is None else counts.library_sizes
        made = self._make(*counts[:3], sizes, np.zeros(0, np.int64), True, rows, seed)
        assert made is not None
        return made

    def _make(
        self,
        indptr: NDArray[Any],
        indices: NDArray[Any],
        data: NDArray[Any],
        library_sizes: NDArray[np.float64],
        gene_map: NDArray[np.int64],
        as_stored: bool,
        rows: NDArray[np.int64],
        seed: int,
    ) -> TokenBatch | None:
        """Make a batch; ``None`` if `gene_map` does not have all columns."""
        # Compiled code would read whatever stands there.
        if len(rows) and not 0 <= rows.min() <= rows.max() < len(indptr) - 1:
            raise IndexError(f"There are rows from 0 to {len(indptr) - 2} only.")
        out: tuple[Any, ...] = _tokenize(
            indptr,
            indices,
            data,
            library_sizes,
            gene_map,
            as_stored,
            rows,
            np.iinfo(np.int64).max if self.context is None else self.context,
            float(self.target_sum),
            float(self.mask_fraction),
            self.quantile_bins,
            self.draw == "top",
            self.totals,
            self.log_shares,
            np.uint64(seed % 2**64),
        )
        good, genes, value_index, normalized, raw, bins, shares, lengths, n_masked, *of_cells = out
        if not good:
            return None
        totals, sizes = of_cells
        return TokenBatch(
            genes=torch.from_numpy(genes),
            value_index=torch.from_numpy(value_index),
            normalized=torch.from_numpy(normalized),
            counts=torch.from_numpy(raw),
            quantile_bins=torch.from_numpy(bins) if self.quantile_bins else None,
            log_shares=torch.from_numpy(shares) if self.log_shares else None,
            lengths=torch.from_numpy(lengths),
            n_masked=torch.from_numpy(n_masked),
            library_sizes=torch.from_numpy(sizes),
            cells=torch.from_numpy(np.ascontiguousarray(rows, dtype=np.int64)),
            totals=torch.from_numpy(totals) if self.totals else None,
            max_masked=int(n_masked.max(initial=0)),
            n_valid=int(lengths.sum()),
            length_buckets=_length_buckets(lengths),
        )


def _length_buckets(lengths: NDArray[np.int64]) -> tuple[LengthBucket, ...]:
    """Cut a batch where cells have become much shorter than the widest of their bucket.

    It is cut as well where a bucket is as large as a CPU's caches like; a GPU gets several as one
    (`TokenBatch.to`).
    """
    buckets: list[LengthBucket] = []
    start, width, shortest = 0, 1, np.iinfo(np.int64).max
    for cell, length in enumerate(lengths.tolist()):
        n = cell - start
        if n >= _MIN_BUCKET and (length < _SHRINK * width or n * width >= _MOST_TOKENS):
            buckets.append(LengthBucket(start, cell, width, shortest < width))
            start, width, shortest = cell, 1, length
        width, shortest = max(width, length), min(shortest, length)
    return (*buckets, LengthBucket(start, len(lengths), width, shortest < width))


@njit(cache=True, nogil=True)
def _tokenize(  # type: ignore[no-untyped-def]  # compiled: numba infers the types
    indptr,
    indices,
    data,
    library_sizes,
    gene_map,
    as_stored,
    rows,
    context,
    target_sum,
    mask_fraction,
    n_bins,
    top,
    with_totals,
    with_shares,
    seed,
):
    """Make tokens of rows; whether all columns exist, and the arrays of a `TokenBatch`.

    One cell on its way, with a context of three genes of which one is masked. Column 9 is a gene
    that is `COUNTED` only, so that it adds to the library size and becomes no token:

        columns      3    8    9   12   20     a row as it is stored
        counts       4    2    1    2    1
        genes        5   71    .   40   12     gene_map                   library size 10
        keys       612   80    .  344  790     random_keys                the smallest are drawn
        genes            71 |   5   40         place                      masked | shown
        slots             2 |   4    2         a slot for each distinct count of the cell
        value_index       7 |   8    7         numbers in the batch: 7 values were there before

        values            2    4               at 7 and 8
        normalized        log(1 + values / 10 * target_sum)

    Logarithms, bins and vectors of values are worked out for a cell's few distinct counts and not
    for its hundreds of tokens. All cells are done in one compiled loop over arrays that are
    allocated once: to make tokens must not take longer than to train on them.
    """
    n_cells = len(rows)
    most = np.int64(1)
    for row in rows:
        most = max(most, np.int64(indptr[row + 1] - indptr[row]))
    # Rows may hold zeros and unknown genes: then the batch is cut to its width at the end.
    room = min(most, np.int64(context))
    # One array and not two: a block of this size is kept by malloc for the next batch, where taking
    # smaller ones from the system anew takes as long as all else.
    n_tokens = n_cells * room + 1
    tokens = np.empty(2 * n_tokens, np.int32)
    genes, value_index = tokens[:n_tokens], tokens[n_tokens:]
    lengths = np.zeros(n_cells, np.int64)
    n_masked = np.zeros(n_cells, np.int64)
    totals = np.zeros(n_cells, np.float32)
    sizes = np.zeros(n_cells, np.float32)

    # Value 0 exists in any batch, so that padding has something to point to.
    n_values = 0
    values = np.zeros(most + _FEW_VALUES * n_cells, np.float32)
    scales = np.zeros(len(values), np.float64)
    bins = np.zeros(len(values) if n_bins else 1, np.int64)
    shares = np.zeros(len(values) if with_shares else 1, np.float32)

    # Room for one cell at a time.
    cell_genes = np.empty(most, np.int32)
    cell_counts = np.empty(most, np.float32)
    keys = np.empty(most, np.int32)
    slots = np.empty(most, np.int32)
    numbers = np.zeros(N_SLOTS + most, np.int64)

    good = True
    for cell in range(n_cells):
        start, stop = indptr[rows[cell]], indptr[rows[cell] + 1]
        if as_stored:
            n = stop - start
            row_genes = as_type(indices[start:stop], cell_genes)
            row_counts = as_type(data[start:stop], cell_counts)
            size = library_sizes[rows[cell]] if len(library_sizes) else add(row_counts)
        else:
            n, size = copy_known(
                indices[start:stop], data[start:stop], gene_map, cell_genes, cell_counts
            )
            if n < 0:
                good = False
                break
            row_genes, row_counts = cell_genes[:n], cell_counts[:n]
        kept = min(n, context)
        lengths[cell] = kept
        begin, end = cell * room, (cell + 1) * room
        genes[begin + kept : end] = 0
        value_index[begin + kept : end] = 0
        # An empty cell has no scale and no quantiles; it keeps a row of padding.
        if n == 0:
            continue
        row_keys = keys[:n]
        n_slots = slots_of(row_counts, slots)
        sizes[cell] = size
        scale = target_sum / size
        if with_totals:
            totals[cell] = log_sum(row_counts, slots[:n], n_slots, scale)
        # Of all genes of the cell, also of those that are not drawn: what a count means in its cell
        # must not change with the draw.
        edges = quantile_edges(row_counts, n_bins)
        if mask_fraction > 0:
            n_masked[cell] = max(1, int(np.round(mask_fraction * kept)))

        # The genes with the smallest keys are kept, those with the smallest of these are masked and
        # stand first. Where nothing is to be chosen, genes stay in the order of the row.
        drawn = 0 < n_masked[cell] < kept
        if kept < n or drawn:
            random_keys(row_genes, digest(row_genes, row_counts), seed, row_keys)
            if kept < n and top:
                keep_top(row_keys, row_genes, row_counts, kept)
            last = find_limit(row_keys, row_genes, kept, 2) if kept < n else np.int32(END)
            n_first = n_masked[cell] if drawn else 0
            limit = find_limit(row_keys, row_genes, n_first, 1) if drawn else np.int32(0)
            place(
                row_keys, limit, last, n_first, row_genes, slots,
                genes[begin : end + 1], value_index[begin : end + 1],
            )  # fmt: skip
        else:
            copy(row_genes, genes[begin:])
            copy(slots[:n], value_index[begin:])

        if n_values + n > len(values):
            values, scales = _doubled(values), _doubled(scales)
            bins = _doubled(bins) if n_bins else bins
            shares = _doubled(shares) if with_shares else shares
        # So far tokens hold slots; they get the positions of their values in the batch.
        before = n_values
        n_values = number_values(
            row_counts, n_slots, value_index[begin : begin + kept], numbers, values, before
        )
        scales[before:n_values] = scale
        if n_bins:
            for i in range(before, n_values):
                bins[i] = 1 + np.searchsorted(edges, np.float64(values[i]))
        if with_shares:
            logged = log_sum(row_counts, slots[:n], n_slots, 1.0)
            for i in range(before, n_values):
                shares[i] = _SHARES_SUM * np.log1p(np.float64(values[i])) / logged

    width = max(np.int64(1), lengths.max()) if n_cells else np.int64(1)
    genes = _cut(genes, n_cells, room, width)
    value_index = _cut(value_index, n_cells, room, width)
    n_values = max(1, n_values)
    normalized = np.empty(n_values, np.float32)
    for i in range(n_values):
        normalized[i] = np.log1p(values[i] * scales[i])
    return (
        good,
        genes,
        value_index,
        normalized,
        values[:n_values].copy(),
        bins[:n_values].copy(),
        shares[:n_values].copy(),
        lengths,
        n_masked,
        totals,
        sizes,
    )


@njit(cache=True, nogil=True)
def _doubled(array):  # type: ignore[no-untyped-def]
    return np.concatenate((array, np.zeros_like(array)))


@njit(cache=True, nogil=True)
def _cut(flat, n_rows, room, width):  # type: ignore[no-untyped-def]
    """Return rows of a flat array, cut to a width."""
    rows = flat[: n_rows * room].reshape(n_rows, room)
    return rows if width == room else rows[:, :width].copy()
