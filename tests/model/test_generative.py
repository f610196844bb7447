from __future__ import annotations

import mudata
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
import scipy.stats
import torch
from lightning.pytorch import Callback

from scenc._threads import kept_threads
from scenc.model import Model
from scenc.train import NonFiniteLossError

N_CELLS, N_GENES, N_TYPES, N_MARKERS = 150, 40, 3, 4
SIZES = {
    "objective": "generative",
    "d_model": 16,
    "n_heads": 2,
    "d_feedforward": 32,
    "expression_hidden": 16,
    "decoder_hidden": 32,
}
TRAINING = {
    "max_epochs": 2,
    "batch_size": 32,
    "n_neighbors": 5,
    "accelerator": "cpu",
    "enable_progress_bar": False,
}
KEYS = {"batch_key": "batch", "labels_key": "cell_type"}


def markers(kind):
    """Return positions of the genes that are high in a cell type."""
    return np.arange(kind * N_MARKERS, (kind + 1) * N_MARKERS)


@pytest.fixture(scope="module")
def make_cells(make_adata):
    """Return a maker of cells of three types with markers, from two batches that differ."""

    def make(n_cells=N_CELLS, seed=0):
        world, rng = np.random.default_rng(0), np.random.default_rng(seed)
        profiles = np.tile(world.gamma(2.0, 1.0, N_GENES), (N_TYPES, 1))
        for kind in range(N_TYPES):
            profiles[kind, markers(kind)] *= 10
        batch_effect = np.stack([np.ones(N_GENES), world.lognormal(0, 0.6, N_GENES)])
        numbers = np.arange(n_cells)
        mean = profiles[numbers % N_TYPES] * batch_effect[numbers % 2]
        counts = rng.poisson(mean * rng.uniform(0.5, 1.5, (n_cells, 1)))
        return make_adata(sp.csr_matrix(counts.astype(np.float32)))

    return make


@pytest.fixture
def cells(make_cells):
    return make_cells()


def make_model(cells, keys=KEYS, **settings):
    Model.setup_anndata(cells, **keys)
    return Model(cells, **{**SIZES, **settings})


def train(model, **settings):
    model.train(**{**TRAINING, **settings})
    return model


@pytest.fixture(scope="module")
def model(make_cells):
    """A model that has learned; not to be trained on or changed."""
    return train(make_model(make_cells()), max_epochs=40, lr=5e-3)


def parts(model):
    """Return the mean and log-variance of each training cell's z, and the batches as numbers."""
    embedding = torch.from_numpy(model.get_latent_representation(key_added=None))
    with torch.no_grad():
        z = model.module.bottleneck(embedding)
    return *z, torch.from_numpy(model.adata.obs["batch"].cat.codes.to_numpy(np.int64))[:, None]


def decode(model, z, codes):
    with torch.no_grad():
        return model.module.count_decoder(z, codes).log_share.exp().numpy()


# Training


def test_training_lowers_the_loss_of_counts(model):
    counts = model.history["count_loss_validation"]["count_loss_validation"]
    assert counts.iloc[-1] < 0.98 * counts.iloc[0]
    for name in ("validation_loss", "kl_validation", "contrast_loss_validation"):
        assert np.isfinite(model.history[name]).all(axis=None)


def test_equal_seeds_give_equal_weights(cells, weights_of):
    one, two, other = (weights_of(train(make_model(cells, seed=seed))) for seed in (1, 1, 2))
    assert all(np.array_equal(one[name], two[name]) for name in one)
    assert not np.array_equal(
        one["count_decoder.hidden.weight"], other["count_decoder.hidden.weight"]
    )


def test_every_weight_of_the_terms_learns(cells, weights_of):
    model = make_model(cells)
    before = weights_of(model)
    after = weights_of(train(model, masked_weight=1.0, anchor_weight=1.0))
    assert not [name for name in before if np.array_equal(before[name], after[name])]


@pytest.mark.parametrize("likelihood", ["nb", "zinb"])
def test_a_saved_model_says_the_same(cells, tmp_path, likelihood):
    model = train(make_model(cells, likelihood=likelihood))
    assert np.isfinite(model.history["train_loss"]).all(axis=None)
    model.save(tmp_path / "model")
    loaded = Model.load(tmp_path / "model", cells)
    assert loaded.covariates == model.covariates
    np.testing.assert_array_equal(loaded.get_elbo(), model.get_elbo())
    expected = model.get_normalized_expression()
    pd.testing.assert_frame_equal(loaded.get_normalized_expression(), expected)


