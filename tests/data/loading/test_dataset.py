from __future__ import annotations

import itertools
import threading

import numpy as np
import pytest
import scipy.sparse as sp
import torch

from scenc.data import (
    UNKNOWN,
    OrderedRequests,
    Request,
    ShuffledRequests,
    TokenDataset,
    Tokenizer,
    open_rows,
)


@pytest.fixture
def counts(make_counts):
    return sp.csr_matrix(make_counts(30, 20))


def dataset(counts, subset=None, **settings):
    return TokenDataset(open_rows(counts), np.arange(20), Tokenizer(**settings), subset)


def test_a_request_becomes_its_batch(counts):
    tokenizer = Tokenizer(context=8, mask_fraction=0.5)
    rows = np.array([4, 29, 4])
    batch = dataset(counts, context=8, mask_fraction=0.5)[Request(rows, seed=3)]
    expected = tokenizer(counts, rows, np.arange(20), seed=3)
    assert torch.equal(batch.genes, expected.genes)
    assert torch.equal(batch.values(), expected.values())
    assert batch.cells.tolist() == [4, 29, 4]


def test_a_subset_is_counted_by_position(counts):
    subset = np.array([20, 5, 5, 0])
    part = dataset(counts, subset)
    assert len(part) == 4
    batch = part[Request(np.array([3, 1]), seed=0)]
    assert batch.cells.tolist() == [3, 1]
    assert torch.equal(batch.genes, dataset(counts)[Request(np.array([0, 5]), seed=0)].genes)


@pytest.mark.parametrize("known", [np.ones(20, bool), np.arange(20) % 3 == 0])
@pytest.mark.parametrize("stored", [sp.csr_matrix, lambda matrix: matrix.toarray()])
def test_cells_may_stand_by_their_number_of_tokens(counts, known, stored):
    lengths = (counts.toarray()[:, known] > 0).sum(axis=1)
    gene_map = np.where(known, np.cumsum(known) - 1, UNKNOWN)
    rows, subset = open_rows(stored(counts)), np.arange(29, 9, -1)
    part = TokenDataset(rows, gene_map, Tokenizer(), subset, by_length=True)
    batch = part[Request(np.array([3, 0, 19, 7, 12, 1, 5]), seed=0)]
    assert sorted(batch.cells.tolist()) == [0, 1, 3, 5, 7, 12, 19]
    assert batch.lengths.tolist() == sorted(batch.lengths.tolist(), reverse=True)
    assert batch.lengths.tolist() == lengths[29 - batch.cells.numpy()].tolist()


def test_zeros_that_are_stored_do_not_count_as_tokens():
    stored = sp.csr_matrix(np.array([[1, 0, 0], [1, 1, 0], [1, 1, 1]], np.float32))
    stored.data = np.array([1, 2, 3, 0, 0, 0], np.float32)
    dataset = TokenDataset(open_rows(stored), np.arange(3), Tokenizer(), by_length=True)
    batch = dataset[Request(np.array([2, 0, 1]), seed=0)]
    assert (batch.cells.tolist(), batch.lengths.tolist()) == ([1, 0, 2], [2, 1, 0])


def test_a_gene_map_must_fit_the_columns(counts):
    with pytest.raises(ValueError, match="19 entries for 20 columns"):
        TokenDataset(open_rows(counts), np.arange(19), Tokenizer())


def test_zeros_that_are_stored_are_no_tokens(counts):
    stored = counts.copy()
    stored.data[::3] = 0
    tidy = stored.copy()
    tidy.eliminate_zeros()
    request = Request(np.arange(30), seed=3)
    settings = {"context": 8, "mask_fraction": 0.5}
    assert torch.equal(
        dataset(stored, **settings)[request].genes, dataset(tidy, **settings)[request].genes
    )


@pytest.mark.parametrize("column", [-1, 20])
def test_columns_that_do_not_exist_are_refused(counts, column):
    counts.indices[5] = column
    with pytest.raises(ValueError, match="columns beyond the 20"):
        dataset(counts)[Request(np.arange(30), seed=0)]


@pytest.mark.slow
def test_worker_processes_make_the_same_batches(counts):
    requests = OrderedRequests(np.arange(30), 7)
    here, there = (list(dataset(counts, context=8).loader(requests, num_workers=n)) for n in (0, 2))
    assert len(here) == 5
    for one, other in zip(here, there, strict=True):
        assert torch.equal(one.genes, other.genes)
        assert torch.equal(one.values(), other.values())


def test_batches_are_made_ahead_in_order(counts):
    cells = dataset(counts, context=8, mask_fraction=0.5)
    requests = OrderedRequests(np.arange(30), 4, seed=2)
    made = list(cells.loader(requests))
    assert len(made) == 8
    for batch, request in zip(made, requests, strict=True):
        assert batch.cells.tolist() == request.rows.tolist()
        assert torch.equal(batch.genes, cells[request].genes)


def test_what_goes_wrong_in_a_thread_comes_out_and_a_pass_may_be_left(counts):
    cells = dataset(counts)
    before = {*threading.enumerate()}
    for batch in cells.loader(OrderedRequests(np.arange(30), 4)):
        assert batch.cells.tolist() == [0, 1, 2, 3]
        break
    assert not {*threading.enumerate()} - before
    with pytest.raises(IndexError):
        list(cells.loader(OrderedRequests(np.array([0, 99]), 1)))


def test_a_batch_moves_whole(counts):
    batch = dataset(counts)[Request(np.arange(3), seed=0)]
    moved = batch.to("meta")
    assert {t.device.type for t in (moved.genes, moved.normalized, moved.lengths)} == {"meta"}
    assert moved.quantile_bins is None
    assert batch.genes.device.type == "cpu"


@pytest.mark.parametrize("num_workers", [0, pytest.param(2, marks=pytest.mark.slow)])
def test_a_pass_goes_on_where_another_was(counts, num_workers):
    cells = dataset(counts, context=8)

    def loader_of(epoch):
        requests = ShuffledRequests(np.arange(30), 4, seed=2, epoch=epoch)
        return cells.loader(requests, num_workers=num_workers)

    def flat(batches):
        return [(batch.cells.tolist(), batch.genes.tolist()) for batch in batches]

    whole = flat(loader_of(3))
    assert loader_of(3).state_dict() == {"epoch": 3, "batch": 0}
    for n in (0, 1, 5, len(whole)):
        loader = loader_of(3)
        begun = flat(itertools.islice(loader, n))
        assert loader.state_dict() == {"epoch": 3, "batch": n}
        again = loader_of(0)
        again.load_state_dict(loader.state_dict())
        assert begun + flat(again) == whole
        assert again.state_dict() == {"epoch": 3, "batch": len(whole)}
        assert flat(again) == flat(loader_of(4))
