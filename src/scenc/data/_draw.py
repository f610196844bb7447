"""Random draws that depend on a seed and a cell's content only (eq. 3).

Every pair of a cell gets a 64-bit key, hashed from the seed, the gene and a digest of the whole
cell; the pairs with the smallest keys are drawn. The draw is therefore uniform and without
replacement, and it is the same whatever the position of the cell, the cells beside it, the order of
its genes, the batch size or the number of workers. Training passes a new seed at each visit.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numba import njit

if TYPE_CHECKING:
    from numpy.typing import NDArray

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_M1 = np.uint64(0xBF58476D1CE4E5B9)
_M2 = np.uint64(0x94D049BB133111EB)
_S27, _S30, _S31, _S32 = np.uint64(27), np.uint64(30), np.uint64(31), np.uint64(32)


@njit(cache=True, nogil=True, inline="always")
def mix(z: np.uint64) -> np.uint64:
    """Scramble 64 bits (the finaliser of SplitMix64; Steele, Lea and Flood 2014)."""
    z = z + _GOLDEN
    z = (z ^ (z >> _S30)) * _M1
    z = (z ^ (z >> _S27)) * _M2
    return z ^ (z >> _S31)


@njit(cache=True, nogil=True)
def digest(genes: NDArray[np.int64], counts: NDArray[np.float64]) -> np.uint64:
    """Hash a cell's (gene, count) pairs; a sum, so that their order does not matter."""
    bits = counts.view(np.uint64)
    total = np.uint64(0)
    for i in range(len(genes)):
        total += mix(mix(np.uint64(genes[i])) ^ bits[i])
    return total


@njit(cache=True, nogil=True)
def random_keys(
    genes: NDArray[np.int64], cell: np.uint64, seed: np.uint64, keys: NDArray[np.uint64]
) -> None:
    """Write one uniform key per pair."""
    base = mix(cell ^ mix(seed))
    for i in range(len(genes)):
        keys[i] = mix(base ^ mix(np.uint64(genes[i])))


@njit(cache=True, nogil=True)
def top_keys(counts: NDArray[np.float64], keys: NDArray[np.uint64]) -> None:
    """Turn random keys into keys that put higher counts first and break ties at random.

    The bits of positive floats sort like the floats: their upper half, inverted, leads the key.
    """
    bits = counts.view(np.uint64)
    for i in range(len(counts)):
        keys[i] = ((~bits[i] >> _S32) << _S32) | (keys[i] >> _S32)


@njit(cache=True, nogil=True)
def move_smallest_first(
    keys: NDArray[np.uint64], genes: NDArray[np.int64], counts: NDArray[np.float64], k: int
) -> None:
    """Reorder pairs in place until the k smallest keys stand first (quickselect, Hoare)."""
    lo, hi = 0, len(keys) - 1
    while lo < hi:
        pivot = keys[(lo + hi) // 2]
        i, j = lo, hi
        while i <= j:
            while keys[i] < pivot:
                i += 1
            while keys[j] > pivot:
                j -= 1
            if i <= j:
                keys[i], keys[j] = keys[j], keys[i]
                genes[i], genes[j] = genes[j], genes[i]
                counts[i], counts[j] = counts[j], counts[i]
                i += 1
                j -= 1
        if k - 1 <= j:
            hi = j
        elif k - 1 >= i:
            lo = i
        else:
            return
