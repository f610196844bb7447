from __future__ import annotations

from functools import partial

import anndata
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
import torch

from scenc.data import (
    COUNTED,
    UNKNOWN,
    CellCounts,
    CellFiles,
    FileViews,
    Neighborhoods,
    Tokenizer,
    ViewDataset,
    open_rows,
    thin,
)
from scenc.data.loading._samplers import Request

N_CELLS, N_GENES = 40, 30


@pytest.fixture
def counts():
    rng = np.random.default_rng(0)
    return sp.csr_matrix(rng.poisson(2.0, (N_CELLS, N_GENES)).astype(np.float32))


@pytest.fixture
def known():
    rng = np.random.default_rng(1)
    anchors = rng.normal(size=(N_CELLS, 3)).astype(np.float32)
    neighbors = np.stack([(np.arange(N_CELLS) + shift) % N_CELLS for shift in (1, 2)], axis=1)
    odds = np.tile([0.25, 1.0], (N_CELLS, 1))
    return Neighborhoods(anchors, neighbors, odds, np.arange(N_CELLS) % 2)


def dataset(counts, known, **changes):
    settings = {"depth": (0.3, 0.9), "same_cell": 0.5, **changes}
    rows = open_rows(counts)
    return ViewDataset(rows, np.arange(N_GENES), Tokenizer(mask_fraction=0.2), known, **settings)


def test_thinning_is_binomial(counts):
    share = np.linspace(0.1, 0.9, N_CELLS)
    rows = np.arange(N_CELLS)
    draws = [thin(counts, share, seed, rows).toarray() for seed in range(400)]
    assert max(np.max(draw - counts.toarray()) for draw in draws) <= 0
    expected = counts.toarray() * share[:, None]
    error = np.sqrt(expected * (1 - share[:, None]) / 400)
    assert np.all(np.abs(np.mean(draws, axis=0) - expected) <= 5 * error + 1e-12)
    variance = expected * (1 - share[:, None])
    assert np.var(draws, axis=0).sum() == pytest.approx(variance.sum(), rel=0.05)
    # No draw says anything of its neighbour's.
    first, second = np.array(draws)[:, :, :-1] - expected[:, :-1], np.array(draws)[:, :, 1:]
    assert abs(np.mean(first * (second - expected[:, 1:]))) < 0.01


@pytest.mark.parametrize("count", [9_000, 2_000_000])
def test_thinning_large_counts_is_binomial(count):
    many = sp.csr_matrix(np.full((1, 4000), count, np.float32))
    for share in (0.3, 1.0):
        drawn = thin(many, np.array([share]), 5, np.array([0])).data
        spread = np.sqrt(count * share * (1 - share))
        assert drawn.max() <= count
        assert abs(drawn.mean() - count * share) <= 5 * spread / np.sqrt(4000)
        assert drawn.std() == pytest.approx(spread, rel=0.06, abs=1e-9)


def test_thinning_follows_from_seed_and_row_whatever_is_beside_it(counts):
    share = np.linspace(0.1, 0.9, N_CELLS)
    order = np.random.default_rng(3).permutation(N_CELLS)[:17]
    whole = thin(counts, share, 11, np.arange(N_CELLS)).toarray()
    part = thin(counts[order], share[order], 11, order).toarray()
    np.testing.assert_array_equal(part, whole[order])
    assert (thin(counts, share, 12, np.arange(N_CELLS)).toarray() != whole).any()


def test_thinning_stores_no_zeros_and_leaves_its_input(counts):
    before = counts.copy()
    thinned = thin(counts, np.full(N_CELLS, 0.2), 0, np.arange(N_CELLS))
    assert (thinned.data > 0).all()
    assert (counts != before).nnz == 0


