"""`Model.annotate`, `Model.fit_classifier` and `Model.map`, on all kinds of queries."""

from __future__ import annotations

import anndata
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from mudata import MuData

import scenc
from scenc.tasks import LabelClassifier, map_to_reference

SETUP = {"batch_key": "batch", "labels_key": "cell_type"}
QUIET = {"progress": False}
WRITTEN = ["cell_type_pred", "cell_type_conf", "cell_type_ref_dist"]


@pytest.fixture(scope="module")
def model(make_adata, make_model, train):
    """A model of 120 cells of three types and two batches; its data are not to be changed."""
    return train(make_model(make_adata(), SETUP))


@pytest.fixture
def reference(model):
    return model.adata.copy()


@pytest.fixture
def query(make_adata, make_counts):
    """60 other cells of the same types, of a batch that the model does not know."""
    counts = make_counts(180, seed=0)[120:]
    adata = make_adata(sp.csr_matrix(counts))
    adata.obs["batch"] = "elsewhere"
    return adata


@pytest.fixture(scope="module")
def classifier(model):
    return model.fit_classifier(**QUIET)


def test_a_query_is_named_by_the_classifier_of_its_embedding(model, reference, query):
    result = model.annotate(query, reference, **QUIET)
    labels, batches = reference.obs["cell_type"], reference.obs["batch"]
    cells = model.get_latent_representation(reference, key_added=None)
    expected = LabelClassifier.fit(cells, labels, batches, **QUIET).predict(
        model.get_latent_representation(query, key_added=None)
    )
    assert result.columns.tolist() == WRITTEN
    pd.testing.assert_frame_equal(query.obs[WRITTEN], result)
    assert result["cell_type_pred"].tolist() == expected.labels.tolist()
    categories = result["cell_type_pred"].cat.categories
    assert categories.tolist() == ["type0", "type1", "type2", "Unknown"]
    np.testing.assert_allclose(result["cell_type_conf"], expected.confidence, atol=1e-4)
    np.testing.assert_allclose(result["cell_type_ref_dist"], expected.distance, atol=3)
    table = query.obsm["cell_type_prob"]
    assert table.columns.tolist() == ["type0", "type1", "type2"]
    assert table.index.equals(query.obs_names)
    np.testing.assert_allclose(table, expected.probabilities, atol=1e-4)
    assert "X_scenc" not in query.obsm


def test_what_is_known_is_found(make_adata, make_model, train, make_counts):
    """Cells of three kinds that differ clearly are named right."""
    counts = make_counts(360, 60, seed=3)
    adata = make_adata(sp.csr_matrix(counts[:240]))
    model = train(make_model(adata, SETUP, gene_init="spectral"), max_epochs=8)
    query = make_adata(sp.csr_matrix(counts[240:]))
    result = model.annotate(query, unknown_threshold=0, distance_threshold=100, **QUIET)
    right = result["cell_type_pred"].astype(str) == query.obs["cell_type"].astype(str)
    assert right.mean() > 0.8


@pytest.mark.parametrize("method", ["logreg", "knn"])
def test_results_survive_a_file(model, query, tmp_path, method):
    model.annotate(query, method=method, majority_voting=True, **QUIET)
    query.write_h5ad(tmp_path / "named.h5ad")
    read = anndata.read_h5ad(tmp_path / "named.h5ad")
    pd.testing.assert_frame_equal(read.obs, query.obs)
    pd.testing.assert_frame_equal(read.obsm["cell_type_prob"], query.obsm["cell_type_prob"])
    record = read.uns["scenc"]["annotate"]["cell_type"]
    assert record["scenc"] == scenc.__version__
    assert record["method"] == method
    assert record["labels_key"] == "cell_type"
    assert record["unknown_threshold"] == 0.5
    assert record["n_reference"] == 120
    # What an earlier call wrote may be replaced, after a file as well.
    model.annotate(read, method=method, majority_voting=True, **QUIET)


