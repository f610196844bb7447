from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scenc.data._draw import digest, mix, move_smallest_first, random_keys, top_keys

GENES = np.array([7, 3, 11], np.int64)
COUNTS = np.array([1.0, 2.0, 5.0])


@pytest.mark.parametrize(
    ("state", "output"),
    # The first outputs of SplitMix64 seeded with 0.
    [(0, 0xE220A8397B1DCDAF), (0x9E3779B97F4A7C15, 0x6E789E6AA1B965F4)],
)
def test_mix_is_splitmix64(state, output):
    assert int(mix(np.uint64(state))) == output


def test_digest_sees_every_pair_but_not_their_order():
    order = [2, 0, 1]
    assert digest(GENES[order], COUNTS[order]) == digest(GENES, COUNTS)
    assert digest(GENES, COUNTS[order]) != digest(GENES, COUNTS)
    assert digest(GENES + np.array([0, 0, 1]), COUNTS) != digest(GENES, COUNTS)
    assert digest(GENES[:2], COUNTS[:2]) != digest(GENES, COUNTS)


def test_keys_differ_by_seed_cell_and_gene():
    def keys(cell, seed):
        out = np.zeros(3, np.uint64)
        random_keys(GENES, np.uint64(cell), np.uint64(seed), out)
        return out.tolist()

    assert keys(1, 1) == keys(1, 1)
    assert len({*keys(1, 1), *keys(1, 2), *keys(2, 1)}) == 9


def test_top_keys_sort_by_count_then_by_random_key():
    counts = np.array([1.0, 3.0, 3.0, 70_000.0, 0.5])
    keys = np.array([5, 9, 4, 9, 1], np.uint64) << np.uint64(40)
    top_keys(counts, keys)
    assert np.argsort(keys).tolist() == [3, 2, 1, 0, 4]


@settings(deadline=None, max_examples=100)
@given(keys=st.lists(st.integers(0, 9), min_size=1, max_size=40), data=st.data())
def test_selection_puts_the_smallest_keys_first_and_keeps_pairs_together(keys, data):
    k = data.draw(st.integers(1, len(keys)))
    keys = np.array(keys, np.uint64)
    genes = np.arange(len(keys))
    counts = genes * 2.0
    moved = keys.copy()

    move_smallest_first(moved, genes, counts, k)

    assert sorted(genes.tolist()) == list(range(len(keys)))
    np.testing.assert_array_equal(keys[genes], moved)
    np.testing.assert_array_equal(counts, genes * 2.0)
    np.testing.assert_array_equal(np.sort(moved[:k]), np.sort(keys)[:k])
