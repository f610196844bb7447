from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scenc.data import OrderedRequests, ShuffledRequests

ROWS = np.arange(100, 203)


def rows_of(requests):
    return [request.rows for request in requests]


def test_an_epoch_visits_every_row_once_in_full_batches():
    batches = rows_of(ShuffledRequests(ROWS, 10))
    assert len(batches) == len(ShuffledRequests(ROWS, 10)) == 11
    assert {len(batch) for batch in batches} == {9, 10}
    assert sorted(np.concatenate(batches)) == ROWS.tolist()


def test_epochs_differ_and_are_repeatable():
    requests = ShuffledRequests(ROWS, 10, seed=5)
    first, second = list(requests), list(requests)
    assert requests.epoch == 2
    again = list(ShuffledRequests(ROWS, 10, seed=5, epoch=1))
    other = list(ShuffledRequests(ROWS, 10, seed=6, epoch=1))
    np.testing.assert_array_equal(np.concatenate(rows_of(second)), np.concatenate(rows_of(again)))
    assert [r.seed for r in second] == [r.seed for r in again]
    for different in (first, other):
        assert rows_of(different)[0].tolist() != rows_of(second)[0].tolist()
        assert not {r.seed for r in different} & {r.seed for r in second}


def test_every_batch_has_draws_of_its_own():
    seeds = [request.seed for request in ShuffledRequests(ROWS, 10)]
    assert len(set(seeds)) == len(seeds)


@pytest.mark.parametrize("world_size", [2, 3])
def test_ranks_share_the_same_global_batches(as_rank, world_size):
    def epoch_of(rank):
        as_rank(rank, world_size)
        requests = ShuffledRequests(ROWS, 10, seed=1)
        batches = list(requests)
        assert len(batches) == len(requests)
        return batches

    ranks = [epoch_of(rank) for rank in range(world_size)]
    as_rank(0, 1)
    whole = list(ShuffledRequests(ROWS, 10 * world_size, seed=1))

    assert {len(batches) for batches in ranks} == {len(whole)}
    for together, *parts in zip(whole, *ranks, strict=True):
        assert {part.seed for part in parts} == {together.seed}
        assert len({len(part.rows) for part in parts}) == 1
        shared = np.concatenate([part.rows for part in parts])
        assert set(shared) == set(together.rows)
        assert len(shared) - len(together.rows) < world_size


@settings(max_examples=60)
@given(
    n=st.integers(0, 60),
    batch_size=st.integers(1, 9),
    window=st.integers(1, 4),
    lengths=st.randoms(use_true_random=False),
)
def test_ordered_requests_visit_every_row_once(n, batch_size, window, lengths):
    rows = np.arange(n) * 3
    known = np.array([lengths.randint(0, 5) for _ in range(n)], np.int64)
    requests = OrderedRequests(rows, batch_size, seed=7, lengths=known, window=window)
    batches = list(requests)
    assert len(batches) == len(requests) == -(-n // batch_size)
    assert all(len(batch.rows) <= batch_size for batch in batches)
    assert {batch.seed for batch in batches} <= {7}
    assert sorted(np.concatenate([[], *rows_of(batches)])) == rows.tolist()


def test_cells_of_like_length_share_a_batch_within_a_window():
    lengths = np.array([1, 9, 2, 8, 3, 7, 5, 5])
    requests = OrderedRequests(np.arange(8), 2, lengths=lengths, window=2)
    assert [batch.tolist() for batch in rows_of(requests)] == [[1, 3], [2, 0], [5, 6], [7, 4]]


def test_without_lengths_the_order_stays():
    assert [b.tolist() for b in rows_of(OrderedRequests(ROWS[:5], 2))] == [
        [100, 101],
        [102, 103],
        [104],
    ]