def test_without_partners_and_anchor_no_neighbours_are_needed(make_cells):
    # Two cells to train on have none.
    few = make_cells(3)
    Model.setup_anndata(few)
    model = train(Model(few, **SIZES), same_cell=1.0, validation_size=0.3)
    assert np.isfinite(model.get_elbo()).all()


def test_a_loss_that_is_nan_leaves_the_last_good_weights(cells, weights_of):
    class Poison(Callback):
        def on_train_epoch_start(self, trainer, pl_module):
            if trainer.current_epoch == 1:
                pl_module.network.count_decoder.log_dispersion.data.fill_(torch.nan)

    model = make_model(cells)
    with pytest.raises(NonFiniteLossError) as caught:
        train(model, callbacks=[Poison()])
    assert caught.value.step == len(model.history["train_loss"])
    assert all(np.isfinite(weight).all() for weight in weights_of(model).values())
    assert np.isfinite(model.get_elbo()).all()


# Expression


def test_expression_is_decoded_from_the_embedding(model):
    z, _, codes = parts(model)
    found = model.get_normalized_expression()
    assert list(found.index) == list(model.adata.obs_names)
    assert list(found.columns) == list(model.vocabulary)
    np.testing.assert_allclose(found, decode(model, z, codes), rtol=1e-4)


def test_expression_adds_up_to_the_library_size(model):
    np.testing.assert_allclose(model.get_normalized_expression().sum(axis=1), 1, rtol=1e-4)
    scaled = model.get_normalized_expression(library_size=1e4, return_numpy=True)
    np.testing.assert_allclose(scaled.sum(axis=1), 1e4, rtol=1e-4)
    observed = model.get_normalized_expression(library_size="observed")
    np.testing.assert_allclose(observed.sum(axis=1), model.adata.X.toarray().sum(axis=1), rtol=1e-4)


def test_genes_and_cells_come_as_asked(model):
    whole = model.get_normalized_expression()
    genes, rows = ["FAKE7", "FAKE30", "FAKE2"], [5, 2, 9]
    found = model.get_normalized_expression(gene_list=genes, indices=rows, batch_size=2)
    pd.testing.assert_frame_equal(found, whole.iloc[rows][genes], rtol=1e-4)
    one = model.get_normalized_expression(gene_list="FAKE7")
    pd.testing.assert_frame_equal(one, whole[["FAKE7"]], rtol=1e-4)
    with pytest.raises(ValueError, match=r"1 of 2 genes are not in the model's vocabulary: nope"):
        model.get_normalized_expression(gene_list=["FAKE7", "nope"])


def test_cells_are_decoded_as_of_a_batch(model):
    z, _, codes = parts(model)
    as_batch = [decode(model, z, torch.full_like(codes, batch)) for batch in range(2)]
    for asked, expected in [
        ("donor1", as_batch[1]),
        (1, as_batch[1]),
        (np.int64(0), as_batch[0]),
        (["donor0", 1], np.mean(as_batch, axis=0)),
        ([None], decode(model, z, codes)),
    ]:
        found = model.get_normalized_expression(transform_batch=asked)
        np.testing.assert_allclose(found, expected, rtol=1e-4, err_msg=repr(asked))
    assert np.abs(np.log(as_batch[0] / as_batch[1])).max() > 0.1


@pytest.mark.parametrize("unknown", ["donor9", 2, -1, ["donor0", "donor9"]])
def test_an_unknown_batch_to_decode_as_is_refused(model, unknown):
    with pytest.raises(ValueError, match=r"no batch that the model was trained on: donor0, do"):
        model.get_normalized_expression(transform_batch=unknown)


@pytest.mark.parametrize("obs", [{"batch": "new"}, {}], ids=["unseen", "without"])
def test_cells_of_unknown_batches_are_decoded_as_the_mean_over_known_ones(model, cells, obs):
    query = cells[:20].copy()
    query.obs = pd.DataFrame(obs, index=query.obs_names)
    expected = model.get_normalized_expression(indices=range(20), transform_batch=[0, 1])
    pd.testing.assert_frame_equal(model.get_normalized_expression(query), expected, rtol=1e-4)
    assert np.isfinite(model.get_elbo(query)).all()


