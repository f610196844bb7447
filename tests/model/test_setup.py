from __future__ import annotations

from functools import partial
from pathlib import Path

import anndata
import mudata
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

from scenc.model import Model

# Data of more cells than one chunk of the check holds.
N_MANY = 4200


def log_normalized(counts):
    return np.log1p(counts / counts.sum(axis=1, keepdims=True) * 1e4).astype(np.float32)


@pytest.fixture(params=["setup", "query"])
def offer(request, trained):
    """Hand data to the package, as those of a model or as those of a query."""
    if request.param == "setup":
        return Model.setup_anndata
    return lambda adata: trained.get_latent_representation(adata, key_added=None)


@pytest.mark.parametrize("value", [np.nan, np.inf, -1.0])
@pytest.mark.parametrize("convert", [sp.csr_matrix, np.asarray])
def test_unusable_values_are_refused_wherever_they_are(
    make_adata, make_counts, offer, value, convert
):
    counts = make_counts(N_MANY, 60)
    counts[-1, -1] = value
    with pytest.raises(ValueError, match=rf"(?s)cell{N_MANY - 1}.*FAKE59.*raw counts"):
        offer(make_adata(convert(counts)))


def test_log_normalised_values_are_refused(make_adata, make_counts, offer):
    adata = make_adata(sp.csr_matrix(log_normalized(make_counts())))
    with pytest.raises(ValueError, match=r"adata\.X looks log-normalised.*layer='counts'"):
        offer(adata)


def test_fractions_are_warned_about(make_adata, make_counts, offer):
    counts = make_counts()
    counts[-1, 3] = 1.5
    with pytest.warns(UserWarning, match=r"1 values that are not integers.*'cell119'.*'FAKE3'"):
        offer(make_adata(sp.csr_matrix(counts)))


def test_duplicate_genes_are_refused(make_adata, offer):
    with pytest.warns(UserWarning, match="Variable names are not unique"):
        adata = make_adata(var=pd.DataFrame(index=[f"FAKE{max(i, 2)}" for i in range(60)]))
    with pytest.raises(ValueError, match=r"1 genes more than once, for example FAKE2"):
        offer(adata)


def test_no_cells_are_refused(adata, offer):
    with pytest.raises(ValueError, match="no cells"):
        offer(adata[:0].copy())


def test_data_without_counts_are_refused(adata):
    adata.layers["counts"] = adata.X
    adata.X = None
    with pytest.raises(ValueError, match=r"adata\.X is empty: name the layer"):
        Model.setup_anndata(adata)
    Model.setup_anndata(adata, layer="counts")


def test_a_view_is_refused_at_setup(adata):
    with pytest.raises(ValueError, match=r"adata\.copy\(\)"):
        Model.setup_anndata(adata[:50])


def test_repeated_cell_names_are_warned_about(make_adata):
    with pytest.warns(UserWarning, match="Observation names are not unique"):
        adata = make_adata(obs=pd.DataFrame(index=["same"] * 120))
    with pytest.warns(UserWarning, match="obs_names are not unique"):
        Model.setup_anndata(adata)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"layer": "counts"}, r"'counts' \(there: 'raw'\)"),
        ({"batch_key": "plate"}, "plate"),
        ({"labels_key": "kind"}, "kind"),
        ({"gene_ids": "ensembl_id"}, r"'ensembl_id' \(there: symbol\)"),
    ],
)
def test_missing_keys_are_named(adata, arguments, message):
    adata.layers["raw"] = adata.X
    adata.var["symbol"] = adata.var_names
    with pytest.raises(KeyError, match=message):
        Model.setup_anndata(adata, **arguments)


@pytest.mark.parametrize("bad", ["", np.nan])
def test_genes_without_an_identifier_are_refused(adata, bad):
    adata.var["symbol"] = adata.var_names.to_numpy(dtype=object)
    adata.var.iloc[7, 0] = bad
    with pytest.raises(ValueError, match=r"adata\.var\['symbol'\] has 1 empty .* position 7"):
        Model.setup_anndata(adata, gene_ids="symbol")


def test_unknown_setup_arguments_are_refused(adata):
    with pytest.raises(TypeError, match="batch"):
        Model.setup_anndata(adata, batch="batch")


def test_a_model_needs_data_that_were_set_up(make_adata):
    with pytest.raises(ValueError, match="setup_anndata"):
        Model(make_adata())


def test_annbatch_is_not_offered():
    with pytest.raises(NotImplementedError, match="setup_annbatch"):
        Model.setup_annbatch()


