from __future__ import annotations

import logging

import anndata
import mudata
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
import torch
from scipy.stats import mannwhitneyu, norm, spearmanr, ttest_ind
from sklearn.linear_model import LogisticRegression

from scenc.data import Tokenizer
from scenc.model import Model, _explanations

QUIET = {"progress": False}


@pytest.fixture(scope="module")
def model(generative_model):
    return generative_model


@pytest.fixture(scope="module")
def found(model):
    return model.attributions(**QUIET)


@pytest.fixture(scope="module")
def deleted(model):
    return model.delete_genes(["FAKE3", "FAKE10", "FAKE41"], n_matched=6, **QUIET)


def normalised(adata):
    counts = adata.X.toarray()
    return np.log1p(counts / counts.sum(axis=1, keepdims=True) * 1e4)


def plain(adata):
    return anndata.AnnData(adata.X.copy(), adata.obs[["cell_type", "batch"]].copy(), adata.var)


def test_contributions_add_up_to_scores(model, found):
    assert found.table.shape == (60, 3)
    assert found.table.index.tolist() == model.vocabulary.tolist()
    assert found.n_cells.tolist() == [40, 40, 40]
    assert (found.completeness_error < 0.01).all()
    assert (found.accuracy > 0.9).all()
    # Each type's mean change of the score is the sum over genes: from the origin of the path,
    # which is the same for all cells, so that types differ by their cells' scores.
    embedding = model.get_latent_representation(key_added=None)
    types = model.adata.obs["cell_type"].to_numpy()
    directions = pd.DataFrame(np.eye(16)[:3], ["type0", "type1", "type2"])
    parts = model.attributions(classifier=directions, labels_key="cell_type", **QUIET)
    start = -(model.module.center * model.module._unit).detach().numpy()
    for number, name in enumerate(directions.index):
        change = embedding[types == name, number].mean() - start[number]
        assert parts.table[name].sum() == pytest.approx(change, rel=0.02, abs=0.02)


def test_wilcoxon_is_scipys(model, found):
    values = normalised(model.adata)
    inside = (model.adata.obs["cell_type"] == "type1").to_numpy()
    for gene in (0, 20, 59):
        own, others = values[inside, gene], values[~inside, gene]
        test = mannwhitneyu(own, others, use_continuity=False, method="asymptotic")
        z = found.wilcoxon.loc[f"FAKE{gene}", "type1"]
        assert 2 * norm.sf(abs(z)) == pytest.approx(test.pvalue, rel=1e-3, abs=1e-12)
        assert np.sign(z) == np.sign(test.statistic - len(own) * len(others) / 2)


def test_a_given_classifier_explains_what_it_predicts(model):
    embedding = model.get_latent_representation(key_added=None)
    types = model.adata.obs["cell_type"].to_numpy()
    classifier = LogisticRegression(max_iter=1000).fit(embedding, types)
    query = plain(model.adata)
    del query.obs["cell_type"]
    found = model.attributions(query, classifier=classifier, max_cells=10, **QUIET)
    assert found.n_cells.tolist() == [10, 10, 10]
    one = model.attributions(query[[4]].copy(), classifier=classifier, **QUIET)
    assert one.table.columns.tolist() == classifier.predict(embedding[[4]]).tolist()
    assert one.wilcoxon.isna().all(axis=None)
    expressed = query.X[4].toarray()[0] > 0
    assert (one.table.to_numpy()[~expressed] == 0).all()


def test_the_classifier_that_annotates_is_explained(model):
    classifier = model.fit_classifier(labels_key="cell_type", **QUIET)
    table = pd.DataFrame(classifier.directions.weights, classifier.classes)
    options = {"labels_key": "cell_type", "max_cells": 5, **QUIET}
    found = model.attributions(classifier=classifier, **options)
    expected = model.attributions(classifier=table, **options)
    pd.testing.assert_frame_equal(found.table, expected.table, rtol=1e-4, atol=1e-5)
    neighbors = model.fit_classifier(labels_key="cell_type", method="knn", **QUIET)
    with pytest.raises(TypeError, match="method='logreg'"):
        model.attributions(classifier=neighbors, **QUIET)


