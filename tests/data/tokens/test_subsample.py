from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from scenc.data.tokens._subsample import (
    END,
    digest,
    find_limit,
    keep_top,
    mix,
    place,
    random_keys,
)

GENES = np.array([7, 3, 11], np.int32)
COUNTS = np.array([1.0, 2.0, 5.0], np.float32)


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
    assert digest(GENES + np.array([0, 0, 1], np.int32), COUNTS) != digest(GENES, COUNTS)
    assert digest(GENES[:2], COUNTS[:2]) != digest(GENES, COUNTS)


def keys_of(genes, cell, seed):
    keys = np.zeros(len(genes), np.int32)
    random_keys(np.asarray(genes, np.int32), np.uint64(cell), np.uint64(seed), keys)
    return keys


def test_keys_differ_by_seed_cell_and_gene():
    def keys(cell, seed):
        return keys_of(GENES, cell, seed).tolist()

    assert keys(1, 1) == keys(1, 1)
    assert len({*keys(1, 1), *keys(1, 2), *keys(2, 1)}) == 9


def test_keys_are_multiples_of_four_that_are_spread_evenly():
    keys = keys_of(np.arange(60_000), 3, 4)
    assert not (keys % 4).any()
    assert stats.kstest(keys / END, "uniform").pvalue > 1e-3
    # Neither do genes beside each other, or cells, have keys that go together.
    assert abs(np.corrcoef(keys[1:], keys[:-1])[0, 1]) < 4 / np.sqrt(60_000)
    assert abs(np.corrcoef(keys, keys_of(np.arange(60_000), 4, 4))[0, 1]) < 4 / np.sqrt(60_000)


def test_orders_of_a_few_genes_are_equally_frequent():
    genes = np.array([0, 1, 2, 3], np.int32)
    seeds = range(24_000)
    ranks = np.argsort([keys_of(genes, 9, seed) for seed in seeds], axis=1) @ [64, 16, 4, 1]
    times = np.unique(ranks, return_counts=True)[1]
    assert len(times) == 24
    assert stats.chisquare(times).pvalue > 1e-3


def test_the_highest_counts_are_kept_and_keys_decide_between_equals():
    counts = np.array([1.0, 3.0, 3.0, 70_000.0, 0.5, 3.0], np.float32)
    genes = np.arange(6, dtype=np.int32)
    for k, kept in [(1, [3]), (2, [2, 3]), (3, [2, 3, 5]), (4, [1, 2, 3, 5]), (5, [0, 1, 2, 3, 5])]:
        keys = np.array([20, 36, 16, 180, 4, 24], np.int32)
        keep_top(keys, genes, counts, k)
        assert np.flatnonzero(keys < END).tolist() == kept


# Keys that are equal, that differ a little or only at the upper end, and that differ anywhere.
KEYS = st.one_of(
    st.lists(st.integers(0, 9), min_size=1, max_size=60),
    st.lists(st.integers(2**29 - 4, 2**29 - 1), min_size=1, max_size=60),
    st.lists(st.integers(0, 3).map(lambda x: x << 27), min_size=1, max_size=60),
    st.lists(st.integers(0, 2**29 - 1), min_size=1, max_size=400),
    st.integers(0, 2**32).map(
        lambda seed: np.random.default_rng(seed).integers(0, 2**29, 700).tolist()
    ),
)


@settings(max_examples=200)
@given(keys=KEYS, data=st.data())
def test_the_smallest_keys_are_drawn_and_the_smallest_of_these_come_first(keys, data):
    keys = 4 * np.array(keys, np.int32)
    genes = np.array(data.draw(st.permutations(range(len(keys)))), np.int32)
    k = data.draw(st.integers(1, len(keys)))
    n_first = data.draw(st.integers(1, k))
    # By key, and by gene where keys are equal.
    order = np.lexsort([genes, keys])
    drawn, first = order[:k], order[:n_first]

    end = find_limit(keys, genes, k, 2)
    assert np.flatnonzero(keys < end).tolist() == sorted(drawn)
    limit = find_limit(keys, genes, n_first, 1)
    assert np.flatnonzero(keys < limit).tolist() == sorted(first)
    assert np.flatnonzero(keys < end).tolist() == sorted(drawn)

    placed, values = np.full(len(keys) + 1, -1), np.full(len(keys) + 1, -1)
    place(keys, limit, end, n_first, np.arange(len(keys)), genes, placed, values)
    assert placed[:n_first].tolist() == sorted(first)
    assert placed[n_first:k].tolist() == sorted(set(drawn.tolist()) - set(first.tolist()))
    np.testing.assert_array_equal(values[:k], genes[placed[:k]])


def test_equal_keys_are_told_apart_for_both_limits():
    # Both fall among five equal keys, of which two are first, two more are drawn and one is not.
    keys = np.array([40, 8, 40, 40, 12, 40, 40], np.int32)
    genes = np.array([50, 60, 30, 10, 70, 20, 40], np.int32)
    end = find_limit(keys, genes, 6, 2)
    limit = find_limit(keys, genes, 4, 1)
    assert genes[keys < limit].tolist() == [60, 10, 70, 20]
    assert genes[keys < end].tolist() == [60, 30, 10, 70, 20, 40]
