from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch

from scenc.model import Model


def vectors_in(model):
    return model.module.gene_encoder.vectors.numpy()


def test_every_encoding_trains_and_embeds(adata, make_model, train, weights_of, encoding):
    model = make_model(adata, **encoding)
    before = weights_of(model)
    train(model, max_epochs=3, lr=1e-2)
    unchanged = [name for name, w in weights_of(model).items() if np.array_equal(w, before[name])]
    losses = model.history["train_loss"]["train_loss"]
    assert unchanged == []
    assert losses.iloc[-1] < losses.iloc[0]
    assert np.isfinite(model.get_latent_representation()).all()


def test_gradients_of_a_training_batch_reach_every_parameter(adata, make_model, train, encoding):
    model, reached = make_model(adata, **encoding), set()
    for name, weight in model.module.named_parameters():
        weight.register_hook(lambda grad, name=name: reached.add(name) if grad.any() else None)
    train(model, max_epochs=1)
    assert reached == set(dict(model.module.named_parameters()))


def test_vectors_are_matched_by_name(adata, make_model, make_vectors):
    vectors = make_vectors(adata.var_names)
    shuffled = pd.concat([vectors.sample(frac=1, random_state=0), make_vectors(["other"])])
    shuffled.iloc[-1] = 9.0
    known = vectors.notna().all(axis=1)
    model = make_model(adata, gene_encoder="protein", protein_embeddings=shuffled)
    np.testing.assert_array_equal(vectors_in(model)[known], vectors[known])
    assert not vectors_in(model)[~known].any()
    assert model.module.gene_encoder.own.shape == ((~known).sum(), 16)


def test_an_array_of_vectors_goes_by_position(adata, make_model, make_vectors):
    vectors = make_vectors(adata.var_names)
    by_name = make_model(adata, gene_encoder="protein", protein_embeddings=vectors)
    by_position = make_model(adata, gene_encoder="protein", protein_embeddings=vectors.to_numpy())
    np.testing.assert_array_equal(vectors_in(by_position), vectors_in(by_name))


def test_genes_without_a_vector_may_be_dropped(adata, make_model, make_vectors, train):
    vectors = make_vectors(adata.var_names)
    known = adata.var_names[vectors.notna().all(axis=1)]
    model = make_model(adata, gene_encoder="protein", protein_missing="drop")
    assert model.vocabulary.tolist() == known.tolist()
    train(model)
    assert model.get_gene_embeddings().index.tolist() == known.tolist()
    reduced = model.get_latent_representation(adata[:, known].copy())
    np.testing.assert_allclose(model.get_latent_representation(), reduced, atol=1e-5)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda v: v.to_numpy()[:-1], "one row for each of the 60 genes"),
        (lambda v: np.full((60, 4), np.nan), "no gene has a vector"),
        (lambda v: v.set_axis([f"OTHER{i}" for i in range(60)]), "no vector for any gene"),
    ],
    ids=["too few rows", "no finite row", "other genes"],
)
def test_vectors_that_do_not_fit_are_refused(adata, make_model, make_vectors, change, message):
    vectors = change(make_vectors(adata.var_names))
    with pytest.raises(ValueError, match=message):
        make_model(adata, gene_encoder="protein", protein_embeddings=vectors)


def test_global_edges_are_quantiles_over_all_cells(adata, make_model):
    model = make_model(adata, expression_encoder="hard", hard_edges="global", n_bins=5)
    counts = adata.X.toarray().astype(float)
    values = np.log1p(counts / counts.sum(axis=1, keepdims=True) * 1e4)[counts > 0]
    expected = np.quantile(values, [0.2, 0.4, 0.6, 0.8])
    np.testing.assert_allclose(model.module.expression_encoder.edges, expected, rtol=1e-5)


@pytest.mark.parametrize(
    "options",
    [
        {"expression_encoder": "hard", "hard_edges": "global", "n_bins": 7},
        {"expression_encoder": "hard", "hard_edges": "uniform"},
        {"expression_encoder": "log", "log_input": "normalized", "max_log_bin": 4},
        {"expression_encoder": "soft", "soft_bias": False},
        {"gene_encoder": "protein", "protein_missing": "zero"},
        {"gene_encoder": "protein", "protein_input": "standardize", "protein_output": "matched"},
        {"gene_encoder": "protein", "protein_output": "layer_norm"},
        {"gene_encoder": "protein", "protein_projection": "fixed", "protein_output": "matched"},
        {"gene_encoder": "protein", "protein_projection": "linear", "protein_output": "silu"},
        {"expression_encoder": "raw", "expression_input": "quantile_bins", "encoder_norm": True},
        {"expression_encoder": "soft", "expression_input": "log_share", "n_bins": 10},
        {"soft_residual": 1.0, "soft_slope": 0.1, "n_bins": 16},
        {"expression_encoder": "log", "log_input": "scaled", "max_log_bin": 5},
        {"expression_encoder": "hard", "depth_token": True},
        {"norm": "post", "activation": "relu", "context": None, "target_sum": 1e6},
    ],
    ids=lambda options: "-".join(map(str, options.values())),
)
def test_every_option_trains_and_survives_saving(adata, make_model, train, tmp_path, options):
    model = train(make_model(adata, **options), max_epochs=1)
    embedding = model.get_latent_representation()
    assert np.isfinite(embedding).all()
    model.save(tmp_path / "model")
    loaded = Model.load(tmp_path / "model", adata)
    assert loaded.config == model.config
    np.testing.assert_array_equal(loaded.get_latent_representation(), embedding)


def test_equal_seeds_start_from_equal_weights(adata, make_model, weights_of):
    torch.manual_seed(1)
    state = torch.get_rng_state()
    one, two, other = (weights_of(make_model(adata, seed=seed)) for seed in (3, 3, 4))
    assert all(np.array_equal(one[name], two[name]) for name in one)
    assert not np.array_equal(one["mask_token"], other["mask_token"])
    assert torch.equal(torch.get_rng_state(), state)
