from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scenc.data.loading._read_order import Chunks, FileOrder, ShuffledOrder, lanes

SIZES = np.array([700, 90, 1300, 410])
FILES = np.repeat(np.arange(4), SIZES)


def chunks_of(sizes=SIZES, size=16, roles=None, role=0):
    roles = np.zeros(sizes.sum(), np.int8) if roles is None else roles
    return Chunks.of(sizes, roles, role, size)


def batches_of(order, first=0):
    """Cells and seed of each batch."""
    return [
        (load.cells[batch.rows], batch.seed)
        for load in order.loads(first)
        for batch in load.batches
    ]


@settings(max_examples=60)
@given(
    sizes=st.lists(st.integers(1, 60), min_size=1, max_size=5),
    chunk=st.integers(1, 20),
    batch_size=st.integers(1, 20),
    buffer=st.integers(1, 200),
    world_size=st.integers(1, 3),
    held_out=st.floats(0, 0.9),
    seed=st.integers(0, 5),
)
def test_an_epoch_visits_every_cell(sizes, chunk, batch_size, buffer, world_size, held_out, seed):
    sizes = np.array(sizes)
    roles = (np.random.default_rng(seed).random(sizes.sum()) < held_out).astype(np.int8)
    roles[0] = 0
    chunks = chunks_of(sizes, chunk, roles)
    orders = [
        ShuffledOrder(chunks, batch_size, buffer, seed=seed, rank=rank, world_size=world_size)
        for rank in range(world_size)
    ]
    ranks = [batches_of(order) for order in orders]
    assert {len(batches) for batches in ranks} == {len(orders[0])}
    for together in zip(*ranks, strict=True):
        assert len({len(cells) for cells, _ in together}) == 1
        assert len({made for _, made in together}) == 1
    lengths = [len(cells) for cells, _ in ranks[0]]
    assert max(lengths) <= batch_size
    visits = np.bincount(
        np.concatenate([cells for batches in ranks for cells, _ in batches]), minlength=sizes.sum()
    )
    wanted = roles == 0
    assert (visits[~wanted] == 0).all()
    assert (visits[wanted] >= 1).all()
    assert visits.sum() - wanted.sum() < max(8, world_size)


def test_chunks_stay_in_their_file_and_hold_only_their_role():
    roles = (np.arange(SIZES.sum()) % 7 == 0).astype(np.int8)
    chunks = chunks_of(size=32, roles=roles, role=1)
    cells = [chunks.cells(chunk) for chunk in range(len(chunks.starts))]
    assert np.concatenate(cells).tolist() == np.flatnonzero(roles).tolist()
    for chunk, own in enumerate(cells):
        assert set(FILES[own]) == {chunks.files[chunk]}
        assert len(own) == chunks.sizes[chunk]
        assert own[-1] - own[0] < 32


def test_batches_are_of_almost_equal_size():
    lengths = [len(cells) for cells, _ in batches_of(ShuffledOrder(chunks_of(), 64, 512))]
    assert max(lengths) - min(lengths) <= 8
    assert len(lengths) == 40


@pytest.mark.parametrize("world_size", [2, 4])
def test_several_ranks_see_the_batches_of_one(world_size):
    one = batches_of(ShuffledOrder(chunks_of(), 64 * world_size, 1000, seed=3, epoch=2))
    ranks = [
        batches_of(
            ShuffledOrder(chunks_of(), 64, 1000, seed=3, epoch=2, rank=rank, world_size=world_size)
        )
        for rank in range(world_size)
    ]
    assert len(one) == len(ranks[0])
    for (whole, seed), *parts in zip(one, *ranks, strict=True):
        assert {made for _, made in parts} == {seed}
        assert sorted(np.concatenate([cells for cells, _ in parts])) == sorted(whole)


def test_ranks_read_cells_of_their_own():
    orders = [ShuffledOrder(chunks_of(), 64, 1000, rank=rank, world_size=2) for rank in range(2)]
    first, second = ({cell for load in order.loads() for cell in load.cells} for order in orders)
    assert len(first & second) < 8


def test_the_order_follows_from_seed_and_epoch():
    def order(**settings):
        return np.concatenate(
            [c for c, _ in batches_of(ShuffledOrder(chunks_of(), 64, 512, **settings))]
        )

    first = order(seed=1, epoch=0)
    np.testing.assert_array_equal(first, order(seed=1, epoch=0))
    assert (first != order(seed=1, epoch=1)).mean() > 0.9
    assert (first != order(seed=2, epoch=0)).mean() > 0.9


