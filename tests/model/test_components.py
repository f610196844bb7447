from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
import torch
from sklearn.decomposition import PCA
from sklearn.neighbors import NearestNeighbors

from scenc.data import COUNTED
from scenc.model import Model
from scenc.model._components import find_components, normalise, sample, variable_genes
from scenc.model._neighborhoods import _balanced_odds, find_neighborhoods


@pytest.fixture
def cells(adata):
    Model.setup_anndata(adata)
    return Model(adata, objective="masked", d_model=8, n_heads=2, n_layers=1)._training_cells()


def x_tilde(adata):
    counts = adata.X.toarray() if sp.issparse(adata.X) else np.asarray(adata.X)
    depth = counts.sum(axis=1, keepdims=True)
    return np.log1p(counts / np.maximum(depth, 1) * 1e4)


def test_components_are_those_of_a_dense_pca(adata, cells):
    filled = np.asarray(adata.X.sum(axis=1)).ravel() > 0
    dense = x_tilde(adata)
    pca = PCA(5, svd_solver="full").fit(dense[filled])
    found = find_components(sample(cells, adata.n_vars, 1e4, seed=0), 5, seed=0)
    projected = found.project(cells, 1e4)
    expected = pca.transform(dense)
    sign = np.sign((projected * expected).sum(axis=0))
    np.testing.assert_allclose(projected * sign, expected, atol=1e-2)


def test_normalised_values_follow_the_vocabulary(adata):
    gene_map = np.full(adata.n_vars, -1)
    gene_map[[3, 1, 7, 20]] = [0, 1, 2, COUNTED]
    found = normalise(adata.X, gene_map, 3, 1e4).toarray()
    counts = adata.X.toarray()[:, [3, 1, 7]]
    depths = np.asarray(adata.X[:, [3, 1, 7, 20]].sum(axis=1))
    expected = np.log1p(counts / np.maximum(depths, 1) * 1e4)
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_variable_genes_are_scanpys(adata, cells):
    import scanpy as sc

    filled = adata[np.asarray(adata.X.sum(axis=1)).ravel() > 0].copy()
    sc.pp.normalize_total(filled, target_sum=1e4)
    sc.pp.log1p(filled)
    sc.pp.highly_variable_genes(filled, n_top_genes=20)
    chosen = variable_genes(cells, adata.n_vars, 20, 1e4, None, seed=0)
    assert chosen.sum() == 20
    agree = (chosen == filled.var["highly_variable"].to_numpy()).mean()
    assert agree > 0.95  # scanpy works in double precision here


def test_neighbours_of_one_batch_are_the_nearest():
    points = np.random.default_rng(0).normal(size=(50, 6)).astype(np.float32)
    found = find_neighborhoods(points, np.zeros(50, dtype=np.int64), 4, seed=0)
    unit = points / np.linalg.norm(points, axis=1, keepdims=True)
    np.testing.assert_array_equal(found.anchors, points)
    expected = NearestNeighbors(n_neighbors=5).fit(unit).kneighbors(unit)[1][:, 1:]
    np.testing.assert_array_equal(found.neighbors, expected)


def test_hidden_cells_are_no_neighbours():
    points = np.random.default_rng(0).normal(size=(40, 6)).astype(np.float32)
    shown = np.arange(0, 40, 2)
    found = find_neighborhoods(points, np.zeros(40, dtype=np.int64), 5, seed=0, shown=shown)
    alone = find_neighborhoods(points[shown], np.zeros(20, dtype=np.int64), 5, seed=0)
    np.testing.assert_array_equal(found.neighbors[shown], shown[alone.neighbors])
    assert (found.neighbors[shown] % 2 == 0).all()


def test_batches_are_brought_together():
    """Two kinds of cells in two batches that are far apart: neighbours cross over, within kind."""
    rng = np.random.default_rng(0)
    kind, batch = np.repeat([0, 1, 0, 1], 60), np.repeat([0, 1], 120)
    points = rng.normal(scale=0.3, size=(240, 8))
    points[:, 0] += np.where(kind == 0, -4, 4)
    points[:, 1] += np.where(batch == 0, -2, 2)
    points = points.astype(np.float32)
    unit = points / np.linalg.norm(points, axis=1, keepdims=True)
    plain = NearestNeighbors(n_neighbors=10).fit(unit).kneighbors(return_distance=False)
    found = find_neighborhoods(points, batch, 10, seed=0).neighbors
    assert (kind[found] == kind[:, None]).mean() > 0.99
    other = (batch[found] != batch[:, None]).mean()
    assert other > 0.2
    assert (batch[plain] != batch[:, None]).mean() < 0.01