def test_a_token_of_the_depth_is_kept_along_the_path(make_adata, make_model, train):
    model = train(make_model(make_adata(), depth_token=True, context=None), max_epochs=1)
    embedding = model.get_latent_representation(key_added=None)
    direction = np.random.default_rng(0).normal(size=(2, embedding.shape[1]))
    table = pd.DataFrame(direction, ["a", "b"])
    found = model.attributions(model.adata[:1].copy(), classifier=table, baseline="zero", **QUIET)
    assert found.completeness_error.max() < 0.02
    name = found.table.columns[0]
    # Without its expression a cell is a score that only the network itself knows.
    network, counts = model.module, model.adata.X[:1]
    batch = Tokenizer()(sp.csr_matrix(counts), np.array([0]), np.arange(60))
    genes = network.gene_encoder(batch.genes)
    zero = network.expression_encoder(torch.zeros(1))
    depth = network.depth_token(torch.tensor([float(counts.sum())]))
    with torch.no_grad():
        states = network.transformer(torch.cat([genes + zero, depth[None]], dim=1))[0, :-1]
    change = (embedding[0] - states.mean(dim=0).numpy()) @ table.loc[name]
    assert found.table[name].sum() == pytest.approx(change, rel=0.02, abs=0.02)


def test_masked_models_are_explained_from_the_mask(trained):
    auto = trained.attributions(max_cells=5, **QUIET).table
    by_mask = trained.attributions(max_cells=5, baseline="mask", **QUIET).table
    by_zero = trained.attributions(max_cells=5, baseline="zero", **QUIET).table
    pd.testing.assert_frame_equal(auto, by_mask)
    assert not np.allclose(auto, by_zero)


def test_a_coarse_path_is_warned_of(trained, caplog):
    errors = []
    for n_steps in (1, 100):
        caplog.clear()
        with caplog.at_level(logging.WARNING):
            found = trained.attributions(n_steps=n_steps, max_cells=5, **QUIET)
        errors.append(found.completeness_error.max())
        assert ("raise n_steps" in caplog.text) == (errors[-1] > 0.05)
    assert errors[0] > 0.05 > errors[1]


def test_a_deletion_is_a_count_of_zero(model, deleted):
    before = model.get_latent_representation(key_added=None)
    for name, row in deleted.iterrows():
        query = plain(model.adata)
        counts = query.X.toarray()
        expressed = counts[:, query.var_names.get_loc(name)] > 0
        counts[:, query.var_names.get_loc(name)] = 0
        query.X = sp.csr_matrix(counts)
        after = model.get_latent_representation(query, key_added=None)
        moved = np.linalg.norm(after - before, axis=1)
        assert row["n_cells"] == expressed.sum()
        assert row["shift"] == pytest.approx(moved[expressed].mean(), rel=1e-4)
        assert not moved[~expressed].any()
        values = normalised(model.adata)[:, query.var_names.get_loc(name)]
        assert row["expression"] == pytest.approx(values[expressed].mean(), rel=1e-5)


def test_sensitivity_is_beyond_like_genes(model):
    name, others = "FAKE3", [gene for gene in model.vocabulary if gene != "FAKE3"]
    # Compared with all other genes, whose shifts are asked for one by one.
    row = model.delete_genes(name, n_matched=59, **QUIET).loc[name]
    each = model.delete_genes(others[:30], n_matched=1, **QUIET)["shift"]
    each = pd.concat([each, model.delete_genes(others[30:], n_matched=1, **QUIET)["shift"]])
    assert row["matched_shift"] == pytest.approx(each.mean())
    assert row["sensitivity"] == pytest.approx(row["shift"] - each.mean())
    assert row["percentile"] == pytest.approx(100 * (each < row["shift"]).mean())
    query = plain(model.adata)
    counts = query.X.toarray()
    expressed = counts[:, 3] > 0
    counts[:, 3] = 0
    query.X = sp.csr_matrix(counts)
    moved = model.get_latent_representation(query, key_added=None)
    moved = np.linalg.norm(moved - model.get_latent_representation(key_added=None), axis=1)
    interval = ttest_ind(moved[expressed], each, equal_var=False).confidence_interval(0.95)
    assert (row["low"], row["high"]) == pytest.approx((interval.low, interval.high), rel=1e-3)