def test_full_depth_views_are_the_cells(counts, known):
    batch = dataset(counts, known, depth=(1.0, 1.0), same_cell=1.0)[Request(np.arange(8), 3)]
    for view in (batch.first, batch.second):
        assert sorted(view.cells.tolist()) == list(range(8))
        found = np.zeros((8, N_GENES))
        for row, cell in enumerate(view.cells.tolist()):
            n = int(view.lengths[row])
            values = view.counts[view.value_index[row, :n]].numpy()
            found[cell, view.genes[row, :n].numpy()] = values
        np.testing.assert_array_equal(found, counts[:8].toarray())


@pytest.mark.parametrize("form", [sp.csr_matrix, np.asarray])
def test_full_depth_views_are_the_cells_over_the_vocabulary(counts, known, form):
    rng = np.random.default_rng(2)
    gene_map = rng.permutation([*range(N_GENES - 12), *[UNKNOWN] * 5, *[COUNTED] * 7])
    dense = counts.toarray()
    rows, tokenizer = open_rows(form(dense)), Tokenizer(mask_fraction=0.2)
    views = ViewDataset(rows, gene_map, tokenizer, known, depth=(1.0, 1.0), same_cell=1.0)
    asked = np.array([7, 3, 20, 0])
    view = views[Request(asked, 3)].second
    library = dense[:, gene_map != UNKNOWN].sum(axis=1)
    np.testing.assert_array_equal(view.library_sizes, library[asked[view.cells]])
    for row, cell in enumerate(asked[view.cells].tolist()):
        n, shown = int(view.lengths[row]), np.zeros(N_GENES - 12)
        shown[view.genes[row, :n].numpy()] = view.values()[row, :n]
        expected = np.zeros_like(shown)
        expected[gene_map[gene_map >= 0]] = dense[cell, gene_map >= 0]
        np.testing.assert_allclose(shown, np.log1p(expected / library[cell] * 1e4), rtol=1e-5)


def test_genes_that_are_counted_only_are_thinned_like_the_others(counts, known):
    gene_map = np.where(np.arange(N_GENES) < 10, np.arange(N_GENES), COUNTED)
    rows, tokenizer = open_rows(counts), Tokenizer()
    views = ViewDataset(rows, gene_map, tokenizer, known, depth=(0.3, 0.3), same_cell=1.0)
    sizes, kept = np.zeros((500, N_CELLS)), np.zeros((500, N_CELLS))
    for seed in range(500):
        view = views[Request(np.arange(N_CELLS), seed)].first
        sizes[seed, view.cells] = view.library_sizes
        of_genes = torch.where(view.valid, view.counts[view.value_index], 0)
        kept[seed, view.cells] = of_genes.sum(dim=1)
    dense = counts.toarray()
    for found, total in ((sizes - kept, dense[:, 10:].sum(axis=1)), (kept, dense[:, :10].sum(1))):
        error = np.sqrt(0.3 * 0.7 * total / 500)
        np.testing.assert_array_less(np.abs(found.mean(axis=0) - 0.3 * total), 5 * error)
        assert found.var(axis=0).sum() == pytest.approx(0.3 * 0.7 * total.sum(), rel=0.05)


def test_views_need_a_place_for_every_column(counts, known):
    views = ViewDataset(
        open_rows(counts),
        np.arange(N_GENES - 1),
        Tokenizer(),
        known,
        depth=(0.3, 0.9),
        same_cell=1.0,
    )
    with pytest.raises(ValueError, match="columns beyond the 29"):
        views[Request(np.arange(N_CELLS), 0)]


def test_what_is_known_goes_with_each_view(counts, known):
    data = dataset(counts, known, same_cell=0.0)
    batch = data[Request(np.arange(10), 5)]
    np.testing.assert_array_equal(batch.anchors[0], known.anchors[:10])
    np.testing.assert_array_equal(batch.batches[0], np.arange(10) % 2)
    second = [
        int(np.flatnonzero((known.anchors == anchor.numpy()).all(axis=1))[0])
        for anchor in batch.anchors[1]
    ]
    assert all((j - i) % N_CELLS in (1, 2) for i, j in enumerate(second))
    np.testing.assert_array_equal(batch.batches[1], np.array(second) % 2)