def test_known_and_unknown_batches_go_together(model, cells):
    query = cells[:20].copy()
    query.obs["batch"] = ["donor1" if i < 10 else "new" for i in range(20)]
    found = model.get_normalized_expression(query)
    for rows, batch in ((range(10), "donor1"), (range(10, 20), [0, 1])):
        expected = model.get_normalized_expression(indices=rows, transform_batch=batch)
        pd.testing.assert_frame_equal(found.iloc[rows], expected, rtol=1e-4)


def test_draws_of_z(model):
    asked = {"indices": range(30), "n_samples": 200, "gene_list": ["FAKE0", "FAKE5"]}
    torch.manual_seed(0)
    draws = model.get_normalized_expression(**asked, return_mean=False)
    torch.manual_seed(0)
    mean = model.get_normalized_expression(**asked)
    assert draws.shape == (200, 30, 2)
    np.testing.assert_allclose(draws.mean(axis=0), mean, rtol=1e-4)
    z_mean, log_variance, codes = parts(model)
    z_mean, log_variance, codes = z_mean[:30], log_variance[:30], codes[:30]
    torch.manual_seed(1)
    expected = np.stack(
        [
            decode(model, z_mean + torch.randn_like(z_mean) * (log_variance / 2).exp(), codes)
            for _ in range(200)
        ]
    )[:, :, model.vocabulary.get_indexer(["FAKE0", "FAKE5"])]
    # Other draws of the same distribution.
    error = expected.std(axis=0) * np.sqrt(2 / 200)
    assert np.all(np.abs(mean - expected.mean(axis=0)) < 5 * error)
    np.testing.assert_allclose(draws.std(axis=0).mean(), expected.std(axis=0).mean(), rtol=0.2)


def test_the_evidence_bound_is_its_formula(model):
    z, log_variance, codes = parts(model)
    counts = model.adata[:, model.vocabulary].X.toarray()
    theta = model.module.count_decoder.log_dispersion.detach().exp().numpy()
    mean = decode(model, z, codes) * counts.sum(axis=1, keepdims=True)
    likelihood = scipy.stats.nbinom.logpmf(counts, theta, theta / (theta + mean)).sum(axis=1)
    divergence = (z.square() + log_variance.exp() - log_variance - 1).sum(dim=1).numpy() / 2
    found = model.get_elbo()
    np.testing.assert_allclose(found, likelihood - divergence, rtol=1e-3)
    np.testing.assert_allclose(
        model.get_elbo(indices=[7, 3], batch_size=1), found[[7, 3]], rtol=1e-4
    )


def test_shuffled_counts_are_less_likely(model, cells):
    expected = model.get_elbo()
    shuffled = cells.copy()
    order = np.random.default_rng(0).permutation(N_GENES)
    shuffled.X = cells.X[:, order].copy()
    assert np.mean(model.get_elbo(shuffled) < expected) > 0.95


def test_a_hidden_gene_is_predicted_from_the_others(model, cells):
    expected = model.predict_expression(genes=["FAKE0", "FAKE4"])
    assert list(expected.columns) == ["FAKE0", "FAKE4"]
    changed = cells.copy()
    dense = changed.X.toarray()
    dense[:, [0, 4]] = np.random.default_rng(0).poisson(50, (N_CELLS, 2))
    changed.X = sp.csr_matrix(dense)
    found = model.predict_expression(changed, ["FAKE0", "FAKE4"])
    pd.testing.assert_frame_equal(found, expected, rtol=1e-4)
    kinds = cells.obs["cell_type"].to_numpy()
    for gene, kind in (("FAKE0", "type0"), ("FAKE4", "type1")):
        mine = expected[gene][kinds == kind]
        assert mine.mean() > expected[gene][kinds != kind].mean() + 0.5, gene


def test_predicted_expression_has_the_scale_of_what_is_measured(model, cells):
    counts = cells.X.toarray()
    share = counts / counts.sum(axis=1, keepdims=True)
    found = np.expm1(model.predict_expression(genes=["FAKE0", "FAKE20", "FAKE33"]))
    expected = share[:, [0, 20, 33]].mean(axis=0) * model.config.target_sum
    np.testing.assert_allclose(found.mean(axis=0), expected, rtol=0.25)


def test_genes_that_are_not_known_are_not_predicted(model):
    with pytest.raises(ValueError, match=r"not in the model's vocabulary: nope"):
        model.predict_expression(genes=["nope"])
    with pytest.raises(ValueError, match="at least one gene"):
        model.predict_expression()