def test_odds_give_each_batch_the_same_chance():
    batches = np.array([[0, 0, 0, 1], [2, 1, 2, 1], [5, 5, 5, 5]])
    odds = np.diff(_balanced_odds(batches), axis=1, prepend=0)
    expected = [[1 / 6, 1 / 6, 1 / 6, 1 / 2], [0.25] * 4, [0.25] * 4]
    np.testing.assert_allclose(odds, expected)
    frame = pd.DataFrame({"batch": batches[0], "odds": odds[0]}).groupby("batch")["odds"].sum()
    np.testing.assert_allclose(frame, 0.5)


def test_the_number_of_threads_stays_as_it_was(cells, adata, monkeypatch):
    import scanpy as sc

    choose, before = sc.pp.highly_variable_genes, torch.get_num_threads()

    def meddle(*args, **kwargs):
        torch.set_num_threads(before + 1)  # as numba's parallel loops do
        return choose(*args, **kwargs)

    monkeypatch.setattr(sc.pp, "highly_variable_genes", meddle)
    variable_genes(cells, adata.n_vars, 20, 1e4, None, seed=0)
    assert torch.get_num_threads() == before


def test_a_model_and_its_training_find_components_once(adata, monkeypatch, train):
    fits, fit = [], PCA.fit

    def count(pca, values, y=None):
        fits.append(values.shape)
        return fit(pca, values, y)

    monkeypatch.setattr(PCA, "fit", count)
    adata.obs["donor"] = np.arange(adata.n_obs) % 2
    # A count of its own, so that no earlier test has asked for the same.
    adata.X.data[0] = 977
    Model.setup_anndata(adata, batch_key="donor")
    settings = {"d_model": 8, "n_heads": 2, "n_layers": 1, "objective": "contrastive"}
    train(Model(adata, **settings), max_epochs=1)
    assert len(fits) == 1
    # Others are found anew, and so are those of another number of dimensions.
    adata.X.data[0] = 978
    Model(adata, **settings)
    Model(adata, **{**settings, "d_model": 10})
    assert len(fits) == 3


def test_a_sample_is_normalised_in_parts(adata, cells, monkeypatch):
    whole = sample(cells, adata.n_vars, 1e4, seed=0)
    monkeypatch.setattr("scenc.model._components._CHUNK", 7)
    in_parts = sample(cells, adata.n_vars, 1e4, seed=0)
    np.testing.assert_array_equal(in_parts.toarray(), whole.toarray())
    filled = np.asarray(adata.X.sum(axis=1)).ravel() > 0
    np.testing.assert_allclose(whole.toarray(), x_tilde(adata)[filled], rtol=1e-5)
    assert whole.dtype == np.float32


def test_neighbours_are_weighed_in_parts(monkeypatch):
    points = np.random.default_rng(0).normal(size=(50, 6)).astype(np.float32)
    batches = np.arange(50) % 3
    whole = find_neighborhoods(points, batches, 4, seed=0)
    monkeypatch.setattr("scenc.model._neighborhoods._CHUNK", 7)
    in_parts = find_neighborhoods(points, batches, 4, seed=0)
    np.testing.assert_array_equal(in_parts.odds, whole.odds)
    np.testing.assert_array_equal(whole.odds, _balanced_odds(batches[whole.neighbors]))


def test_many_cells_have_neighbours_among_landmarks():
    # Four types in three batches that are shifted apart, one of them small; type by direction.
    rng = np.random.default_rng(0)
    n = 24_000
    kind, batch = rng.integers(0, 4, n), rng.choice(3, n, p=[0.6, 0.397, 0.003])
    shift = rng.normal(size=(3, 8))
    points = (np.eye(8)[kind] * 12 + shift[batch] + rng.normal(size=(n, 8))).astype(np.float32)
    shown = np.flatnonzero(rng.random(n) < 0.95)
    found = find_neighborhoods(points, batch, 10, seed=0, shown=shown)
    assert (kind[found.neighbors[shown]] == kind[shown, None]).mean() > 0.99
    assert (found.neighbors[shown] != shown[:, None]).all()
    assert np.isin(found.neighbors[shown], shown).all()
    assert len(np.unique(found.neighbors[shown])) <= 20_000
    # Batches are nearer to each other than before, in cells that are no landmarks, too.
    hidden = np.setdiff1d(np.arange(n), shown)
    for rows in (shown, hidden):
        before, after = (
            [places[rows][batch[rows] == b].mean(axis=0) for b in (0, 1)]
            for places in (points, found.anchors)
        )
        assert np.linalg.norm(after[0] - after[1]) < 0.3 * np.linalg.norm(before[0] - before[1])
    again = find_neighborhoods(points, batch, 10, seed=0, shown=shown)
    np.testing.assert_array_equal(again.neighbors, found.neighbors)