def test_matched_genes_are_none_of_those_asked_about(model):
    most = model.vocabulary[:58].tolist()
    table = model.delete_genes(most, n_matched=20, **QUIET)
    pair = model.delete_genes(model.vocabulary[58:].tolist(), n_matched=1, **QUIET)
    np.testing.assert_allclose(table["matched_shift"], pair["shift"].mean(), rtol=1e-5)
    with pytest.raises(ValueError, match="no gene to compare with"):
        model.delete_genes(model.vocabulary.tolist(), **QUIET)


def test_genes_that_no_cell_expresses(model):
    query = plain(model.adata)
    counts = query.X.toarray()
    counts[:, 8] = 0
    query.X = sp.csr_matrix(counts)
    table = model.delete_genes(["FAKE8", "FAKE9"], query, n_matched=3, **QUIET)
    assert table.loc["FAKE8", "n_cells"] == 0
    assert table.loc["FAKE8"].drop("n_cells").isna().all()
    assert table.loc["FAKE9"].notna().all()
    alone = model.delete_genes("FAKE8", query, n_matched=3, **QUIET)
    pd.testing.assert_frame_equal(alone, table.loc[["FAKE8"]], check_dtype=False)


def test_many_genes_are_deleted_as_each_alone(model, monkeypatch):
    names = model.vocabulary[:20].tolist()
    together = model.delete_genes(names, n_matched=40, **QUIET)
    monkeypatch.setattr(_explanations, "_DELETED_TOGETHER", 100)
    in_parts = model.delete_genes(names, n_matched=40, **QUIET)
    pd.testing.assert_frame_equal(in_parts, together, rtol=1e-4)


def test_one_cell_with_missing_genes_and_an_unseen_batch(model):
    query = plain(model.adata)[[5], :50].copy()
    query.obs["batch"] = "elsewhere"
    expressed = query.var_names[query.X.toarray()[0] > 0]
    with pytest.warns(UserWarning, match="lacks 10 of 60 genes"):
        table = model.delete_genes(expressed[:2].tolist(), query, n_matched=5, **QUIET)
    assert table["n_cells"].tolist() == [1, 1]
    assert table["shift"].gt(0).all()
    assert table[["low", "high"]].isna().all(axis=None)
    with pytest.warns(UserWarning, match="lacks 10 of 60 genes"):
        attention = model.get_attention(5, query, **QUIET)
    assert attention.shape == (5, 5)
    assert np.isnan(attention.uns["spearman_with_coexpression"])


def test_draws_are_determined_by_the_seed(model):
    first, again, other = (
        model.delete_genes(["FAKE3"], max_cells=30, seed=seed, **QUIET) for seed in (1, 1, 2)
    )
    assert first.equals(again)
    assert not first.equals(other)


def test_attention_is_the_mean_of_its_maps(trained):
    chosen = ["FAKE7", "FAKE2", "FAKE30"]
    found = trained.get_attention(chosen, indices=range(40), **QUIET)
    assert found.obs_names.tolist() == found.var_names.tolist() == chosen
    counts = trained.adata.X[:40].toarray()
    total, n = np.zeros((3, 3)), np.zeros((3, 3))
    for cell in counts:
        batch = Tokenizer()(sp.csr_matrix(cell[None]), np.array([0]), np.arange(60))
        maps, x = [], trained.module.embed_tokens(batch)
        for block in trained.module.transformer.blocks:
            _, weights = torch.nn.functional.multi_head_attention_forward(
                *[block.attention_norm(x)[0]] * 3,
                16, 2, block.attention.project.weight, block.attention.project.bias,
                None, None, False, 0.0, block.attention.combine.weight,
                block.attention.combine.bias, training=False,
            )  # fmt: skip
            maps.append(weights)
            x = block(x, None)
        mean, genes = torch.stack(maps).mean(dim=0), batch.genes[0].tolist()
        for i, first in enumerate([7, 2, 30]):
            for j, second in enumerate([7, 2, 30]):
                if first in genes and second in genes:
                    total[i, j] += mean[genes.index(first), genes.index(second)].item()
                    n[i, j] += 1
    np.testing.assert_array_equal(found.layers["n_cells"], n)
    np.testing.assert_allclose(found.X, total / n, rtol=1e-4)
    values = normalised(trained.adata)[:40][:, [7, 2, 30]]
    np.testing.assert_allclose(
        found.layers["coexpression"], np.corrcoef(values, rowvar=False), rtol=1e-4
    )