def test_differential_expression_finds_the_markers(model, cells):
    torch.manual_seed(0)
    np.random.seed(0)  # noqa: NPY002 (scvi-tools draws from it)
    table = model.differential_expression(groupby="cell_type", group1="type1")
    assert set(table.index) == set(model.vocabulary)
    top = table.sort_values("lfc_mean", ascending=False).index[:N_MARKERS]
    assert {*top} == {f"FAKE{i}" for i in markers(1)}
    rest = table.drop(top)
    assert table.loc[top, "lfc_mean"].min() > 1
    assert table.loc[top, "proba_de"].min() > rest["proba_de"].max()
    assert set(table["group1"]) == {"type1"}
    own = (cells.obs["cell_type"] == "type1").to_numpy()
    raw = pd.Series(cells.X.toarray()[own].mean(axis=0), cells.var_names)
    np.testing.assert_allclose(table["raw_mean1"], raw[table.index], rtol=1e-5)


def test_differential_expression_has_the_columns_of_scvi_tools(model, cells):
    from scvi.model import SCVI

    SCVI.setup_anndata(cells, batch_key="batch")
    theirs = SCVI(cells, n_hidden=8, n_latent=4)
    theirs.is_trained_ = True  # Only its columns are of interest.
    for mode in ("change", "vanilla"):
        asked = {"groupby": "cell_type", "group1": "type0", "group2": "type2", "mode": mode}
        expected = theirs.differential_expression(cells, **asked, silent=True)
        found = model.differential_expression(**asked)
        assert list(found.columns) == list(expected.columns)
        assert list(found["comparison"]) == list(expected["comparison"])


def test_differential_expression_by_rows_and_as_of_batches(model, cells):
    kinds = cells.obs["cell_type"].to_numpy()
    rows = [np.flatnonzero(kinds == kind) for kind in ("type0", "type2")]
    torch.manual_seed(0)
    np.random.seed(0)  # noqa: NPY002
    table = model.differential_expression(
        idx1=rows[0], idx2=rows[1], batch_correction=True, all_stats=False
    )
    up = {f"FAKE{i}" for i in markers(0)}
    down = {f"FAKE{i}" for i in markers(2)}
    by_change = table.sort_values("lfc_mean").index
    assert {*by_change[-N_MARKERS:]} == up
    assert {*by_change[:N_MARKERS]} == down


def test_differential_expression_of_other_data(model, make_cells):
    query = make_cells(60, seed=9)
    query.obs["batch"] = "new"
    torch.manual_seed(0)
    np.random.seed(0)  # noqa: NPY002
    table = model.differential_expression(query, groupby="cell_type", group1="type2")
    top = table.sort_values("lfc_mean", ascending=False).index[:N_MARKERS]
    assert {*top} == {f"FAKE{i}" for i in markers(2)}


def test_a_cell_without_counts_is_decoded_from_the_origin(model, cells):
    query = cells[:6].copy()
    dense = query.X.toarray()
    dense[3] = 0
    query.X = sp.csr_matrix(dense)
    found = model.get_normalized_expression(query)
    origin, code = torch.zeros(1, 16), torch.tensor([[1]])
    np.testing.assert_allclose(found.iloc[[3]], decode(model, origin, code), rtol=1e-4)
    others = [0, 1, 2, 4, 5]
    expected = model.get_normalized_expression(indices=others)
    pd.testing.assert_frame_equal(found.iloc[others], expected, rtol=1e-4)
    assert (model.predict_expression(query, "FAKE0").iloc[3] == 0).all()
    assert np.isfinite(model.get_elbo(query)).all()


def test_a_model_that_is_not_trained_says_so(cells):
    model = make_model(cells)
    for ask in (
        model.get_normalized_expression,
        model.get_elbo,
        lambda: model.predict_expression(genes=["FAKE0"]),
        lambda: model.differential_expression(groupby="cell_type"),
    ):
        with pytest.raises(RuntimeError, match="not trained: call model.train"):
            ask()


def test_masked_genes_are_measured_only_if_they_were_trained(model, cells):
    with pytest.raises(RuntimeError, match=r"get_elbo\(\).*masked_weight=1"):
        model.get_reconstruction_error()
    both = train(make_model(cells), masked_weight=1.0)
    assert np.isfinite(both.get_reconstruction_error()).all()


