from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from numba import njit

from scenc.data._batch import TokenBatch
from scenc.data._draw import (
    digest,
    find_limit,
    hash_genes,
    keep_smallest,
    mix,
    random_keys,
    split_at,
    top_keys,
)
from scenc.data._gene_rows import Joined

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from scipy.sparse import csr_array, csr_matrix

    from scenc.data._gene_rows import GeneRows


# Counts below this share one slot a cell; larger or fractional ones get a slot of their own.
_N_SLOTS = 1024
# Most counts of a cell are below this.
_N_SMALL = 16
# A part of a batch has at least this many cells, and padding of at most about this share.
_MIN_PART, _SHRINK = 16, 0.8


@dataclass(frozen=True, slots=True)
class Tokenizer:
    """Turn rows of counts into token batches (eq. 1-3).

    Parameters
    ----------
    context
        Largest number of genes a cell keeps; ``None`` keeps all of them.
    target_sum
        c_norm of eq. 2: x~ = log(1 + x / sum(x) * target_sum), the sum over the cell's genes of the
        vocabulary, and those that count for the depth only.
    mask_fraction
        Share of a cell's tokens to mask. A cell with any token has at least one masked, unless the
        share is 0.
    quantile_bins
        Number of per-cell quantile bins to compute (eq. 14); 0 computes none.
    draw
        Which genes a cell with more than `context` keeps: a uniform draw (``"random"``) or the
        highest counts, ties broken at random (``"top"``).

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
            where the column counts for the depth nevertheless; shape ``(n_genes,)``.
        seed
            Seed of the draw and of the mask.

        Raises
        ------
        ValueError
            The matrix has columns without a place in `gene_map`.
        """
        room = int((counts.indptr[rows + 1] - counts.indptr[rows]).sum(dtype=np.int64))
        joined = Joined(len(rows), room, counts.data.dtype)
        if not joined.add(counts.indptr, counts.indices, counts.data, rows, gene_map):
            raise ValueError(f"Counts have columns beyond the {len(gene_map)} that there are.")
        made = self.tokens(joined.rows(), np.arange(len(rows)), seed)
        return made.at_cells(rows)

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
        out: tuple[Any, ...] = _tokenize(
            *counts,
            rows,
            np.iinfo(np.int64).max if self.context is None else self.context,
            float(self.target_sum),
            float(self.mask_fraction),
            self.quantile_bins,
            self.draw == "top",
            np.uint64(seed % 2**64),
        )
        genes, value_index, normalized, raw, bins, lengths, n_masked, depths, totals = out
        return TokenBatch(
            genes=torch.from_numpy(genes),
            value_index=torch.from_numpy(value_index),
            normalized=torch.from_numpy(normalized),
            counts=torch.from_numpy(raw),
            quantile_bins=torch.from_numpy(bins) if self.quantile_bins else None,
            lengths=torch.from_numpy(lengths),
            n_masked=torch.from_numpy(n_masked),
            cells=torch.from_numpy(np.ascontiguousarray(rows, dtype=np.int64)),
            depths=torch.from_numpy(depths),
            totals=torch.from_numpy(totals),
            is_padded=bool((lengths < genes.shape[1]).any()),
            max_masked=int(n_masked.max(initial=0)),
            parts=_parts(lengths),
        )


def _parts(lengths: NDArray[np.int64]) -> tuple[tuple[int, int, int], ...]:
    """Cut a batch where cells have become much shorter than the part they are in is wide."""
    parts: list[tuple[int, int, int]] = []
    start, width = 0, 1
    for cell, length in enumerate(lengths.tolist()):
        if cell - start >= _MIN_PART and length < _SHRINK * width:
            parts.append((start, cell, width))
            start, width = cell, 1
        width = max(width, length)
    return (*parts, (start, len(lengths), width))