def test_users_columns_are_never_overwritten(model, query, classifier):
    query.obs["cell_type_conf"] = "mine"
    with pytest.raises(ValueError, match=r"obs\['cell_type_conf'\] already.*key_added"):
        model.annotate(query, classifier=classifier, **QUIET)
    assert "cell_type_pred" not in query.obs
    model.annotate(query, classifier=classifier, key_added="scenc", **QUIET)
    assert (query.obs["cell_type_conf"] == "mine").all()
    assert {"scenc_pred", "scenc_conf", "scenc_ref_dist"} <= set(query.obs)
    query.obsm["other_prob"] = np.zeros((60, 1))
    with pytest.raises(ValueError, match="other_prob"):
        model.annotate(query, classifier=classifier, key_added="other", **QUIET)


def test_uns_of_the_users_is_left_alone(model, query, classifier):
    query.uns["scenc"] = "mine"
    with pytest.raises(ValueError, match="taken by something else"):
        model.annotate(query, classifier=classifier, **QUIET)
    assert "cell_type_pred" not in query.obs
    query.uns["scenc"] = {"embedding": {"kept": 1}}
    model.annotate(query, classifier=classifier, **QUIET)
    assert query.uns["scenc"]["embedding"] == {"kept": 1}


def test_clusters_of_the_users_vote(model, query, classifier):
    query.obs["cluster"] = np.repeat(["a", "b"], 30)
    result = model.annotate(query, classifier=classifier, majority_voting="cluster", **QUIET)
    for name in ("a", "b"):
        own = result[(query.obs["cluster"] == name).to_numpy()]
        assert own["cell_type_majority"].nunique() == 1
        counts = own["cell_type_pred"].value_counts()
        assert counts[own["cell_type_majority"].iloc[0]] == counts.max()
    with pytest.raises(KeyError, match="query.obs has no column 'leiden'.*cluster"):
        model.annotate(query, classifier=classifier, majority_voting="leiden", **QUIET)


def test_cells_without_a_label_are_told(model, reference, query):
    reference.obs["cell_type"] = reference.obs["cell_type"].astype(object)
    reference.obs.iloc[:7, reference.obs.columns.get_loc("cell_type")] = None
    with pytest.warns(UserWarning, match="7 of 120 cells of the reference have no label"):
        classifier = model.fit_classifier(reference, **QUIET)
    assert classifier.n_unlabelled == 7
    assert len(classifier.codes) == 113


def test_the_training_data_can_be_both(model):
    kept = model.adata.copy()
    try:
        model.annotate(**QUIET)
        assert {*WRITTEN} <= set(model.adata.obs)
    finally:
        model.adata.obs = kept.obs
        del model.adata.obsm["cell_type_prob"], model.adata.uns["scenc"]


def test_one_cell(model, query, classifier):
    whole = model.annotate(query.copy(), classifier=classifier, **QUIET)
    one = query[5:6].copy()
    alone = model.annotate(one, classifier=classifier, majority_voting=True, **QUIET)
    assert alone["cell_type_pred"].iloc[0] == whole["cell_type_pred"].iloc[5]
    assert alone["cell_type_majority"].iloc[0] == alone["cell_type_pred"].iloc[0]
    np.testing.assert_allclose(alone["cell_type_conf"], whole["cell_type_conf"].iloc[5], atol=1e-4)
    model.map(one, model.adata.copy(), **QUIET)
    assert one.obsm["X_umap_joint"].shape == (1, 2)


def test_missing_genes_and_genes_in_another_order(model, query, classifier):
    whole = model.annotate(query.copy(), classifier=classifier, **QUIET)
    order = np.random.default_rng(0).permutation(60)
    shuffled = model.annotate(query[:, order].copy(), classifier=classifier, **QUIET)
    np.testing.assert_allclose(shuffled["cell_type_conf"], whole["cell_type_conf"], atol=1e-4)
    part = query[:, :50].copy()
    with pytest.warns(UserWarning, match="adata lacks"):
        found = model.annotate(part, classifier=classifier, **QUIET)
    assert len(found) == 60
    foreign = query.copy()
    foreign.var_names = [f"OTHER{i}" for i in range(60)]
    with pytest.raises(ValueError, match="Too few genes"):
        model.annotate(foreign, classifier=classifier, **QUIET)