def test_other_objectives_decode_no_counts(cells):
    Model.setup_anndata(cells, **KEYS)
    sizes = {name: value for name, value in SIZES.items() if name != "decoder_hidden"}
    model = Model(cells, **{**sizes, "objective": "contrastive"})
    model.is_trained = True
    for ask in (
        model.get_normalized_expression,
        model.get_elbo,
        lambda: model.differential_expression(groupby="cell_type"),
    ):
        with pytest.raises(RuntimeError, match=r"'contrastive' decodes no counts.*'generative'"):
            ask()


# Data


def test_further_covariates_are_told_to_the_decoder(cells):
    cells.obs["phase"] = pd.Categorical(np.where(np.arange(N_CELLS) % 5 < 2, "S", "G1"))
    model = train(make_model(cells, {**KEYS, "categorical_covariate_keys": ["phase"]}))
    assert model.covariates == {"batch": ["donor0", "donor1"], "phase": ["G1", "S"]}
    found = {}
    for phase in ("G1", "S", "M"):
        query = cells.copy()
        query.obs["phase"] = phase
        found[phase] = model.get_normalized_expression(query, return_numpy=True)
    assert np.abs(np.log(found["G1"] / found["S"])).max() > 1e-3
    np.testing.assert_allclose(found["M"], (found["G1"] + found["S"]) / 2, rtol=1e-4)
    own = model.get_normalized_expression(return_numpy=True)
    is_s = (cells.obs["phase"] == "S").to_numpy()[:, None]
    np.testing.assert_allclose(own, np.where(is_s, found["S"], found["G1"]), rtol=1e-4)


def test_mudata_is_decoded_as_its_modality(cells, make_adata, make_counts):
    expected = train(make_model(cells)).get_normalized_expression()
    names = pd.DataFrame(index=[f"protein{i}" for i in range(5)])
    proteins = make_adata(sp.csr_matrix(make_counts(N_CELLS, 5, seed=3)), var=names)
    mdata = mudata.MuData({"gex": cells.copy(), "adt": proteins})
    Model.setup_mudata(mdata, **KEYS, modalities=dict.fromkeys(("rna_layer", *KEYS), "gex"))
    model = train(Model(mdata, **SIZES))
    pd.testing.assert_frame_equal(model.get_normalized_expression(), expected)
    pd.testing.assert_frame_equal(model.get_normalized_expression(mdata.copy()), expected)
    mdata.obs["kind"] = cells.obs["cell_type"].to_numpy()
    table = model.differential_expression(groupby="kind", group1="type0")
    assert set(table.index) == set(model.vocabulary)


def test_batches_that_come_later_are_learned(cells, make_cells):
    model = train(make_model(cells))
    more = make_cells(60, seed=5)
    more.obs["batch"] = pd.Categorical(["donor1", "donor2"] * 30)
    model.attach(more)
    as_mean = model.get_normalized_expression(transform_batch=[0, 1])
    new = (more.obs["batch"] == "donor2").to_numpy()
    found = model.get_normalized_expression()
    pd.testing.assert_frame_equal(found[new], as_mean[new], rtol=1e-4)
    train(model)
    assert model.covariates == {"batch": ["donor0", "donor1", "donor2"]}
    as_new = model.get_normalized_expression(transform_batch="donor2")
    pd.testing.assert_frame_equal(model.get_normalized_expression()[new], as_new[new], rtol=1e-4)
    others = model.get_normalized_expression(transform_batch=[0, 1])
    assert (as_new - others).abs().to_numpy().max() > 1e-5


def test_cells_of_one_batch(cells):
    model = train(make_model(cells, {"labels_key": "cell_type"}))
    assert [len(names) for names in model.covariates.values()] == [1]
    own = model.get_normalized_expression()
    np.testing.assert_allclose(own.sum(axis=1), 1, rtol=1e-4)
    pd.testing.assert_frame_equal(model.get_normalized_expression(transform_batch=0), own)


# Groups of cells