@njit(cache=True, nogil=True)
def _tokenize(  # type: ignore[no-untyped-def]  # compiled: numba infers the types
    indptr,
    indices,
    data,
    depths,
    rows,
    context,
    target_sum,
    mask_fraction,
    n_bins,
    top,
    seed,
):
    n_cells = len(rows)
    found = indptr[rows + 1] - indptr[rows]
    lengths = np.minimum(found, context)
    width = max(1, lengths.max()) if n_cells else 1
    genes = np.empty((n_cells, width), np.int64)
    value_index = np.empty((n_cells, width), np.int64)
    n_masked = np.zeros(n_cells, np.int64)
    totals = np.zeros(n_cells, np.float32)

    # Value 0 exists in any batch, so that padding has something to point to.
    n_values = 0
    room = max(1, lengths.sum())
    values = np.empty(room, np.float64)
    values[0] = 0
    scales = np.empty(room, np.float64)
    bins = np.zeros(room if n_bins else 1, np.int64)
    slots = np.full(_N_SLOTS + 1, -1, np.int64)

    most = max(1, found.max()) if n_cells else 1
    cell_genes = np.empty(most, np.int64)
    cell_counts = np.empty(most, np.float64)
    cell_index = np.empty(most, np.int64)
    hashes = np.empty(most, np.uint64)
    keys = np.empty(most, np.uint64)
    scratch = np.empty(most, np.uint64)
    numbers = np.empty(256, np.int64)

    for cell in range(n_cells):
        n, kept = found[cell], lengths[cell]
        genes[cell, kept:] = 0
        value_index[cell, kept:] = 0
        if n == 0:
            continue
        start = indptr[rows[cell]]
        cell_genes[:n] = indices[start : start + n]
        cell_counts[:n] = data[start : start + n]
        scale = target_sum / depths[rows[cell]]
        totals[cell] = _log_sum(cell_counts[:n], scale)
        edges = _quantile_edges(cell_counts[:n], n_bins)
        if mask_fraction > 0:
            n_masked[cell] = max(1, int(np.round(mask_fraction * kept)))
        drawn = 0 < n_masked[cell] < kept
        if kept < n or drawn:
            hash_genes(cell_genes[:n], hashes)
            content = digest(hashes[:n], cell_counts[:n])
        if kept < n:
            random_keys(hashes[:n], content, seed, keys)
            if top:
                top_keys(cell_counts[:n], keys)
            limit, n_equal = find_limit(keys[:n], kept, scratch, numbers)
            keep_smallest(keys[:n], limit, n_equal, cell_genes, cell_counts, hashes)

        before = n_values
        n_values = _number_values(cell_counts[:kept], slots, cell_index, values, before)
        scales[before:n_values] = scale
        if n_bins:
            for i in range(before, n_values):
                bins[i] = 1 + np.searchsorted(edges, values[i])

        if drawn:
            random_keys(hashes[:kept], content, mix(seed), keys)
            limit, n_equal = find_limit(keys[:kept], n_masked[cell], scratch, numbers)
            split_at(
                keys[:kept], limit, n_equal, n_masked[cell],
                cell_genes, cell_index, genes[cell], value_index[cell],
            )  # fmt: skip
        else:
            genes[cell, :kept] = cell_genes[:kept]
            value_index[cell, :kept] = cell_index[:kept]

    end = max(1, n_values)
    normalized = np.zeros(end, np.float32)
    for i in range(n_values):
        normalized[i] = np.log1p(values[i] * scales[i])
    return (
        genes,
        value_index,
        normalized,
        values[:end].astype(np.float32),
        bins[:end].copy(),
        lengths,
        n_masked,
        depths[rows].astype(np.float32),
        totals,
    )


@njit(cache=True, nogil=True)
def _number_values(counts, slots, index, values, n):  # type: ignore[no-untyped-def]
    """Number a cell's distinct values from n on; return how many there are then.

    Parameters
    ----------
    counts
        The cell's counts.
    slots
        Room for the numbers of small counts, and one more; all -1, before and after.
    index
        Where the number of each count is written.
    values
        Where the values are written.
    n
        The first number.
    """
    n_others, largest = 0, 0
    for i in range(len(counts)):
        # What is no count must not become a place either.
        slot = int(counts[i]) if 0 <= counts[i] < _N_SLOTS else _N_SLOTS
        slot = slot if slot == counts[i] else _N_SLOTS
        index[i] = slot
        n_others += slot == _N_SLOTS
        largest = max(largest, slot if slot < _N_SLOTS else 0)
    for i in range(len(counts)):
        slots[np.uint64(index[i])] = 0
    for slot in range(largest + 1):
        if slots[slot] == 0:
            slots[slot], values[n] = n, slot
            n += 1
    if n_others:
        for i in range(len(counts)):
            if index[i] == _N_SLOTS:
                index[i], values[n] = n, counts[i]
                n += 1
            else:
                index[i] = slots[index[i]]
    else:
        for i in range(len(counts)):
            index[i] = slots[np.uint64(index[i])]
    slots[: largest + 1] = -1
    slots[_N_SLOTS] = -1
    return n


@njit(cache=True, nogil=True, fastmath={"reassoc"})
def _log_sum(counts, scale):  # type: ignore[no-untyped-def]
    """Return the sum of log(1 + count * scale); most counts are small and worked out once."""
    small = np.zeros(_N_SMALL + 1, np.float64)
    for count in range(_N_SMALL):
        small[count] = np.log1p(count * scale)
    total, n_others = 0.0, 0
    for i in range(len(counts)):
        slot = int(counts[i]) if 0 <= counts[i] < _N_SMALL else _N_SMALL
        slot = slot if slot == counts[i] else _N_SMALL
        n_others += slot == _N_SMALL
        total += small[np.uint64(slot)]
    if n_others:
        for count in counts:
            if not 0 <= count < _N_SMALL or count != np.floor(count):
                total += np.log1p(count * scale)
    return total


@njit(cache=True, nogil=True)
def _quantile_edges(counts, n_bins):  # type: ignore[no-untyped-def]
    """Return the n_bins - 1 inner quantiles of a cell's non-zero values (linear, as numpy's)."""
    edges = np.empty(max(0, n_bins - 1), np.float64)
    if n_bins < 2:
        return edges
    ordered = np.sort(counts)
    for k in range(1, n_bins):
        position = k / n_bins * (len(ordered) - 1)
        low = int(position)
        high = min(low + 1, len(ordered) - 1)
        edges[k - 1] = ordered[low] + (position - low) * (ordered[high] - ordered[low])
    return edges