@pytest.mark.parametrize("first", [0, 1, 7, 8, 23, 39, 40])
def test_an_epoch_can_be_taken_up_anywhere(first):
    order = ShuffledOrder(chunks_of(), 64, 512)
    rest = batches_of(order)[first:]
    again = batches_of(order, first)
    assert len(rest) == len(again)
    for (cells, seed), (same_cells, same_seed) in zip(rest, again, strict=True):
        np.testing.assert_array_equal(cells, same_cells)
        assert seed == same_seed


def test_every_batch_has_draws_of_its_own():
    seeds = [seed for _, seed in batches_of(ShuffledOrder(chunks_of(), 64, 512))]
    assert len(set(seeds)) == len(seeds) == 40


def test_a_window_holds_no_more_than_the_buffer():
    order = ShuffledOrder(chunks_of(), 64, 640)
    assert max(len(load.cells) for load in order.loads()) <= 640
    small = ShuffledOrder(chunks_of(), 64, 1)
    assert max(len(load.cells) for load in small.loads()) <= 64


@pytest.mark.parametrize(
    ("weights", "visits"),
    [
        ([1, 1, 1, 1], [700, 90, 1300, 410]),
        ([1, 10, 1, 1], [529, 680, 982, 310]),
        ([0, 1, 0, 0], [0, 2500, 0, 0]),
        ((1 / SIZES).tolist(), [625] * 4),
    ],
)
def test_weights_set_how_often_files_are_visited(weights, visits):
    order = ShuffledOrder(chunks_of(), 50, 500, weights=np.array(weights, float), seed=4)
    cells = np.concatenate([cells for cells, _ in batches_of(order)])
    found = np.bincount(FILES[cells], minlength=4)
    # Rounding, and the cells that make lanes equally long.
    assert np.abs(found - visits).max() <= 8
    for file, wanted in enumerate(visits):
        times = np.bincount(cells, minlength=SIZES.sum())[file == FILES]
        assert times.max() - times.min() <= (2 if wanted else 0)


def dispersion(batches, groups, sizes):
    """Variance of the groups' shares in batches, relative to that of a full shuffle."""
    ratios = []
    for group, size in enumerate(sizes):
        found = np.array([(groups[cells] == group).sum() for cells in batches])
        n, share = np.mean([len(cells) for cells in batches]), size / sizes.sum()
        full = n * share * (1 - share) * (sizes.sum() - n) / (sizes.sum() - 1)
        ratios.append(found.var() / full)
    return np.array(ratios)


def test_batches_mix_files_and_neighbours_as_a_full_shuffle_would():
    sizes = np.array([20_000, 8_000, 12_000, 4_000, 16_000])
    files = np.repeat(np.arange(5), sizes)
    # Neighbouring cells alike: runs of 250 cells of one of ten donors.
    donors = (np.arange(sizes.sum()) // 250) % 10
    order = ShuffledOrder(chunks_of(sizes, 32), 256, 8192, seed=0)
    batches = [cells for cells, _ in batches_of(order)]
    of_files = dispersion(batches, files, sizes)
    of_donors = dispersion(batches, donors, np.bincount(donors))
    # A full shuffle gives 1 with a standard error of 0.09 in 235 batches.
    assert of_files.max() < 1.3
    # 256 chunks a window, each of one donor: they vary between windows as 256 cells would.
    expected = 1 + 256 * 32 / 8192
    assert 0.8 * expected < of_donors.mean() < 1.15 * expected
    shuffled = np.array_split(np.random.default_rng(0).permutation(sizes.sum()), len(batches))
    assert 0.7 < dispersion(shuffled, files, sizes).mean() < 1.3
    in_order = np.array_split(np.arange(sizes.sum()), len(batches))
    assert dispersion(in_order, files, sizes).min() > 50


@pytest.mark.parametrize(
    ("cells", "world_size", "n"),
    [(512, 1, 8), (512, 2, 8), (64, 8, 8), (12, 1, 6), (12, 2, 6), (30, 3, 6), (7, 1, 7)]
    + [(1, 1, 1), (32, 16, 16), (13, 1, 1)],
)
def test_lanes_divide_batches_and_are_shared_out(cells, world_size, n):
    assert lanes(cells, world_size) == n


@settings(max_examples=60)
@given(
    n=st.integers(0, 60),
    batch_size=st.integers(1, 9),
    buffer=st.integers(1, 40),
    first=st.integers(0, 70),
)
def test_ordered_windows_hold_every_cell_once(n, batch_size, buffer, first):
    cells = np.arange(n) * 3
    order = FileOrder(cells, batch_size, buffer, seed=7)
    batches = batches_of(order)
    assert len(order) == len(batches)
    assert np.concatenate([[], *(c for c, _ in batches)]).tolist() == cells.tolist()
    assert {seed for _, seed in batches} <= {7}
    assert all(load.by_length for load in order.loads())
    rest = [c.tolist() for c, _ in batches_of(order, first)]
    assert rest == [c.tolist() for c, _ in batches[first:]]