@pytest.mark.parametrize("keys", [{"batch_key": "plate"}, {"labels_key": "batch"}], ids=str)
def test_another_setup_of_the_same_data_leaves_a_model_its_batches(make_cells, weights_of, keys):
    one, cells = make_cells(), make_cells()
    # As many plates as batches, so that the numbers of one would do for the other.
    cells.obs["plate"] = np.where(np.arange(N_CELLS) < 75, "p1", "p0")
    expected = train(make_model(one))
    model = make_model(cells)
    Model.setup_anndata(cells, **keys)
    train(model)
    assert model.covariates == {"batch": ["donor0", "donor1"]}
    for name, weights in weights_of(expected).items():
        np.testing.assert_array_equal(weights_of(model)[name], weights, err_msg=name)
    Model.setup_anndata(cells, **keys)
    pd.testing.assert_frame_equal(
        model.get_normalized_expression(), expected.get_normalized_expression()
    )


def test_covariates_are_compared_as_names(cells):
    cells.obs["plate"] = np.arange(N_CELLS) % 3
    model = make_model(cells, {**KEYS, "categorical_covariate_keys": "plate"})
    assert model.covariates["plate"] == ["0", "1", "2"]
    other = cells.copy()
    other.obs["plate"] = pd.Categorical((1.0 + np.arange(N_CELLS) % 3).astype(float))
    model.attach(other)
    mapping = model.adata_manager.get_state_registry("extra_categorical_covs")["mappings"]
    assert mapping["plate"].tolist() == ["0", "1", "2", "3"]
    assert other.obsm["_scvi_extra_categorical_covs"]["plate"].tolist()[:4] == [1, 2, 3, 1]


def test_missing_covariates_are_counted_and_refused(cells):
    cells.obs["plate"] = np.where(np.arange(N_CELLS) < 5, None, "p")
    with pytest.raises(ValueError, match=r"5 of 150 cells have no covariate: .*obs\['plate'\]"):
        Model.setup_anndata(cells, categorical_covariate_keys=["plate"])
    with pytest.raises(KeyError, match=r"no column 'plait' \(there: batch"):
        Model.setup_anndata(cells, categorical_covariate_keys=["plait"])


def test_numbers_as_a_covariate_are_warned_about(cells):
    cells.obs["age"] = np.random.default_rng(0).normal(size=N_CELLS)
    with pytest.warns(UserWarning, match="has 150 values for 150 cells.*pandas.cut"):
        Model.setup_anndata(cells, categorical_covariate_keys=["age"])


def test_groups_without_cells_are_not_compared(model, cells):
    cells.obs["plate"] = pd.Categorical(np.arange(N_CELLS) % 2, categories=[0, 1, 2])
    table = model.differential_expression(cells, groupby="plate", all_stats=False)
    assert table["comparison"].unique().tolist() == ["0 vs Rest", "1 vs Rest"]
    one = model.differential_expression(cells, groupby="plate", group1=1, all_stats=False)
    assert one["comparison"].unique().tolist() == ["1 vs Rest"]
    for asked in ({"group1": 2}, {"group1": "0", "group2": 2}):
        with pytest.raises(ValueError, match=r"the value '2' in obs\['plate'\] \(there: 0, 1"):
            model.differential_expression(cells, groupby="plate", **asked)
    cells.obs["plate"] = "all"
    with pytest.raises(ValueError, match="a group has no cells"):
        model.differential_expression(cells, groupby="plate", group1="all")
    with pytest.raises(ValueError, match="groupby="):
        model.differential_expression()


def test_fitting_the_decoder_leaves_embeddings_and_explains_counts_better(cells):
    plain, fitted = make_model(cells), make_model(cells)
    train(plain, decoder_steps=0)
    train(fitted, decoder_steps=200)
    np.testing.assert_array_equal(
        plain.get_latent_representation(), fitted.get_latent_representation()
    )
    held_out = plain.validation_indices_
    assert fitted.get_elbo(indices=held_out).mean() > plain.get_elbo(indices=held_out).mean()


@pytest.mark.parametrize("n_threads", [1, 2])
def test_the_decoder_is_fitted_with_the_threads_of_the_training(cells, n_threads):
    model, seen = make_model(cells), set()
    model.module.count_decoder.register_forward_pre_hook(
        lambda *_: seen.add(torch.get_num_threads())
    )
    with kept_threads():
        torch.set_num_threads(3 - n_threads)
        train(model, n_threads=n_threads, decoder_steps=5)
        assert torch.get_num_threads() == 3 - n_threads
    assert seen == {n_threads}


def test_decoder_steps_are_of_the_generative_objective(cells):
    Model.setup_anndata(cells)
    model = Model(cells, objective="contrastive")
    with pytest.raises(ValueError, match="decoder_steps=3 cannot apply"):
        model.train(max_epochs=1, decoder_steps=3)