def test_a_cell_without_counts_is_unknown(model, query, classifier):
    counts = query.X.toarray()
    counts[3] = 0
    query.X = sp.csr_matrix(counts)
    with pytest.warns(UserWarning, match="1 cells of the query have no counts"):
        result = model.annotate(query, classifier=classifier, unknown_threshold=0, **QUIET)
    assert result["cell_type_pred"].iloc[3] == "Unknown"
    assert result["cell_type_conf"].iloc[3] == 0


def test_backed_files(model, reference, query, tmp_path):
    expected = model.annotate(query.copy(), reference, **QUIET)
    query.write_h5ad(tmp_path / "query.h5ad")
    model.adata.copy().write_h5ad(tmp_path / "reference.h5ad")
    backed = anndata.read_h5ad(tmp_path / "query.h5ad", backed="r")
    other = anndata.read_h5ad(tmp_path / "reference.h5ad", backed="r")
    found = model.annotate(backed, other, **QUIET)
    assert backed.isbacked
    pd.testing.assert_frame_equal(found, expected, atol=1e-4)
    assert "cell_type_prob" in backed.obsm
    other.obsm["X_umap"] = np.random.default_rng(0).normal(size=(120, 2))
    model.map(backed, other, **QUIET)
    assert backed.obsm["X_umap_joint"].shape == (60, 2)
    backed.file.close()
    other.file.close()


def test_mudata(model, reference, query, tmp_path):
    expected = model.annotate(query.copy(), reference, **QUIET)
    proteins = anndata.AnnData(np.ones((60, 2)), pd.DataFrame(index=query.obs_names))
    mdata = MuData({"rna": query, "protein": proteins})
    labelled = MuData({"rna": reference})
    found = model.annotate(mdata, labelled, **QUIET)
    pd.testing.assert_frame_equal(found, expected, atol=1e-4)
    assert {*WRITTEN} <= set(mdata.obs)
    assert "cell_type_prob" in mdata.obsm
    model.map(mdata, labelled, **QUIET)
    assert labelled.obsm["X_umap_joint"].shape == (120, 2)
    mdata.write_h5mu(tmp_path / "named.h5mu")


def test_views_and_other_things_are_refused(model, query, classifier):
    with pytest.raises(ValueError, match=r"query is a view.*copy\(\)"):
        model.annotate(query[:10], classifier=classifier, **QUIET)
    with pytest.raises(TypeError, match=r"query takes AnnData or MuData, got str.*read_counts"):
        model.annotate("query.h5ad", classifier=classifier, **QUIET)
    with pytest.raises(KeyError, match=r"reference.obs has no column 'celltype'.*labels_key"):
        model.annotate(query, query.copy(), labels_key="celltype", **QUIET)
    with pytest.raises(TypeError, match="reference would fit another classifier"):
        model.annotate(query, query.copy(), classifier=classifier, **QUIET)


def test_a_model_without_data_names_what_to_pass(model, query, classifier, tmp_path):
    model.save(tmp_path / "model")
    classifier.save(tmp_path / "model" / "classifiers" / "cell_type")
    loaded = scenc.Model.load(tmp_path / "model")
    with pytest.raises(ValueError, match="pass reference=..., or a saved classifier"):
        loaded.annotate(query, **QUIET)
    expected = model.annotate(query.copy(), classifier=classifier, **QUIET)
    path = tmp_path / "model" / "classifiers" / "cell_type"
    found = loaded.annotate(query, classifier=path, **QUIET)
    pd.testing.assert_frame_equal(found, expected, atol=1e-5)


