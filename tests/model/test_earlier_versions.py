"""Models and checkpoints that scenc 0.1 wrote, in ``version_0_1``, are still read."""

from __future__ import annotations

import shutil
from pathlib import Path

import anndata
import numpy as np
import pytest

from scenc.model import Model

FOLDER = Path(__file__).with_name("version_0_1")
TINY = {
    "d_model": 8,
    "n_layers": 1,
    "n_heads": 2,
    "d_feedforward": 16,
    "context": 20,
    "expression_hidden": 8,
}
# Other processors round otherwise.
CLOSE = {"rtol": 1e-3, "atol": 1e-4}


@pytest.fixture
def cells():
    return anndata.read_h5ad(FOLDER / "cells.h5ad")


@pytest.fixture(scope="module")
def expected():
    """Embeddings that 0.1 gave, by the name of the model or checkpoint."""
    with np.load(FOLDER / "expected.npz") as arrays:
        return dict(arrays)


@pytest.mark.parametrize("name", ["masked_protein_hard", "contrastive_learned_soft"])
def test_saved_models_embed_as_they_did(cells, expected, name):
    model = Model.load(FOLDER / name, cells)
    assert model.is_trained
    embedding = model.get_latent_representation()
    np.testing.assert_allclose(embedding, expected[name], **CLOSE)


@pytest.mark.parametrize("objective", ["masked", "contrastive"])
def test_checkpoints_are_resumed(cells, expected, tmp_path, objective):
    name = f"checkpoint_{objective}"
    shutil.copytree(FOLDER / name, tmp_path / name)
    Model.setup_anndata(cells, batch_key="batch", labels_key="cell_type")
    model = Model(cells, objective=objective, **TINY)
    settings = {"n_neighbors": 5} if objective == "contrastive" else {}
    model.train(
        max_epochs=3,
        batch_size=16,
        checkpoint_dir=tmp_path / name,
        resume=True,
        accelerator="cpu",
        enable_progress_bar=False,
        **settings,
    )
    assert list(model.history["train_loss"].index) == list(range(12))
    np.testing.assert_allclose(model.get_latent_representation(), expected[name], **CLOSE)