def test_attention_tells_its_correlation_with_coexpression(model, caplog):
    with caplog.at_level(logging.INFO):
        found = model.get_attention(20, **QUIET)
    most = np.sort(np.argsort(-(model.adata.X > 0).sum(axis=0).A1, kind="stable")[:20])
    assert found.obs_names.tolist() == model.vocabulary[most].tolist()
    apart = ~np.eye(20, dtype=bool)
    expected = spearmanr(found.X[apart], found.layers["coexpression"][apart]).statistic
    assert found.uns["spearman_with_coexpression"] == pytest.approx(expected)
    assert f"Spearman correlation {expected:.2f}" in caplog.text


def test_backed_cells_give_the_same(model, found, deleted, tmp_path):
    plain(model.adata).write_h5ad(tmp_path / "cells.h5ad")
    backed = anndata.read_h5ad(tmp_path / "cells.h5ad", backed="r")
    again = model.attributions(backed, **QUIET)
    pd.testing.assert_frame_equal(again.table, found.table, rtol=1e-3, atol=1e-4)
    table = model.delete_genes(deleted.index.tolist(), backed, n_matched=6, **QUIET)
    pd.testing.assert_frame_equal(table, deleted, rtol=1e-4)
    attention = model.get_attention(3, backed, **QUIET)
    np.testing.assert_allclose(attention.X, model.get_attention(3, **QUIET).X, rtol=1e-5)
    backed.file.close()


def test_mudata(make_adata, train):
    mdata = mudata.MuData({"rna": make_adata()})
    Model.setup_mudata(mdata, modalities={"rna_layer": "rna"})
    model = train(Model(mdata, objective="masked", d_model=16, n_layers=1, n_heads=2), max_epochs=1)
    found = model.attributions(labels_key="cell_type", max_cells=3, **QUIET)
    assert found.table.columns.tolist() == ["type0", "type1", "type2"]
    assert model.delete_genes("FAKE1", n_matched=2, **QUIET).shape == (1, 9)
    assert model.get_attention(4, **QUIET).shape == (4, 4)


def test_errors_name_the_fix(model, make_adata, make_model, train):
    with pytest.raises(ValueError, match="Nearest to 'FAKE7X': FAKE7"):
        model.delete_genes(["FAKE3", "FAKE7X"])
    with pytest.raises(ValueError, match="Name at least one gene"):
        model.delete_genes([])
    with pytest.raises(ValueError, match="n_matched must be at least 1"):
        model.delete_genes(["FAKE3"], n_matched=0)
    with pytest.raises(KeyError, match=r"kind.*cell_type"):
        model.attributions(labels_key="kind")
    with pytest.raises(ValueError, match="must be one of 'auto', 'zero', 'mask'"):
        model.attributions(baseline="zeros")
    with pytest.raises(ValueError, match="two types or more.*pass it as classifier"):
        model.attributions(plain(model.adata)[[0]].copy())
    two = pd.DataFrame(np.eye(16)[:2], ["type0", "type1"])
    with pytest.raises(ValueError, match="no type 'type2'; it has type0, type1"):
        model.attributions(classifier=two)
    with pytest.raises(TypeError, match="linear classifier of scikit-learn"):
        model.attributions(classifier="logreg")
    bare = train(make_model(make_adata()), max_epochs=1)
    with pytest.raises(ValueError, match="labels_key=..."):
        bare.attributions()
    with pytest.raises(RuntimeError, match="not trained"):
        make_model(make_adata()).delete_genes(["FAKE3"])