def test_neighbours_are_drawn_by_their_odds(known):
    rows = np.zeros(20_000, dtype=np.int64)
    drawn = known.draw(rows, 0.2, np.random.default_rng(0).random((len(rows), 2)))
    share = np.bincount(drawn, minlength=3) / len(rows)
    np.testing.assert_allclose(share[:3], [0.2, 0.8 * 0.25, 0.8 * 0.75], atol=0.01)


def test_a_request_determines_its_views(counts, known):
    data = dataset(counts, known)
    one, two = (data[Request(np.arange(12), 7)] for _ in range(2))
    other = data[Request(np.arange(12), 8)]
    assert torch.equal(one.first.genes, two.first.genes)
    assert torch.equal(one.second.counts, two.second.counts)
    assert one.first.genes.shape != other.first.genes.shape or not torch.equal(
        one.first.genes, other.first.genes
    )


@pytest.mark.parametrize("n_known", [N_GENES, N_GENES // 3])
def test_views_stand_in_the_order_of_their_length(counts, known, n_known):
    gene_map = np.where(np.arange(N_GENES) < n_known, np.arange(N_GENES), UNKNOWN)
    data = ViewDataset(open_rows(counts), gene_map, Tokenizer(), known, (0.3, 0.9), 0.5)
    batch = data[Request(np.arange(N_CELLS), 1)]
    assert len(set(batch.first.lengths.tolist())) > 3
    assert (batch.first.lengths.diff() <= 0).all()
    assert (batch.second.lengths.diff() <= 0).all()


def test_a_batch_moves_whole(counts, known):
    moved = dataset(counts, known)[Request(np.arange(4), 0)].to("meta")
    assert moved.first.genes.is_meta
    assert moved.anchors.is_meta
    assert moved.n_cells == 4


@pytest.mark.parametrize("form", [sp.csr_matrix, sp.csc_matrix, np.asarray])
def test_counts_to_decode_are_a_lookup_in_the_dense_matrix(counts, form):
    rng = np.random.default_rng(2)
    dense = counts.toarray()
    dense[3] = 0
    # The vocabulary in an order of its own, without some of the columns.
    n_known = N_GENES - 8
    gene_map = rng.permutation([*range(n_known), *[UNKNOWN] * 4, *[COUNTED] * 4])
    asked = np.array([7, 3, 7, 20, 0])
    covariates = rng.integers(0, 4, (len(asked), 2))
    found = CellCounts.read(open_rows(form(dense)), asked, gene_map, covariates)
    expected = np.zeros((len(asked), n_known))
    expected[:, gene_map[gene_map >= 0]] = dense[asked][:, gene_map >= 0]
    values = np.zeros_like(expected)
    values[found.cell, found.gene] = found.value
    np.testing.assert_array_equal(values, expected)
    assert len(found.value) == np.count_nonzero(expected), "no count stands twice, none is zero"
    filled = expected.sum(axis=1) > 0
    np.testing.assert_allclose(found.library[filled], expected.sum(axis=1)[filled])
    assert (found.library[~filled] > 0).all(), "it has a logarithm"
    assert (found.library[~filled] < 0.01).all()
    np.testing.assert_array_equal(found.covariates, covariates)


def test_a_batch_has_the_whole_counts_of_both_cells_of_each_pair(counts, known):
    covariates = np.stack([np.arange(N_CELLS) % 2, np.arange(N_CELLS)], axis=1)
    data = dataset(counts, known, same_cell=0.0, covariates=covariates)
    batch = data[Request(np.arange(10), 5)]
    second = [
        int(np.flatnonzero((known.anchors == anchor.numpy()).all(axis=1))[0])
        for anchor in batch.anchors[1]
    ]
    rows = [*range(10), *second]
    values = np.zeros((20, N_GENES))
    values[batch.counts.cell, batch.counts.gene] = batch.counts.value
    np.testing.assert_array_equal(values, counts.toarray()[rows])
    np.testing.assert_array_equal(batch.counts.covariates, covariates[rows])


@pytest.mark.parametrize("decoded", [False, True])
def test_a_batch_moves_with_its_counts_if_it_has_any(counts, known, decoded):
    covariates = np.zeros((N_CELLS, 1), np.int64) if decoded else None
    batch = dataset(counts, known, covariates=covariates)[Request(np.arange(4), 0)]
    same, moved = batch.to("cpu"), batch.to("meta")
    if not decoded:
        assert batch.counts is same.counts is moved.counts is None
        return
    assert all(part.is_meta for part in moved.counts)
    for one, other in zip(batch.counts, same.counts, strict=True):
        assert torch.equal(one, other)


def test_cells_without_neighbours_are_paired_with_themselves(counts):
    alone = Neighborhoods.alone(np.arange(N_CELLS) % 3)
    rows = np.array([5, 0, 39])
    chances = np.random.default_rng(0).random((3, 2))
    np.testing.assert_array_equal(alone.draw(rows, 0.0, chances), rows)
    batch = dataset(counts, alone, same_cell=0.0)[Request(rows, 1)]
    assert batch.anchors.shape == (2, 3, 0)
    np.testing.assert_array_equal(batch.batches, np.tile(rows % 3, (2, 1)))


def test_views_of_files_are_of_the_cells_that_are_read(counts, tmp_path):
    # A cell without counts of the vocabulary, which is the first 20 genes; the rest counts only.
    counts = counts.tolil()
    counts[3, :20] = 0
    counts = counts.tocsr()
    genes = [f"FAKE{i}" for i in range(N_GENES)]
    adata = anndata.AnnData(counts, var=pd.DataFrame(index=genes))
    adata.obs["batch"] = [f"b{i % 3}" for i in range(N_CELLS)]
    adata.write_h5ad(tmp_path / "cells.h5ad")
    files = CellFiles(
        [tmp_path / "cells.h5ad"],
        batch_key="batch",
        batch_size=16,
        progress=False,
        validation_size=0.0,
    )
    files.use_vocabulary(genes[:20], genes[20:])
    covariates = files.column("batch").codes.astype(np.int64)[:, None]
    make = partial(
        FileViews,
        tokenizer=Tokenizer(context=None, mask_fraction=0.0),
        n_genes=20,
        depth=(1.0, 1.0),
        covariates=covariates,
    )
    dense, seen = counts.toarray(), []
    for batch in files.train_dataloader(0, make):
        n, decoded = batch.n_cells, batch.counts
        table = np.zeros((2 * n, 20))
        table[decoded.cell, decoded.gene] = decoded.value
        np.testing.assert_array_equal(table[:n], table[n:])
        # Which cells these are follows from their counts.
        rows = [int(np.flatnonzero((dense[:, :20] == row).all(axis=1))[0]) for row in table[:n]]
        seen += rows
        np.testing.assert_array_equal(decoded.library[:n], dense[rows, :20].sum(axis=1))
        np.testing.assert_array_equal(decoded.covariates[:n, 0], covariates[rows, 0])
        np.testing.assert_array_equal(batch.batches, np.tile(covariates[rows, 0], (2, 1)))
        # At full depth a view is its cell, and other genes are in the library size of x~.
        for view in (batch.first, batch.second):
            of_pair = np.asarray(rows)[view.cells]
            x = np.log1p(dense[of_pair] / dense[of_pair].sum(axis=1, keepdims=True) * 1e4)
            for place, values in enumerate(view.values()):
                valid = view.valid[place]
                expected = x[place, view.genes[place][valid]]
                np.testing.assert_allclose(values[valid], expected, rtol=1e-5)
    assert sorted(seen) == [row for row in range(N_CELLS) if row != 3]