def test_keys_are_registered(adata, capsys):
    Model.setup_anndata(adata, batch_key="batch", labels_key="cell_type")
    model = Model(adata, d_model=8, n_heads=2)
    assert model.summary_stats.n_cells == 120
    assert model.summary_stats.n_vars == 60
    assert model.summary_stats.n_batch == 2
    assert model.summary_stats.n_labels == 3
    assert model.vocabulary.tolist() == adata.var_names.tolist()
    # scvi-tools prints in place of returning a text.
    assert f"{model!r}{capsys.readouterr().out}".count("8 wide") == 1


def test_counts_and_names_may_be_elsewhere(adata, make_model, train):
    plain = train(make_model(adata.copy()))
    moved = adata.copy()
    moved.layers["counts"] = moved.X
    moved.X = sp.csr_matrix(log_normalized(adata.X.toarray()))
    moved.var["symbol"] = moved.var_names
    moved.var_names = [f"ENSX{i}" for i in range(60)]
    model = train(make_model(moved, {"layer": "counts", "gene_ids": "symbol"}))
    assert model.vocabulary.tolist() == plain.vocabulary.tolist()
    np.testing.assert_array_equal(
        model.get_latent_representation(), plain.get_latent_representation()
    )


@pytest.fixture
def mdata(make_adata, make_counts):
    proteins = make_adata(sp.csr_matrix(make_counts(120, 5, seed=1)))
    proteins.var_names = [f"protein{i}" for i in range(5)]
    return mudata.MuData({"gex": make_adata(), "adt": proteins})


def test_mudata_without_the_modality_is_refused(mdata):
    with pytest.raises(ValueError, match=r"no modality 'rna' \(there: gex, adt\)"):
        Model.setup_mudata(mdata)


def test_mudata_train_and_embed(mdata, adata, make_model, train):
    modalities = {"rna_layer": "gex", "batch_key": "gex", "labels_key": "gex"}
    Model.setup_mudata(mdata, batch_key="batch", labels_key="cell_type", modalities=modalities)
    tiny = {"d_model": 16, "n_layers": 1, "n_heads": 2, "context": 20, "expression_hidden": 16}
    model = train(Model(mdata, objective="masked", **tiny))

    embedding = model.get_latent_representation()

    np.testing.assert_array_equal(mdata.obsm["X_scenc"], embedding)
    assert model.summary_stats.n_labels == 3
    # The same counts in an AnnData make the same model, and are embedded by it alike.
    plain = train(make_model(adata, **{**tiny, "d_feedforward": 128}))
    np.testing.assert_array_equal(plain.get_latent_representation(), embedding)
    np.testing.assert_array_equal(model.get_latent_representation(adata.copy()), embedding)
    np.testing.assert_array_equal(plain.get_latent_representation(mdata["gex"].copy()), embedding)


@pytest.mark.parametrize("value", [np.nan, -1.0])
def test_mudata_counts_are_checked(mdata, value):
    mdata["gex"].X.data[5] = value
    with pytest.raises(ValueError, match=r"'cell0'.*raw counts"):
        Model.setup_mudata(mdata, modalities={"rna_layer": "gex"})


def test_mudata_query_without_the_modality_is_refused(trained, mdata):
    with pytest.raises(ValueError, match="no modality 'rna'"):
        trained.get_latent_representation(mdata)


def test_anndata_is_left_as_it_was(adata):
    before = adata.copy()
    Model.setup_anndata(adata)
    assert (adata.X != before.X).nnz == 0
    pd.testing.assert_frame_equal(adata.var, before.var)
    assert isinstance(adata, anndata.AnnData)


@pytest.mark.parametrize("dtype", [int, float, str, "category", "Int64"])
def test_batches_and_labels_are_known_by_name(adata, dtype):
    adata.obs["plate"] = pd.Series(np.arange(120) % 3, adata.obs_names).astype(dtype)
    Model.setup_anndata(adata, batch_key="plate", labels_key="plate")
    registry = Model(adata, d_model=8, n_heads=2).registry_["field_registries"]
    for name in ("batch", "labels"):
        mapping = registry[name]["state_registry"]["categorical_mapping"]
        assert mapping.tolist() == ["0", "1", "2"]
        assert adata.obs[f"_scvi_{name}"].tolist() == (np.arange(120) % 3).tolist()


def test_data_of_another_type_have_the_same_batches(adata, make_model):
    adata.obs["plate"] = np.arange(120) % 3
    model = make_model(adata.copy(), {"batch_key": "plate"})
    adata.obs["plate"] = pd.Categorical((2 + np.arange(120) % 2).astype(str))
    model.attach(adata)
    mapping = model.adata_manager.get_state_registry("batch").categorical_mapping
    assert mapping.tolist() == ["0", "1", "2", "3"]
    assert set(adata.obs["_scvi_batch"]) == {2, 3}


