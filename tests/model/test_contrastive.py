from __future__ import annotations

from dataclasses import asdict

import anndata
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
import torch

from scenc.data import Neighborhoods
from scenc.model import Model
from scenc.nn import LearnedGeneEncoder

SIZES = {"d_model": 16, "n_heads": 2, "d_feedforward": 32, "expression_hidden": 16}
TRAINING = {
    "max_epochs": 2,
    "batch_size": 16,
    "accelerator": "cpu",
    "enable_progress_bar": False,
}


@pytest.fixture
def model(adata):
    Model.setup_anndata(adata, batch_key="batch")
    return Model(adata, objective="contrastive", **SIZES)


def expected_start(adata, d_model):
    """Principal components of x~."""
    counts = adata.X.toarray()
    values = np.log1p(counts / np.maximum(counts.sum(axis=1, keepdims=True), 1) * 1e4)
    filled = counts.sum(axis=1) > 0
    centred = values[filled] - values[filled].mean(axis=0)
    loadings = np.linalg.svd(centred, full_matrices=False)[2][:d_model].T
    pooled = (values - values[filled].mean(axis=0)) @ loadings
    pooled[~filled] = 0
    return pooled


@pytest.mark.parametrize("expression", ["raw", "hard", "log", "soft"])
def test_the_untrained_embedding_is_a_pca(adata, expression):
    Model.setup_anndata(adata, batch_key="batch")
    model = Model(adata, "learned", expression, objective="contrastive", n_layers=2, **SIZES)
    model.is_trained = True
    found = model.get_latent_representation(max_genes=None)
    expected = expected_start(adata, 16)
    sign = np.sign((found * expected).sum(axis=0))
    # Components of nearly equal variance turn within their plane: distances do not.
    size = np.square(expected).sum(axis=1).max()
    np.testing.assert_allclose(found @ found.T, expected @ expected.T, atol=2e-3 * size)
    assert np.median(np.abs(found * sign - expected)) < 1e-3 * np.sqrt(size)


def test_protein_vectors_start_near_the_loadings(adata, make_vectors):
    Model.setup_anndata(adata)
    learned = Model(adata, objective="contrastive", **SIZES).module.gene_encoder.table()
    vectors = make_vectors(adata.var_names)
    model = Model(adata, "protein", protein_embeddings=vectors, objective="contrastive", **SIZES)
    table = model.module.gene_encoder.table()
    residual = ((table - learned).square().mean() / learned.var()).detach()
    assert residual.item() < 0.05


def test_training_lowers_the_loss(model):
    model.train(**{**TRAINING, "max_epochs": 15})
    for name in ("validation_loss", "reconstruction_loss_validation"):
        curve = model.history[name][name]
        assert curve.min() < curve.iloc[0], name
    assert np.linalg.matrix_rank(model.get_latent_representation()) == 16


def test_two_trainings_are_equal(adata):
    Model.setup_anndata(adata, batch_key="batch")
    models = [Model(adata, objective="contrastive", **SIZES) for _ in range(2)]
    for each in models:
        each.train(**TRAINING)
    for one, two in zip(*(m.module.state_dict().values() for m in models), strict=True):
        assert torch.equal(one, two)


def test_every_weight_learns(model):
    before = {name: w.clone() for name, w in model.module.named_parameters()}
    model.train(**{**TRAINING, "max_epochs": 4})
    same = [n for n, w in model.module.named_parameters() if torch.equal(w, before[n])]
    assert not same


def test_a_saved_model_embeds_the_same(model, tmp_path):
    model.train(**TRAINING)
    expected = model.get_latent_representation(key_added=None)
    model.save(tmp_path / "model")
    loaded = Model.load(tmp_path / "model", model.adata)
    np.testing.assert_array_equal(loaded.get_latent_representation(key_added=None), expected)
    assert loaded.train_config == model.train_config
    assert {*loaded.history} == {*model.history}
    loaded.train(**TRAINING)


@pytest.mark.parametrize("term", ["masked_weight", "contrast_weight", "anchor_weight"])
def test_each_term_can_be_left_out(model, term):
    model.train(**TRAINING, **{term: 0.0})
    assert np.isfinite(model.history["train_loss"]["train_loss"]).all()


def test_the_vocabulary_is_the_variable_genes(adata):
    Model.setup_anndata(adata)
    model = Model(adata, objective="contrastive", n_top_genes=25, **SIZES)
    assert len(model.vocabulary) == 25
    assert model.vocabulary.isin(adata.var_names).all()
    assert model.module.gene_encoder.table().shape == (25, 16)


@pytest.mark.parametrize(
    ("preset", "objective"),
    [("small", "generative"), ("base", "generative"), ("paper", "masked")],
)
def test_presets_have_an_objective_of_their_own(adata, preset, objective):
    Model.setup_anndata(adata)
    config = Model(adata, preset=preset, **SIZES, n_layers=1).config
    assert config.objective == objective


def test_masked_is_the_papers(adata):
    Model.setup_anndata(adata)
    config = Model(adata, objective="masked").config
    assert config.pooling == "mean"
    assert config.gene_init == config.residual_init == "random"
    assert config.n_top_genes is None
    assert isinstance(Model(adata, objective="masked").module.gene_encoder, LearnedGeneEncoder)
    assert "objective" in asdict(config)


def test_an_unknown_objective_is_refused(adata):
    Model.setup_anndata(adata)
    with pytest.raises(ValueError, match=r"objective must be one of .*Did you mean 'masked'"):
        Model(adata, objective="maskd")


# scvi-tools says so of the one batch; there is to be one cell.
@pytest.mark.filterwarnings("ignore:.*fewer than 3 cells")
def test_one_cell_has_no_components(adata):
    one = adata[:1].copy()
    Model.setup_anndata(one)
    with pytest.raises(ValueError, match="at least 2 cells with counts"):
        Model(one)
    Model(one, objective="masked")


def test_cells_of_the_test_set_have_no_part_in_training(model, monkeypatch):
    seen = []
    draw = Neighborhoods.draw

    def watch(self, rows, *chances):
        partners = draw(self, rows, *chances)
        seen.extend([*rows.tolist(), *partners.tolist()])
        return partners

    monkeypatch.setattr(Neighborhoods, "draw", watch)
    model.train(**TRAINING, test_size=0.4, same_cell=0.0)
    assert len(model.test_indices) == 48
    assert not {*seen} & {*model.test_indices.tolist()}
    assert {*seen} >= {*model.train_indices.tolist()}


@pytest.mark.filterwarnings("ignore:adata lacks 39 of 60 genes")
def test_genes_that_vary_little_count_for_the_depth_and_strangers_do_not(adata, tmp_path):
    Model.setup_anndata(adata)
    model = Model(adata, objective="contrastive", n_top_genes=20, **SIZES)
    assert set(model.vocabulary) | set(model.counted) == set(adata.var_names)
    assert len(model.counted) == 40
    model.is_trained = True
    expected = model.get_latent_representation(key_added=None)

    others = adata[:, model.counted].X.sum(axis=1)
    counts = sp.hstack([adata[:, model.vocabulary].X, others, sp.csr_matrix(others * 3)]).tocsr()
    names = [*model.vocabulary, model.counted[7], "stranger"]
    query = anndata.AnnData(counts.astype(np.float32), var=pd.DataFrame(index=names))
    model.save(tmp_path / "model")
    for each in (model, Model.load(tmp_path / "model")):
        found = each.get_latent_representation(query, key_added=None)
        np.testing.assert_allclose(found, expected, atol=1e-5)
