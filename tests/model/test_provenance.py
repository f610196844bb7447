"""What is written beside an embedding, and how a model prints."""

from __future__ import annotations

import json

import anndata
import numpy as np
import pytest
import safetensors.torch

import scenc
from scenc.model import Model
from scenc.nn import ModelConfig

SETUP = {"batch_key": "batch", "labels_key": "cell_type"}


@pytest.fixture
def embedded(trained, make_adata):
    adata = make_adata()
    trained.get_latent_representation(adata)
    return adata


def plain(value):
    """Turn what a file holds into plain values."""
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    return value.tolist() if isinstance(value, np.ndarray | np.generic) else value


def test_an_embedding_says_where_it_is_from(trained, embedded, tmp_path):
    record = embedded.uns["scenc"]["embeddings"]["X_scenc"]
    assert record["model"] == "scenc.Model"
    assert record["version"] == scenc.__version__
    assert record["seed"] == trained.config.seed
    assert record["genes"] == {
        "n_query": 60, "n_vocabulary": 60, "n_matched": 60, "coverage": 1.0,
    }  # fmt: skip
    assert record["embedding"] == {"max_genes": "context", "draw": "random", "precision": "auto"}
    assert record["training"]["n_steps"] == len(trained.history["train_loss"])
    assert record["setup"] == SETUP
    # The settings make the same model again.
    assert ModelConfig.from_dict(plain(record["settings"])) == trained.config
    trained.save(tmp_path / "model")
    card = json.loads((tmp_path / "model" / "model.json").read_text())
    assert record["weights_sha256"] == card["sha256"]


@pytest.mark.parametrize("form", ["h5ad", "zarr"])
def test_records_survive_a_file(embedded, tmp_path, form):
    path = tmp_path / f"cells.{form}"
    getattr(embedded, f"write_{form}")(path)
    read = getattr(anndata, f"read_{form}")(path)
    assert plain(read.uns["scenc"]) == plain(embedded.uns["scenc"])


def test_records_have_no_date(trained, make_adata, embedded):
    again = make_adata()
    trained.get_latent_representation(again)
    assert plain(again.uns["scenc"]) == plain(embedded.uns["scenc"])


def test_embeddings_stand_side_by_side(trained, embedded, make_model, train):
    first = plain(embedded.uns["scenc"]["embeddings"]["X_scenc"])
    embedded.uns["scenc"]["annotate"] = {"mine": 1}
    few = embedded[:, :57].copy()
    trained.get_latent_representation(few, key_added="X_top", max_genes=10, draw="top")
    other = train(make_model(few.copy(), seed=7), max_epochs=1)
    other.get_latent_representation(few, key_added="X_other", max_genes=None)
    records = few.uns["scenc"]["embeddings"]
    assert list(records) == ["X_scenc", "X_top", "X_other"]
    assert plain(records["X_scenc"]) == first
    assert records["X_top"]["embedding"]["max_genes"] == 10
    assert records["X_top"]["embedding"]["draw"] == "top"
    assert records["X_top"]["genes"]["coverage"] == pytest.approx(0.95)
    assert records["X_other"]["seed"] == 7
    assert records["X_other"]["embedding"]["max_genes"] == "all"
    assert records["X_other"]["weights_sha256"] != records["X_top"]["weights_sha256"]
    assert few.uns["scenc"]["annotate"] == {"mine": 1}


def test_nothing_is_recorded_of_what_is_not_written(trained, make_adata):
    adata = make_adata()
    trained.get_latent_representation(adata, key_added=None)
    trained.get_latent_representation(adata, indices=[1, 2])
    assert "scenc" not in adata.uns


@pytest.mark.parametrize("mine", ["my notes", {"embeddings": "my notes"}])
def test_what_is_the_users_stays(trained, make_adata, mine):
    adata = make_adata()
    adata.uns["scenc"] = mine
    with pytest.warns(UserWarning, match="holds something else"):
        trained.get_latent_representation(adata)
    assert adata.uns["scenc"] == mine
    assert "X_scenc" in adata.obsm


@pytest.mark.parametrize("form", ["h5ad", "zarr"])
def test_embedded_files_say_the_same(trained, make_adata, tmp_path, form):
    adata = make_adata()
    adata.write_h5ad(tmp_path / "cells.h5ad")
    (path,) = trained.embed_files(
        [tmp_path / "cells.h5ad"], tmp_path / "out", format=form, progress=False
    )
    written = getattr(anndata, f"read_{form}")(path)
    trained.get_latent_representation(adata)
    assert plain(written.uns["scenc"]) == plain(adata.uns["scenc"])


def test_a_loaded_model_leaves_the_same_record(trained, embedded, make_adata, tmp_path):
    trained.save(tmp_path / "model")
    adata = make_adata()
    Model.load(tmp_path / "model").get_latent_representation(adata)
    assert plain(adata.uns["scenc"]) == plain(embedded.uns["scenc"])


def test_the_digest_is_that_of_the_weights(trained, embedded, tmp_path):
    import hashlib

    weights = {name: w.contiguous() for name, w in trained.module.state_dict().items()}
    safetensors.torch.save_file(weights, tmp_path / "weights")
    digest = hashlib.sha256((tmp_path / "weights").read_bytes()).hexdigest()
    assert embedded.uns["scenc"]["embeddings"]["X_scenc"]["weights_sha256"] == digest


def test_a_model_prints_what_it_is(trained):
    text = repr(trained)
    best = trained.history["reconstruction_loss_validation"].iloc[:, 0].min()
    n_weights = sum(w.numel() for w in trained.module.parameters())
    for part in (
        "scenc.Model, trained (2 epochs, 8 steps): learned genes, soft expression, masked ",
        "preset small: 16 wide, 2 layers, 2 heads",
        f"{n_weights:,} weights on cpu; seed 0",
        "60 (FAKE0, FAKE1, FAKE2, FAKE3 and 56 more)",
        "120 cells, 2 batches (batch), 3 labels (cell_type)",
        f"reconstruction_loss_validation {best:.4g}",
    ):
        assert part in text
        assert part in trained._repr_html_()


def test_a_model_says_that_it_is_not_trained(adata, make_model):
    model = make_model(adata, n_top_genes=40)
    assert "scenc.Model, not trained:" in repr(model)
    assert "20 more count for the library size" in repr(model)
    assert "best" not in repr(model)
    assert "batches" not in repr(model)
    assert model._repr_html_().startswith("<div><table>")


def test_a_model_of_files_prints(atlas):
    files = scenc.data.CellFiles(atlas[0], batch_key="donor", progress=False)
    model = Model(datamodule=files, d_model=8, n_layers=1, n_heads=2)
    assert f"{files.n_obs:,} cells, 30 batches (donor)" in repr(model)