def test_labels_may_be_missing_and_batches_may_not(adata, make_model, train):
    adata.obs["kind"] = np.where(np.arange(120) < 5, None, "T cell")
    model = train(make_model(adata, {"labels_key": "kind"}))
    assert model.summary_stats.n_labels == 1
    assert adata.obs["_scvi_labels"].tolist() == [-1] * 5 + [0] * 115
    with pytest.raises(ValueError, match=r"5 of 120 cells have no batch.*obs\['kind'\].*fillna"):
        Model.setup_anndata(adata, batch_key="kind")


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ([1] * 120, "120 batches for 120 cells: it looks like cells' barcodes"),
        ([110, 1, 2, 3, 4], "3 of 5 batches .* have fewer than 4 cells; they are taken together"),
        ([118, 1, 1], "2 of 3 batches"),
    ],
)
def test_small_batches_are_trained_on_with_one_warning(adata, train, sizes, message):
    adata.obs["sample"] = np.repeat(np.arange(len(sizes)), sizes)
    with pytest.warns(UserWarning, match=message) as warned:
        Model.setup_anndata(adata, batch_key="sample")
    assert len(warned) == 1
    sizes = {"d_model": 8, "n_heads": 2, "n_layers": 1, "d_feedforward": 16}
    model = train(Model(adata, n_top_genes=30, **sizes), max_epochs=1)
    assert np.isfinite(model.get_latent_representation()).all()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda adata: "cells.h5ad", r"got str. Read the file first: scenc.datasets.read_counts"),
        (lambda adata: Path("cells.h5ad"), r"got \w*Path. Read the file first"),
        (lambda adata: mudata.MuData({"rna": adata}), "got MuData. Use scenc.Model.setup_mudata"),
        (lambda adata: adata.to_df(), r"got DataFrame. .* anndata.AnnData\(table\)"),
        (lambda adata: adata.X, r"got csr_\w+. anndata.AnnData\(counts"),
        (lambda adata: None, "got NoneType"),
    ],
)
def test_what_is_no_anndata_is_named_with_the_remedy(adata, make, message):
    with pytest.raises(TypeError, match=f"setup_anndata takes AnnData, {message}"):
        Model.setup_anndata(make(adata))


def test_wrong_objects_are_named_wherever_cells_are_taken(adata, trained):
    with pytest.raises(TypeError, match="takes MuData, got AnnData. Use scenc.Model.setup_anndata"):
        Model.setup_mudata(adata)
    for method in (
        trained.get_latent_representation,
        trained.get_reconstruction_error,
        trained.gene_coverage,
        partial(trained.predict_expression, genes=["FAKE1"]),
    ):
        with pytest.raises(TypeError, match="takes AnnData or MuData, got str. Read the file"):
            method("cells.h5ad")
    with pytest.raises(TypeError, match="got str"):
        trained.attach("cells.h5ad")
    with pytest.raises(TypeError, match="got DataFrame"):
        trained.get_latent_representation(adata.to_df())


def test_dense_half_precision_is_taken_for_what_it_is(adata, trained, tmp_path):
    expected = trained.get_latent_representation(adata, key_added=None)
    half = adata.copy()
    half.X = adata.X.toarray().astype(np.float16)
    np.testing.assert_array_equal(trained.get_latent_representation(half), expected)
    half.write_h5ad(tmp_path / "half.h5ad")
    (path,) = trained.embed_files([tmp_path / "half.h5ad"], tmp_path / "out", progress=False)
    found = anndata.read_h5ad(path).obsm["X_scenc"]
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_cells_that_are_opened_lazily_are_named_with_the_remedy(adata, trained, tmp_path):
    from anndata.experimental import read_lazy

    adata.write_h5ad(tmp_path / "cells.h5ad")
    lazy = read_lazy(tmp_path / "cells.h5ad")
    for take in (Model.setup_anndata, trained.get_latent_representation):
        with pytest.raises(TypeError, match=r"opened lazily: use adata.to_memory\(\)"):
            take(lazy)


def test_values_scaled_to_one_depth_are_warned_about(adata):
    values = adata.X.toarray()
    adata.X = np.rint(values / values.sum(axis=1, keepdims=True) * 1e6)
    with pytest.warns(UserWarning, match=r"adata.X have next to the same total \(.*CPM"):
        Model.setup_anndata(adata)


def test_a_matrix_of_genes_x_cells_is_warned_about(make_adata):
    rng = np.random.default_rng(0)
    barcodes = ["".join(rng.choice([*"ACGT"], 16)) + "-1" for _ in range(60)]
    turned = make_adata(var=pd.DataFrame(index=barcodes))
    with pytest.warns(UserWarning, match="60 of 60 genes are named like barcodes of cells"):
        Model.setup_anndata(turned)
