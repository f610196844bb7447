"""Random draws that depend on a seed and a cell's content only (eq. 3).

Every pair of a cell gets a 64-bit key, hashed from the seed, the gene and a digest of the whole
cell; the pairs with the smallest keys are drawn. The draw is therefore uniform and without
replacement, and it is the same whatever the position of the cell, the cells beside it, the order of
its genes, the batch size or the number of workers. Training passes a new seed at each visit.

Loops are written so that compilers turn most of them into vector instructions: no calls that are
not inlined, no branches that chance decides.
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
# Keys are told apart by so many bits at a time, the upper ones first; so few are simply sorted.
_DIGIT, _TOP = np.uint64(8), np.uint64(56)
_N_DIGITS, _FEW = 256, 24


@njit(cache=True, nogil=True, inline="always")
def mix(z: np.uint64) -> np.uint64:
    """Scramble 64 bits (the finaliser of SplitMix64; Steele, Lea and Flood 2014)."""
    z = z + _GOLDEN
    z = (z ^ (z >> _S30)) * _M1
    z = (z ^ (z >> _S27)) * _M2
    return z ^ (z >> _S31)


@njit(cache=True, nogil=True)
def hash_genes(genes: NDArray[np.int64], hashes: NDArray[np.uint64]) -> None:
    """Write one number per gene that its digests and keys are made of."""
    for i in range(len(genes)):
        hashes[i] = mix(np.uint64(genes[i]))


@njit(cache=True, nogil=True)
def digest(hashes: NDArray[np.uint64], counts: NDArray[np.float64]) -> np.uint64:
    """Hash a cell's (gene, count) pairs; a sum, so that their order does not matter."""
    bits = counts.view(np.uint64)
    total = np.uint64(0)
    for i in range(len(hashes)):
        total += mix(hashes[i] ^ bits[i])
    return total


@njit(cache=True, nogil=True)
def random_keys(
    hashes: NDArray[np.uint64], cell: np.uint64, seed: np.uint64, keys: NDArray[np.uint64]
) -> None:
    """Write one uniform key per pair."""
    base = mix(cell ^ mix(seed))
    for i in range(len(hashes)):
        keys[i] = mix(base ^ hashes[i])


@njit(cache=True, nogil=True)
def top_keys(counts: NDArray[np.float64], keys: NDArray[np.uint64]) -> None:
    """Turn random keys into keys that put higher counts first and break ties at random.

    The bits of positive floats sort like the floats: their upper half, inverted, leads the key.
    """
    bits = counts.view(np.uint64)
    for i in range(len(counts)):
        keys[i] = ((~bits[i] >> _S32) << _S32) | (keys[i] >> _S32)


@njit(cache=True, nogil=True)
def find_limit(
    keys: NDArray[np.uint64], k: int, scratch: NDArray[np.uint64], numbers: NDArray[np.int64]
) -> tuple[np.uint64, int]:
    """Find the k-th smallest key (radix selection).

    Parameters
    ----------
    keys
        The keys, at least k.
    k
        Which is wanted, from 1 on.
    scratch
        Room for as many keys.
    numbers
        Room for 256 numbers.

    Returns
    -------
    The key, and how many of the k smallest are equal to it.
    """
    n, shift = len(keys), _TOP
    scratch[:n] = keys
    while n > _FEW:
        numbers[:] = 0
        for i in range(n):
            numbers[(scratch[i] >> shift) & np.uint64(_N_DIGITS - 1)] += 1
        digit = np.uint64(0)
        while numbers[digit] < k:
            k -= numbers[digit]
            digit += np.uint64(1)
        n_same = 0
        for i in range(n):
            key = scratch[i]
            scratch[n_same] = key
            n_same += (key >> shift) & np.uint64(_N_DIGITS - 1) == digit
        n = n_same
        if shift == np.uint64(0):
            # All that are left are equal.
            return scratch[0], k
        shift -= _DIGIT
    few = scratch[:n]
    for i in range(1, n):
        key, j = few[i], i
        while j > 0 and few[j - 1] > key:
            few[j] = few[j - 1]
            j -= 1
        few[j] = key
    limit = few[k - 1]
    n_equal = 0
    while n_equal < k and few[k - 1 - n_equal] == limit:
        n_equal += 1
    return limit, n_equal


@njit(cache=True, nogil=True)
def keep_smallest(
    keys: NDArray[np.uint64],
    limit: np.uint64,
    n_equal: int,
    genes: NDArray[np.int64],
    counts: NDArray[np.float64],
    hashes: NDArray[np.uint64],
) -> None:
    """Move pairs with keys below a limit to the front, and so many of those at it, in order."""
    n = 0
    for i in range(len(keys)):
        genes[n], counts[n], hashes[n] = genes[i], counts[i], hashes[i]
        kept = keys[i] < limit
        if keys[i] == limit and n_equal > 0:
            kept = True
            n_equal -= 1
        n += kept


@njit(cache=True, nogil=True)
def split_at(  # type: ignore[no-untyped-def]  # many arrays
    keys, limit, n_equal, n_first, genes, index, genes_out, index_out
):
    """Write pairs with keys below a limit, and so many of those at it, before the others.

    Parameters
    ----------
    keys, limit, n_equal
        As in `keep_smallest`.
    n_first
        How many pairs these are.
    genes, index
        Two numbers of each pair.
    genes_out, index_out
        Where they are written.
    """
    first, other = 0, n_first
    for i in range(len(keys)):
        chosen = keys[i] < limit
        if keys[i] == limit and n_equal > 0:
            chosen = True
            n_equal -= 1
        place = np.uint64(first if chosen else other)
        genes_out[place], index_out[place] = genes[i], index[i]
        first += chosen
        other += not chosen
