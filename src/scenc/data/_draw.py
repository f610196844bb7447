"""Random draws that depend on a seed and a cell's content only (eq. 3).

Every gene of a cell gets a 29-bit key, hashed from the seed, the gene and a digest of the whole
cell. The genes with the smallest keys are drawn, and those with the smallest of these are masked;
of equal keys, which are rare, the one of the smaller gene is the smaller. The draws are therefore
uniform and without replacement, and they are the same whatever the position of the cell, the cells
beside it, the order of its genes, the batch size or the number of workers. Training passes a new
seed at each visit.

Loops are written so that compilers turn most of them into vector instructions: numbers of 32 bits
where they suffice, no calls that are not inlined, no branches that chance decides.
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
# Constants of lowbias32, a hash of 32 bits (https://github.com/skeeto/hash-prospector).
_K1, _K2 = np.uint32(0x7FEB352D), np.uint32(0x846CA68B)
_S3, _S15, _S16 = np.uint32(3), np.uint32(15), np.uint32(16)
# Keys are even, so that there is room between them, and below this.
END = 2**30
# From so many steps on, a search halves what is left rather than guess.
_N_GUESSES = 12


@njit(cache=True, nogil=True, inline="always")
def mix(z: np.uint64) -> np.uint64:
    """Scramble 64 bits (the finaliser of SplitMix64; Steele, Lea and Flood 2014)."""
    z = z + _GOLDEN
    z = (z ^ (z >> _S30)) * _M1
    z = (z ^ (z >> _S27)) * _M2
    return z ^ (z >> _S31)


@njit(cache=True, nogil=True)
def digest(genes: NDArray[np.int32], counts: NDArray[np.float32]) -> np.uint64:
    """Hash a cell's (gene, count) pairs; a sum, so that their order does not matter."""
    bits = counts.view(np.uint32)
    total = np.uint64(0)
    for i in range(len(genes)):
        z = ((np.uint64(genes[i]) << _S32) | np.uint64(bits[i])) * _M1
        total += (z ^ (z >> _S32)) * _M2
    return total


@njit(cache=True, nogil=True)
def random_keys(
    genes: NDArray[np.int32], cell: np.uint64, seed: np.uint64, keys: NDArray[np.int32]
) -> None:
    """Write one uniform key per gene: an even number below `END`."""
    base = mix(cell ^ mix(seed))
    # Each cell and seed puts the genes into an order of its own before they are scrambled.
    factor, start = np.uint32(base) | np.uint32(1), np.uint32(base >> _S32)
    for i in range(len(genes)):
        x = np.uint32(np.uint32(genes[i]) * factor + start)
        x = np.uint32((x ^ (x >> _S16)) * _K1)
        x = np.uint32((x ^ (x >> _S15)) * _K2)
        x = x ^ (x >> _S16)
        keys[i] = np.int32(x >> _S3) << np.int32(1)


@njit(cache=True, nogil=True)
def keep_smallest(keys: NDArray[np.int32], genes: NDArray[np.int32], k: int) -> None:
    """Put all but the k smallest keys out of reach: they become `END`."""
    limit = find_limit(keys, genes, k)
    for i in range(len(keys)):
        keys[i] = keys[i] if keys[i] < limit else END


@njit(cache=True, nogil=True)
def keep_top(
    keys: NDArray[np.int32], genes: NDArray[np.int32], counts: NDArray[np.float32], k: int
) -> None:
    """Put the keys of all but the k highest counts out of reach; keys decide between equals."""
    # The bits of positive floats sort like the floats.
    levels = counts.view(np.int32)
    ordered = np.sort(levels)
    least = ordered[len(ordered) - k]
    n_above = len(ordered) - np.searchsorted(ordered, least, side="right")
    tied = np.where(levels == least, keys, np.int32(END))
    keep_smallest(tied, genes, k - n_above)
    for i in range(len(keys)):
        keys[i] = keys[i] if levels[i] > least else tied[i]


@njit(cache=True, nogil=True)
def _n_below(keys, limit):  # type: ignore[no-untyped-def]
    n = np.int32(0)
    for i in range(len(keys)):
        n += np.int32(keys[i] < limit)
    return n


@njit(cache=True, nogil=True)
def find_limit(keys, genes, k):  # type: ignore[no-untyped-def]  # numba infers the types
    """Find a number that exactly k keys are below.

    Keys that are spread evenly are found in a few guesses, all others by halving.

    Parameters
    ----------
    keys
        Even numbers, and `END` for what is out of reach. Where equal keys must be told apart, those
        of larger genes are made larger by one.
    genes
        The gene of each key.
    k
        How many are wanted, at most as many as are within reach.
    """
    # Of numbers twice as large, there are few enough below `low`, and enough below `high`.
    low, n_low, high = 0, 0, END // 2
    n_high = _n_below(keys, END)
    if n_high <= k:
        return np.int32(END)
    n_steps = 0
    while high - low > 1:
        n_steps += 1
        share = (k - n_low) / (n_high - n_low) if n_steps < _N_GUESSES else 0.5
        guess = min(max(low + int((high - low) * share), low + 1), high - 1)
        n = _n_below(keys, np.int32(2 * guess))
        if n == k:
            return np.int32(2 * guess)
        if n < k:
            low, n_low = guess, n
        else:
            high, n_high = guess, n
    _tell_apart(keys, genes, np.int32(2 * low), k - n_low)
    return np.int32(2 * low + 1)


@njit(cache=True, nogil=True)
def _tell_apart(keys, genes, key, n_smaller):  # type: ignore[no-untyped-def]
    """Make some of the keys that equal one larger by one, those of the largest genes."""
    tied = np.flatnonzero(keys == key)
    for i in tied[np.argsort(genes[tied])][n_smaller:]:
        keys[i] += np.int32(1)


@njit(cache=True, nogil=True)
def place(  # type: ignore[no-untyped-def]
    keys, limit, n_first, genes, values, genes_out, values_out
):
    """Write what has keys below a limit, then all else that is within reach, both in order.

    Parameters
    ----------
    keys
        The keys.
    limit
        Of what is written first.
    n_first
        How much that is.
    genes, values
        Two numbers of each key.
    genes_out, values_out
        Where they are written, with room for one more.
    """
    n = n_kept = np.int64(0)
    for i in range(len(keys)):
        is_first = np.int64(keys[i] < limit)
        # What is out of reach is written, too, and then written over.
        at = np.uint64(n if is_first else n_first + n_kept - n)
        genes_out[at], values_out[at] = genes[i], values[i]
        n += is_first
        n_kept += np.int64(keys[i] < END)
