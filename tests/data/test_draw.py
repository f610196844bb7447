from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

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

GENES = np.array([7, 3, 11], np.int64)
COUNTS = np.array([1.0, 2.0, 5.0])


def hashed(genes):
    hashes = np.zeros(len(genes), np.uint64)
    hash_genes(np.asarray(genes), hashes)
    return hashes


@pytest.mark.parametrize(
    ("state", "output"),
    # The first outputs of SplitMix64 seeded with 0.
    [(0, 0xE220A8397B1DCDAF), (0x9E3779B97F4A7C15, 0x6E789E6AA1B965F4)],
)
def test_mix_is_splitmix64(state, output):
    assert int(mix(np.uint64(state))) == output


def test_digest_sees_every_pair_but_not_their_order():
    order = [2, 0, 1]
    assert digest(hashed(GENES[order]), COUNTS[order]) == digest(hashed(GENES), COUNTS)
    assert digest(hashed(GENES), COUNTS[order]) != digest(hashed(GENES), COUNTS)
    assert digest(hashed(GENES + np.array([0, 0, 1])), COUNTS) != digest(hashed(GENES), COUNTS)
    assert digest(hashed(GENES[:2]), COUNTS[:2]) != digest(hashed(GENES), COUNTS)


def test_keys_differ_by_seed_cell_and_gene():
    def keys(cell, seed):
        out = np.zeros(3, np.uint64)
        random_keys(hashed(GENES), np.uint64(cell), np.uint64(seed), out)
        return out.tolist()

    assert keys(1, 1) == keys(1, 1)
    assert len({*keys(1, 1), *keys(1, 2), *keys(2, 1)}) == 9


def test_top_keys_sort_by_count_then_by_random_key():
    counts = np.array([1.0, 3.0, 3.0, 70_000.0, 0.5])
    keys = np.array([5, 9, 4, 9, 1], np.uint64) << np.uint64(40)
    top_keys(counts, keys)
    assert np.argsort(keys).tolist() == [3, 2, 1, 0, 4]


def drawn(keys, k):
    """Which pairs have the k smallest keys; the first of those that are equal."""
    return sorted(np.argsort(keys, kind="stable")[:k].tolist())


# Keys that are equal, that differ in their last digits or their first, and that differ anywhere.
KEYS = st.one_of(
    st.lists(st.integers(0, 9), min_size=1, max_size=60),
    st.lists(st.integers(0, 3).map(lambda x: x << 62), min_size=1, max_size=60),
    st.lists(st.integers(0, 2**64 - 1), min_size=1, max_size=400),
    st.integers(0, 2**32).map(
        lambda seed: np.random.default_rng(seed).integers(0, 2**64, 700, np.uint64).tolist()
    ),
)


@settings(deadline=None, max_examples=150)
@given(keys=KEYS, data=st.data())
def test_the_smallest_keys_are_drawn_and_pairs_stay_together(keys, data):
    keys = np.array(keys, np.uint64)
    k = data.draw(st.integers(1, len(keys)))
    expected = drawn(keys, k)
    genes = np.arange(len(keys))
    scratch, numbers = np.empty(len(keys), np.uint64), np.empty(256, np.int64)

    limit, n_equal = find_limit(keys, k, scratch, numbers)

    limit = np.uint64(limit)
    assert limit == np.sort(keys)[k - 1]
    assert n_equal == k - (keys < limit).sum()
    kept, counts, hashes = genes.copy(), genes * 2.0, keys.copy()
    keep_smallest(keys, limit, n_equal, kept, counts, hashes)
    assert kept[:k].tolist() == expected
    np.testing.assert_array_equal(counts[:k], kept[:k] * 2.0)
    np.testing.assert_array_equal(hashes[:k], keys[kept[:k]])
    first, second = np.full(len(keys), -1), np.full(len(keys), -1)
    split_at(keys, limit, n_equal, k, genes, genes * 3, first, second)
    assert first[:k].tolist() == expected
    assert first[k:].tolist() == sorted(set(genes.tolist()) - set(expected))
    np.testing.assert_array_equal(second, first * 3)
