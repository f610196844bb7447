"""The distinct counts of a cell, which are few: logarithms and bins are worked out once for each.

A *slot* stands for one distinct count. A small whole count is its own slot, so that a cell's
distinct counts are found, in ascending order, by marking slots and walking over them: no sort, no
hash table. Large and fractional counts are rare; each gets a slot behind these, by its position.
"""

from __future__ import annotations

import numpy as np
from numba import njit

# Counts below this share one slot a cell; larger or fractional ones get a slot of their own.
N_SLOTS = 1024
# Most counts of a cell are below this.
_N_SMALL = 16


@njit(cache=True, nogil=True)
def slots_of(counts, slots):  # type: ignore[no-untyped-def]
    """Write a slot for each count, and return how many there may be.

    Equal counts share one if they are whole and below `N_SLOTS`; others have one by their place.
    """
    largest = np.int32(0)
    for i in range(len(counts)):
        # Negative values and NaN must not become an index.
        slot = np.int32(counts[i]) if 0 <= counts[i] < N_SLOTS else np.int32(0)
        slots[i] = slot if np.float32(slot) == counts[i] else np.int32(N_SLOTS + i)
        largest = max(largest, slots[i])
    return largest + 1


@njit(cache=True, nogil=True)
def number_values(counts, n_slots, index, numbers, values, n):  # type: ignore[no-untyped-def]
    """Number a cell's distinct values from n on; return how many there are then.

    Parameters
    ----------
    counts
        The cell's counts.
    n_slots
        Number of slots that there may be.
    index
        Slots of the counts that are used, to be replaced by their numbers.
    numbers
        Room for the number of each slot; all zero, before and after.
    values
        Where the values are written.
    n
        The first number.
    """
    for i in range(len(index)):
        numbers[np.uint64(index[i])] = 1
    for slot in range(n_slots):
        if numbers[slot]:
            numbers[slot] = n
            values[n] = slot if slot < N_SLOTS else counts[slot - N_SLOTS]
            n += 1
    for i in range(len(index)):
        index[i] = numbers[np.uint64(index[i])]
    numbers[:n_slots] = 0
    return n


@njit(cache=True, nogil=True, fastmath={"reassoc"})
def log_sum(counts, slots, n_slots, scale):  # type: ignore[no-untyped-def]
    """Return the sum of log(1 + count * scale); most counts are small and worked out once."""
    small = np.zeros(_N_SMALL + 1, np.float64)
    for count in range(_N_SMALL):
        small[count] = np.log1p(count * scale)
    total = 0.0
    for i in range(len(slots)):
        total += small[np.uint32(min(slots[i], np.int32(_N_SMALL)))]
    if n_slots > _N_SMALL:
        for i in range(len(slots)):
            if slots[i] >= _N_SMALL:
                total += np.log1p(counts[i] * scale)
    return total


@njit(cache=True, nogil=True)
def quantile_edges(counts, n_bins):  # type: ignore[no-untyped-def]
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
