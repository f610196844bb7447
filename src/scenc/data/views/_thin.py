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

from scenc.data.tokens import mix

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


@njit(cache=True, nogil=True)
def _thin(indptr, data, share, seed, rows, kept):  # type: ignore[no-untyped-def]
    """Write how many of each count stay."""
    for cell in range(len(rows)):
        state = mix(mix(seed) ^ rows[cell])
        p = share[cell]
        # A molecule stays if its 32 random bits are below this.
        below = np.uint64(p * 2.0**32)
        for j in range(indptr[cell], indptr[cell + 1]):
            count = int(np.rint(data[j]))
            if count > _MOST_DRAWN:
                # Two uniform numbers make a normal one (Box and Muller).
                state += _STEP
                first = mix(state)
                state += _STEP
                angle = 2 * np.pi * _unit(mix(state))
                normal = np.sqrt(-2 * np.log(1 - _unit(first))) * np.cos(angle)
                stay = np.rint(count * p + normal * np.sqrt(count * p * (1 - p)))
                kept[j] = min(max(stay, 0), count)
                continue
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
            kept[j] = stay
