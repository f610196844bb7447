"""Random draws that depend on a seed and a cell's content only (eq. 3).

Every gene of a cell gets a 29-bit key, hashed from the seed, the gene and a digest of the whole
cell. The genes with the smallest keys are drawn, and those with the smallest of these are masked;
of equal keys, which are rare, that of the smaller gene counts as smaller. The draws are therefore
uniform and without replacement, and they do not depend on the position of the cell, the cells
beside it, the order of its genes, the batch size or the number of workers. Training passes a new
seed at each visit.

    keys    0 ......... limit ............ end ......... 2^31
            masked      kept, not masked   left out

Nothing is sorted: both limits are found by counting the keys below a few guesses (`find_limit`).

Loops are written so that compilers turn most of them into vector instructions: numbers of 32 bits
where they suffice, no calls that are not inlined, no branches that chance decides. Numba makes 64
bits of what it adds up or shifts; where this is cast back at once, the compiler leaves it at 32.
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
_S2, _S3, _S15, _S16 = np.uint32(2), np.uint32(3), np.uint32(15), np.uint32(16)
# Keys are multiples of four, so that there is room between them for two limits, and below this.
END = 2**31 - 1
# From so many steps on, a search quarters what is left rather than guess.
_N_GUESSES = 8
# How far apart guesses are, in standard errors.
_ERRORS = 0.8


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
    """Write one uniform key per gene: a multiple of four below `END`."""
    base = mix(cell ^ mix(seed))
    # Each cell and seed puts the genes into an order of its own before they are scrambled.
    factor, start = np.uint32(base) | np.uint32(1), np.uint32(base >> _S32)
    for i in range(len(genes)):
        x = np.uint32(np.uint32(np.uint32(genes[i]) * factor) + start)
        x = np.uint32(np.uint32(x ^ np.uint32(x >> _S16)) * _K1)
        x = np.uint32(np.uint32(x ^ np.uint32(x >> _S15)) * _K2)
        x = np.uint32(x ^ np.uint32(x >> _S16))
        keys[i] = np.int32(np.uint32(np.uint32(x >> _S3) << _S2))


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
    limit = find_limit(tied, genes, k - n_above, 2)
    for i in range(len(keys)):
        keys[i] = keys[i] if levels[i] > least or tied[i] < limit else np.int32(END)


@njit(cache=True, nogil=True)
def _n_below(keys, first, second, third):  # type: ignore[no-untyped-def]
    """Count the keys below each of three numbers, in the time that it takes for one."""
    n = m = k = np.int32(0)
    for i in range(len(keys)):
        n = np.int32(n + np.int32(keys[i] < first))
        m = np.int32(m + np.int32(keys[i] < second))
        k = np.int32(k + np.int32(keys[i] < third))
    return n, m, k


@njit(cache=True, nogil=True)
def find_limit(keys, genes, k, by):  # type: ignore[no-untyped-def]  # numba infers the types
    """Find a number that exactly k keys are below.

    Keys that are spread evenly are found in a few guesses, all others by quartering.

    Parameters
    ----------
    keys
        Multiples of four, and `END` for what is out of reach. Where equal keys must be told apart,
        those of larger genes are made larger.
    genes
        The gene of each key.
    k
        How many are wanted, at most as many as are within reach.
    by
        How much larger they are made: 2, or 1 if another limit, of more keys, has been found.
    """
    # Of numbers four times as large, there are few enough below `low`, and enough below `high`.
    low, n_low, high = 0, 0, END // 4 + 1
    n_high = int(_n_below(keys, END, END, END)[0])
    if n_high <= k:
        return np.int32(END)
    n_steps = 0
    while high - low > 1:
        n_steps += 1
        n_left, width = n_high - n_low, high - low
        # Keys spread evenly are as many below here as are wanted, give or take this.
        share = (k - n_low) / n_left
        error = _ERRORS * np.sqrt(share * (1 - share) / n_left)
        if n_steps >= _N_GUESSES:
            share, error = 0.5, 0.25
        first = min(max(low + int(width * (share - error)), low + 1), high - 1)
        second = min(max(low + int(width * share), low + 1), high - 1)
        third = min(max(low + int(width * (share + error)), low + 1), high - 1)
        found = _n_below(keys, np.int32(4 * first), np.int32(4 * second), np.int32(4 * third))
        for guess, n in zip((first, second, third), found):  # noqa: B905  # numba has no strict
            if n == k:
                return np.int32(4 * guess)
            if n < k:
                low, n_low = guess, int(n)
            elif guess < high:
                high, n_high = guess, int(n)
    _tell_apart(keys, genes, np.int32(4 * low), k - n_low, np.int32(by))
    return np.int32(4 * low + by)


@njit(cache=True, nogil=True)
def _tell_apart(keys, genes, key, n_smaller, by):  # type: ignore[no-untyped-def]
    """Make some of the keys that equal one larger, those of the largest genes."""
    tied = np.flatnonzero(keys == key)
    for i in tied[np.argsort(genes[tied])][n_smaller:]:
        keys[i] += by


@njit(cache=True, nogil=True)
def place(  # type: ignore[no-untyped-def]
    keys, limit, end, n_first, genes, values, genes_out, values_out
):
    """Write what has keys below a limit, then all else below another, both in order.

    Parameters
    ----------
    keys
        The keys.
    limit, end
        Of what is written first, and of what is written at all.
    n_first
        How much is written first.
    genes, values
        Two numbers of each key.
    genes_out, values_out
        Where they are written, with room for one more.
    """
    n, n_others = np.int64(0), np.int64(n_first)
    for i in range(len(keys)):
        is_first, is_kept = np.int64(keys[i] < limit), np.int64(keys[i] < end)
        # What is beyond the end is written, too, and then written over.
        at = np.uint64(n_others + (n - n_others) * is_first)
        genes_out[at], values_out[at] = genes[i], values[i]
        n += is_first
        n_others += is_kept - is_first
