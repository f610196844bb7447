"""Principal components beside the embedding."""

from __future__ import annotations

import logging

import anndata
import mudata
import numpy as np
import pytest
import scanpy as sc
import torch
from sklearn.decomposition import PCA

from scenc.metrics import knn_classification
from scenc.model import EmbeddingCheck, Model

# A check may warn of models that are hardly trained.
may_lose = pytest.mark.filterwarnings("ignore:The embedding")
SETUP = {"batch_key": "batch", "labels_key": "cell_type"}


@pytest.fixture(scope="module")
def cells(make_adata, make_counts):
    """300 cells of three types in two batches."""
    return make_adata(make_counts(300, 60, seed=1))


@pytest.fixture(scope="module")
def model(cells, make_model, train):
    return train(make_model(cells, SETUP))


def components_of(adata):
    """PCs by scanpy's normalisation and scikit-learn, as the check must have them."""
    copy = adata.copy()
    sc.pp.normalize_total(copy, target_sum=1e4)
    sc.pp.log1p(copy)
    values = np.asarray(copy.X)
    return PCA(50, svd_solver="full").fit_transform(values)


@may_lose
def test_both_are_scored_as_by_hand(model, cells):
    check = model.check()
    assert isinstance(check, EmbeddingCheck)
    embedding = model.get_latent_representation(key_added=None)
    for column, places in (("embedding", embedding), ("components", components_of(cells))):
        for score, key in (("label_f1", "cell_type"), ("batch_f1", "batch")):
            told = knn_classification(places, cells.obs[key], min_cells=20, k=10, n_repeats=5)
            assert check.scores.loc[score, column] == pytest.approx(told.macro_f1, abs=0.02)
    assert (check.n_cells, check.n_batches, check.n_labels, check.n_components) == (300, 2, 3, 50)


@may_lose
def test_a_check_is_repeatable_and_changes_nothing(model, cells, weights_of):
    before = weights_of(model)
    torch_state, numpy_state = torch.random.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    keys = set(cells.obsm), set(cells.uns)
    first, second = model.check(seed=3), model.check(seed=3)
    assert first.scores.equals(second.scores)
    assert torch.equal(torch.random.get_rng_state(), torch_state)
    np.testing.assert_array_equal(np.random.get_state()[1], numpy_state)  # noqa: NPY002
    for name, weights in weights_of(model).items():
        np.testing.assert_array_equal(weights, before[name])
    assert (set(cells.obsm), set(cells.uns)) == keys


@may_lose
def test_a_sample_has_cells_of_each_batch(model, cells, make_adata, make_counts):
    query = make_adata(make_counts(1000, 60, seed=2))
    query.obs["batch"] = ["rare"] * 120 + ["common"] * 880
    check = model.check(query, n_cells=400)
    # 100 of the rare one at least; the others in proportion.
    assert check.n_cells == 100 + 880 * 400 // 1000
    assert check.n_batches == 2


@may_lose
def test_without_labels_held_out_counts_are_told(model, cells):
    query = cells.copy()
    del query.obs["cell_type"]
    check = model.check(query)
    assert "held_out" in check.scores.index
    assert "label_f1" not in check.scores.index
    assert check.n_labels == 0
    # Simulated types differ by much.
    assert check.scores.loc["held_out", "components"] > 0.05


@may_lose
def test_other_columns_may_be_named(model, cells):
    query = cells.copy()
    query.obs["donor"] = ["a", "b", "c"] * 100
    assert model.check(query, batch_key="donor", labels_key="batch").n_batches == 3
    with pytest.raises(KeyError, match="no column 'tissue'"):
        model.check(query, labels_key="tissue")


@may_lose
def test_cells_of_a_mudata_and_of_a_file_are_compared(
    model, cells, make_counts, make_adata, train, tmp_path
):
    query = cells.copy()
    query.write_h5ad(tmp_path / "cells.h5ad")
    backed = anndata.read_h5ad(tmp_path / "cells.h5ad", backed="r")
    expected = model.check(query)
    assert model.check(backed).scores.equals(expected.scores)
    backed.file.close()
    mdata = mudata.MuData({"rna": make_adata(make_counts(100, 60))})
    places = {"rna_layer": "rna", "batch_key": "rna", "labels_key": "rna"}
    Model.setup_mudata(mdata, **SETUP, modalities=places)
    multi = train(Model(mdata, objective="masked", d_model=8, n_layers=1, n_heads=2), max_epochs=1)
    check = multi.check()
    assert (check.n_cells, check.n_batches, check.n_labels) == (100, 2, 3)
    multi.get_latent_representation()
    assert "X_scenc" in mdata.uns["scenc"]["embeddings"]


def test_an_embedding_that_loses_is_warned_of(cells, make_model):
    untrained = make_model(cells, SETUP)
    untrained.is_trained_ = True
    with torch.no_grad():
        # Genes that are all alike tell nothing of a cell.
        for weights in untrained.module.parameters():
            weights.fill_(0.01)
    with pytest.warns(UserWarning, match="separates cells worse than 50 principal components"):
        check = untrained.check()
    assert not check.is_better


def test_few_cells_are_refused(model, cells):
    with pytest.raises(ValueError, match="at least 50 cells with counts, got 10"):
        model.check(cells[:10].copy())


def test_an_untrained_model_is_refused(cells, make_model):
    with pytest.raises(RuntimeError, match="not trained"):
        make_model(cells, SETUP).check()


@pytest.mark.parametrize("objective", ["masked", "generative"])
def test_training_writes_one_line_and_the_same_weights(
    make_adata, make_counts, make_model, train, weights_of, caplog, objective
):
    cells = make_adata(make_counts(150, 60, seed=1))
    settings = {"objective": objective, "dropout": 0.1}
    with caplog.at_level(logging.INFO, "scenc.model._check"):
        plain = train(make_model(cells, SETUP, **settings), max_epochs=1)
        assert not caplog.records
        checked = train(make_model(cells, SETUP, **settings), max_epochs=1, check=True)
        train(checked, max_epochs=1, check=False)
    (record,) = caplog.records
    assert "50 principal components of the same data" in record.getMessage()
    assert "label_f1" in record.getMessage()
    assert "batch_f1" in record.getMessage()
    train(plain, max_epochs=1)
    for name, weights in weights_of(plain).items():
        np.testing.assert_array_equal(weights, weights_of(checked)[name])
    np.testing.assert_array_equal(
        plain.get_latent_representation(), checked.get_latent_representation()
    )


def test_streamed_training_says_that_nothing_is_compared(atlas, train, caplog):
    from scenc.data import CellFiles

    files = CellFiles(atlas[0], batch_key="donor", progress=False)
    model = Model(datamodule=files, objective="masked", d_model=8, n_layers=1, n_heads=2)
    with caplog.at_level(logging.INFO, "scenc.model._check"):
        train(model, max_epochs=1, check=True)
    (record,) = caplog.records
    assert "model.check(adata)" in record.getMessage()


def test_cells_of_files_that_are_in_memory_are_compared(atlas, train, caplog):
    from scenc.data import CellFiles

    files = CellFiles(atlas[0], batch_key="donor", labels_key="kind", progress=False)
    model = Model(
        datamodule=files, objective="generative", d_model=8, n_layers=1, n_heads=2, d_feedforward=16
    )
    with caplog.at_level(logging.INFO, "scenc.model._check"):
        train(model, max_epochs=1, check=True)
    (record,) = caplog.records
    assert "principal components" in record.getMessage()
