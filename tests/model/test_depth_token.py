"""Models with a token of the depth: the same in memory, streamed and from files."""

from __future__ import annotations

import anndata
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

from scenc.data import CellFiles
from scenc.model import Model

SIZES = {"d_model": 16, "n_layers": 1, "n_heads": 2, "d_feedforward": 32, "expression_hidden": 16}


def embed(model, adata=None, **options):
    return model.get_latent_representation(adata, key_added=None, **options)


def test_every_encoding_embeds_a_cell_by_its_counts_alone(
    adata, make_model, train, encoding, tmp_path
):
    model = train(make_model(adata, depth_token=True, **encoding), max_epochs=1)
    embedding = embed(model)
    order = np.random.default_rng(0).permutation(adata.n_obs)
    np.testing.assert_allclose(embed(model, indices=order), embedding[order], atol=1e-5)
    np.testing.assert_allclose(embed(model, batch_size=7), embedding, atol=1e-5)
    model.save(tmp_path / "model")
    loaded = Model.load(tmp_path / "model", adata)
    assert loaded.config.depth_token
    np.testing.assert_array_equal(embed(loaded), embedding)


def test_hard_bins_are_told_of_counts_they_do_not_show(adata, make_model, train):
    """A cell with twice the counts has the same quantile bins, and another embedding."""
    model = train(make_model(adata, expression_encoder="hard", context=None), max_epochs=1)
    deep = train(
        make_model(adata, expression_encoder="hard", context=None, depth_token=True), max_epochs=1
    )
    twice = anndata.AnnData(adata.X * 2, adata.obs, adata.var)
    assert np.abs(embed(model, twice) - embed(model)).max() < 2e-6
    # One token among a cell's many, after a few steps of training.
    assert np.abs(embed(deep, twice) - embed(deep)).max(axis=1).min() > 2e-5


def test_genes_outside_the_vocabulary_count(adata, make_model, train):
    """The depth is that of eq. 2: also of genes that no token shows."""
    model = train(
        make_model(adata, expression_encoder="hard", depth_token=True, n_top_genes=20), max_epochs=1
    )
    assert len(model.counted) == 40
    counts = adata.X.toarray()
    counts[:, adata.var_names.get_loc(model.counted[0])] += 20
    deeper = anndata.AnnData(sp.csr_matrix(counts), adata.obs, adata.var)
    assert np.abs(embed(model, deeper) - embed(model)).max(axis=1).min() > 2e-5


@pytest.fixture(scope="module")
def streamed(atlas):
    cells = CellFiles(atlas[0], batch_size=16, buffer_size=64, progress=False)
    model = Model(
        datamodule=cells, expression_encoder="hard", objective="masked", context=20,
        depth_token=True, **SIZES,
    )  # fmt: skip
    model.train(max_epochs=1, enable_progress_bar=False, accelerator="cpu")
    return model


def test_files_are_embedded_as_their_cells_are_in_memory(streamed, atlas, tmp_path):
    paths, table = atlas
    obs, var = pd.DataFrame(index=table.index), pd.DataFrame(index=table.columns)
    joined = anndata.AnnData(sp.csr_matrix(table.to_numpy(np.float32)), obs, var)
    in_memory = embed(streamed, joined)
    written = streamed.embed_files(paths, tmp_path, progress=False)
    read = [
        anndata.read_zarr(path) if path.suffix == ".zarr" else anndata.read_h5ad(path)
        for path in written
    ]
    from_files = np.concatenate([cells.obsm["X_scenc"] for cells in read])
    np.testing.assert_allclose(from_files, in_memory, atol=1e-5)


@pytest.mark.parametrize("objective", ["contrastive", "generative"])
def test_other_objectives_train_with_it(adata, make_model, train, objective):
    setup = {"batch_key": "batch"}
    model = make_model(adata, setup, objective=objective, depth_token=True)
    before = {n: w.detach().clone() for n, w in model.module.depth_token.named_parameters()}
    train(model, max_epochs=1, n_neighbors=5)
    assert np.isfinite(embed(model)).all()
    assert any((w != before[n]).any() for n, w in model.module.depth_token.named_parameters())
