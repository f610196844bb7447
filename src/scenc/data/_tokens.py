from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np
import torch
from numba import njit

from scenc.data._batch import TokenBatch
from scenc.data._draw import digest, mix, move_smallest_first, random_keys, top_keys

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from scipy.sparse import csr_array, csr_matrix


class CsrArrays(Protocol):
    """Whatever holds the three arrays of a CSR matrix."""

    @property
    def indptr(self) -> NDArray[Any]:
        """Where rows begin."""

    @property
    def indices(self) -> NDArray[Any]:
        """Columns."""

    @property
    def data(self) -> NDArray[Any]:
        """Values."""


# Counts below this share one slot a cell; larger or fractional ones get a slot of their own.
_N_SLOTS = 1024
# What a column is that is no gene of the vocabulary: left out altogether, or counted for the depth.
UNKNOWN, COUNTED = -1, -2
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
        counts: csr_matrix | csr_array | CsrArrays,
        rows: NDArray[np.int64],
        gene_map: NDArray[np.int64],
        seed: int = 0,
        depths: NDArray[np.float64] | None = None,
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
        depths
            Depth of each cell, where `counts` lack some of its genes; shape ``(n_all,)``.
        """
        out: tuple[Any, ...] = _tokenize(
            counts.indptr,
            counts.indices,
            counts.data,
            rows,
            gene_map,
            np.iinfo(np.int64).max if self.context is None else self.context,
            float(self.target_sum),
            float(self.mask_fraction),
            self.quantile_bins,
            self.draw == "top",
            np.uint64(seed % 2**64),
            np.zeros(0) if depths is None else depths,
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
    rows,
    gene_map,
    context,
    target_sum,
    mask_fraction,
    n_bins,
    top,
    seed,
    given_depths,
):
    n_cells = len(rows)
    found, depths = _measure(indptr, indices, data, rows, gene_map)
    if len(given_depths):
        depths = given_depths[rows]
    lengths = np.minimum(found, context)
    width = max(1, lengths.max()) if n_cells else 1
    genes = np.zeros((n_cells, width), np.int64)
    value_index = np.zeros((n_cells, width), np.int64)
    n_masked = np.zeros(n_cells, np.int64)
    totals = np.zeros(n_cells, np.float64)

    # Slot 0 exists in any batch, so that padding has something to point to.
    n_values = 0
    room = max(1, lengths.sum())
    values = np.zeros(room, np.float64)
    normalized = np.zeros(room, np.float32)
    bins = np.zeros(room if n_bins else 1, np.int64)
    slots = np.zeros(_N_SLOTS, np.int64)
    slot_owner = np.full(_N_SLOTS, -1, np.int64)

    most = max(1, found.max()) if n_cells else 1
    cell_genes = np.empty(most, np.int64)
    cell_counts = np.empty(most, np.float64)
    keys = np.empty(most, np.uint64)

    for cell in range(n_cells):
        n = _gather(indptr, indices, data, rows[cell], gene_map, cell_genes, cell_counts)
        kept = lengths[cell]
        if n == 0:
            continue
        scale = target_sum / depths[cell]
        totals[cell] = _log_sum(cell_counts[:n], scale)
        edges = _quantile_edges(cell_counts[:n], n_bins)
        if mask_fraction > 0:
            n_masked[cell] = max(1, int(np.round(mask_fraction * kept)))
        if kept < n or n_masked[cell] > 0:
            content = digest(cell_genes[:n], cell_counts[:n])
            if kept < n:
                random_keys(cell_genes[:n], content, seed, keys)
                if top:
                    top_keys(cell_counts[:n], keys)
                move_smallest_first(keys[:n], cell_genes[:n], cell_counts[:n], kept)
            if 0 < n_masked[cell] < kept:
                random_keys(cell_genes[:kept], content, mix(seed), keys)
                move_smallest_first(
                    keys[:kept], cell_genes[:kept], cell_counts[:kept], n_masked[cell]
                )

        for i in range(kept):
            count = cell_counts[i]
            genes[cell, i] = cell_genes[i]
            small = count < _N_SLOTS and count == np.floor(count)
            slot = int(count) if small else 0
            if small and slot_owner[slot] == cell:
                value_index[cell, i] = slots[slot]
                continue
            if small:
                slot_owner[slot] = cell
                slots[slot] = n_values
            value_index[cell, i] = n_values
            values[n_values] = count
            normalized[n_values] = np.log1p(count * scale)
            if n_bins:
                bins[n_values] = 1 + np.searchsorted(edges, count)
            n_values += 1

    end = max(1, n_values)
    return (
        genes,
        value_index,
        normalized[:end],
        values[:end].astype(np.float32),
        bins[:end],
        lengths,
        n_masked,
        depths.astype(np.float32),
        totals.astype(np.float32),
    )


@njit(cache=True, nogil=True)
def _measure(indptr, indices, data, rows, gene_map):  # type: ignore[no-untyped-def]
    """Count each row's non-zero genes of the vocabulary, and sum what counts for its depth."""
    found = np.zeros(len(rows), np.int64)
    depths = np.zeros(len(rows), np.float64)
    for cell in range(len(rows)):
        for j in range(indptr[rows[cell]], indptr[rows[cell] + 1]):
            gene = gene_map[indices[j]]
            if gene != UNKNOWN:
                depths[cell] += data[j]
            if gene >= 0 and data[j] != 0:
                found[cell] += 1
    return found, depths


@njit(cache=True, nogil=True)
def _log_sum(counts, scale):  # type: ignore[no-untyped-def]
    """Return the sum of log(1 + count * scale); most counts are small and worked out once."""
    small = np.empty(_N_SMALL, np.float64)
    for count in range(_N_SMALL):
        small[count] = np.log1p(count * scale)
    total = 0.0
    for count in counts:
        whole = count < _N_SMALL and count == np.floor(count)
        total += small[int(count)] if whole else np.log1p(count * scale)
    return total


@njit(cache=True, nogil=True)
def _gather(indptr, indices, data, row, gene_map, genes, counts):  # type: ignore[no-untyped-def]
    """Copy one row's non-zero genes of the vocabulary into scratch space."""
    n = 0
    for j in range(indptr[row], indptr[row + 1]):
        gene = gene_map[indices[j]]
        if gene >= 0 and data[j] != 0:
            genes[n] = gene
            counts[n] = data[j]
            n += 1
    return n


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
