"""Cells as they would be if sequenced less deeply.

Each molecule that was counted stays with a probability of its cell: a count becomes a binomial
draw. Draws follow from a seed and a number of the cell alone, not from the cells beside it: a batch
that the ranks of distributed training share is the batch that one process sees.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import scipy.sparse as sp
from numba import njit

from scenc.data.tokens import COUNTED, GeneRows, mix

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from scenc.data.counts import Csr

_STEP = np.uint64(0x9E3779B97F4A7C15)
_S11, _S32, _LOW = np.uint64(11), np.uint64(32), np.uint64(0xFFFFFFFF)
# From here on a binomial is drawn as the normal it hardly differs from.
_MOST_DRAWN = 10_000


def uniforms(seed: int, rows: NDArray[np.int64], n: int) -> NDArray[np.float64]:
    """Return random numbers from 0 to below 1 for each row, shape ``(n_rows, n)``."""
    drawn: NDArray[np.float64] = _uniforms(np.uint64(seed), rows.astype(np.uint64), n)
    return drawn


def thin(counts: Csr, share: NDArray[np.float64], seed: int, rows: NDArray[np.int64]) -> Csr:
    """Keep each count with a probability of its cell: the cell as sequenced less deeply.

    Parameters
    ----------
    counts
        Whole numbers (others are rounded), cells x genes.
    share
        Probability of each cell's counts to stay, shape ``(n_cells,)``.
    seed
        Seed of the draws.
    rows
        Number of each cell, which the draws depend on too, shape ``(n_cells,)``.

    Returns
    -------
    Counts without stored zeros.

    Examples
    --------
    >>> import scipy.sparse as sp
    >>> counts = sp.csr_array(np.full((2, 1000), 10.0))
    >>> thinned = scenc.data.thin(counts, np.array([0.2, 1.0]), seed=0, rows=np.arange(2))
    >>> thinned.sum(axis=1) / counts.sum(axis=1)
    array([0.2027, 1.    ])
    """
    kept = np.empty_like(counts.data)
    _thin(counts.indptr, counts.data, share, np.uint64(seed), rows.astype(np.uint64), kept)
    thinned = sp.csr_array(
        (kept, counts.indices, counts.indptr),
        shape=counts.shape,
        copy=True,  # what follows works in place
    )
    thinned.eliminate_zeros()
    return thinned


def thin_known(
    counts: Csr,
    positions: NDArray[np.int64],
    gene_map: NDArray[np.int64],
    share: NDArray[np.float64],
    seed: int,
    rows: NDArray[np.int64],
) -> GeneRows:
    """Thin rows of counts to those of a vocabulary, in one pass and without a copy of the rows.

    The genes that are `COUNTED` only are drawn as one: a sum of binomial draws with the same
    probability is itself one. They are in the library sizes.

    Parameters
    ----------
    counts
        Whole numbers (others are rounded), cells x genes.
    positions
        Where in `counts` the cells are, shape ``(n_cells,)``.
    gene_map
        Vocabulary index of each column, `UNKNOWN` or `COUNTED`.
    share, seed, rows
        As in `thin`.

    Raises
    ------
    ValueError
        The matrix has columns without a place in `gene_map`.
    """
    room = int((counts.indptr[positions + 1] - counts.indptr[positions]).sum())
    genes, kept = np.empty(room, np.int32), np.empty(room, np.float32)
    indptr, library_sizes = np.zeros(len(positions) + 1, np.int64), np.empty(len(positions))
    good: bool = _thin_known(
        counts.indptr, counts.indices, counts.data, positions, gene_map,
        share, np.uint64(seed), rows.astype(np.uint64),
        genes, kept, indptr, library_sizes,
    )  # fmt: skip
    if not good:
        raise ValueError(f"Counts have columns beyond the {len(gene_map)} that there are.")
    n = indptr[-1]
    return GeneRows(indptr, genes[:n], kept[:n], library_sizes)


@njit(cache=True, nogil=True, inline="always")
def _unit(bits):  # type: ignore[no-untyped-def]
    """Turn 64 random bits into a number from 0 to below 1."""
    return (bits >> _S11) * 2.0**-53


@njit(cache=True, nogil=True)
def _uniforms(seed, rows, n):  # type: ignore[no-untyped-def]
    drawn = np.empty((len(rows), n), np.float64)
    for i in range(len(rows)):
        state = mix(mix(seed) ^ rows[i])
        for j in range(n):
            state += _STEP
            drawn[i, j] = _unit(mix(state))
    return drawn


@njit(cache=True, nogil=True, inline="always")
def _stay(count, p, state):  # type: ignore[no-untyped-def]
    """Draw how many of a count stay with probability p; return the state of the draws, too."""
    if count > _MOST_DRAWN:
        # Two uniform numbers make a normal one (Box and Muller).
        state += _STEP
        first = mix(state)
        state += _STEP
        angle = 2 * np.pi * _unit(mix(state))
        normal = np.sqrt(-2 * np.log(1 - _unit(first))) * np.cos(angle)
        drawn = np.rint(count * p + normal * np.sqrt(count * p * (1 - p)))
        return int(min(max(drawn, 0), count)), state
    # A molecule stays if its 32 random bits are below this.
    below = np.uint64(p * 2.0**32)
    stay = 0
    bits = np.uint64(0)
    for i in range(count):
        # Each 64 bits decide on two molecules.
        if i % 2 == 0:
            state += _STEP
            bits = mix(state)
        if (bits & _LOW) < below:
            stay += 1
        bits >>= _S32
    return stay, state


@njit(cache=True, nogil=True)
def _thin(indptr, data, share, seed, rows, kept):  # type: ignore[no-untyped-def]
    """Write how many of each count stay."""
    for cell in range(len(rows)):
        state = mix(mix(seed) ^ rows[cell])
        for j in range(indptr[cell], indptr[cell + 1]):
            kept[j], state = _stay(int(np.rint(data[j])), share[cell], state)


@njit(cache=True, nogil=True)
def _thin_known(  # type: ignore[no-untyped-def]
    indptr, indices, data, positions, gene_map, share, seed, rows,
    genes, kept, ends, library_sizes,
):  # fmt: skip
    """Write what stays of rows over a vocabulary; say whether all columns exist."""
    n = 0
    n_columns = np.uint64(len(gene_map))
    for cell in range(len(rows)):
        state = mix(mix(seed) ^ rows[cell])
        others, library_size = 0, 0
        for j in range(indptr[positions[cell]], indptr[positions[cell] + 1]):
            column = np.uint64(indices[j])
            if column >= n_columns:
                return False
            gene, count = gene_map[column], int(np.rint(data[j]))
            if gene >= 0:
                stay, state = _stay(count, share[cell], state)
                # Written also where nothing stays, and then written over.
                genes[n], kept[n] = gene, stay
                n += stay > 0
                library_size += stay
            elif gene == COUNTED:
                others += count
        stay, state = _stay(others, share[cell], state)
        library_sizes[cell] = library_size + stay
        ends[cell + 1] = n
    return True