def test_a_classifier_of_another_model_is_refused(make_adata, make_model, train, query, classifier):
    other = train(make_model(make_adata(), SETUP, seed=1))
    with pytest.raises(ValueError, match="embeddings of another model.*fit_classifier"):
        other.annotate(query, classifier=classifier, **QUIET)


def test_an_untrained_model_is_refused(make_adata, make_model, query):
    with pytest.raises(RuntimeError, match="not trained"):
        make_model(make_adata(), SETUP).annotate(query, **QUIET)


def test_embeddings_that_are_there_are_taken(model, reference, query, classifier, monkeypatch):
    expected = model.annotate(query.copy(), reference, **QUIET)
    for adata in (reference, query):
        model.get_latent_representation(adata)
    monkeypatch.setattr("scenc.model._annotation.apply_to_cells", None)
    found = model.annotate(query, reference, use_rep="X_scenc", **QUIET)
    pd.testing.assert_frame_equal(found, expected, atol=1e-4)
    query.obsm["X_pca"] = np.ones((60, 3))
    with pytest.raises(ValueError, match=r"obsm\['X_pca'\] has shape \(60, 3\)"):
        model.annotate(query, classifier=classifier, use_rep="X_pca", **QUIET)


def test_a_query_is_laid_on_the_references_own_map(model, reference, query, tmp_path):
    reference.obsm["X_umap"] = np.random.default_rng(0).normal(size=(120, 2))
    model.map(query, reference, **QUIET)
    expected = map_to_reference(
        model.get_latent_representation(reference, key_added=None),
        model.get_latent_representation(query, key_added=None),
        reference.obsm["X_umap"],
        reference.obs["batch"],
    )
    np.testing.assert_allclose(reference.obsm["X_umap_joint"], reference.obsm["X_umap"], rtol=1e-6)
    np.testing.assert_allclose(query.obsm["X_umap_joint"], expected.query, atol=1e-3)
    np.testing.assert_allclose(query.obs["mapping_score"], expected.score, atol=0.02)
    assert query.uns["scenc"]["map"]["placed_by"] == "neighbors"
    for adata in (query, reference):
        adata.write_h5ad(tmp_path / "mapped.h5ad")
    # Again, over what it wrote.
    model.map(query, reference, **QUIET)


def test_a_map_is_fitted_where_the_reference_has_none(model, reference, query):
    model.map(query, reference, **QUIET)
    assert reference.uns["scenc"]["map"]["placed_by"] == "umap"
    assert reference.obsm["X_umap_joint"].shape == (120, 2)
    assert "X_umap" not in reference.obsm
    assert np.isfinite(query.obsm["X_umap_joint"]).all()


def test_maps_of_the_users_are_never_overwritten(model, reference, query):
    query.obs["mapping_score"] = 1.0
    with pytest.raises(ValueError, match=r"query has obs\['mapping_score'\] already"):
        model.map(query, reference, **QUIET)
    reference.obsm["X_umap_joint"] = np.zeros((120, 2))
    with pytest.raises(ValueError, match=r"reference has obsm\['X_umap_joint'\] already"):
        model.map(query[:, :].copy(), reference, **QUIET)
    with pytest.raises(ValueError, match="query is the reference itself"):
        model.map(reference, reference, **QUIET)


def test_names_with_slashes_survive_a_file(model, reference, query, tmp_path):
    names = {"type0": "B/plasma", "type1": "T", "type2": "NK"}
    reference.obs["cell_type"] = reference.obs["cell_type"].astype(str).map(names)
    model.annotate(query, reference, **QUIET)
    query.write_h5ad(tmp_path / "named.h5ad")
    read = anndata.read_h5ad(tmp_path / "named.h5ad")
    assert read.obsm["cell_type_prob"].columns.tolist() == ["B|plasma", "NK", "T"]
    assert "B/plasma" in read.obs["cell_type_pred"].cat.categories
    with pytest.raises(ValueError, match="has a slash, which files cannot hold"):
        model.annotate(query, reference, key_added="a/b", **QUIET)
