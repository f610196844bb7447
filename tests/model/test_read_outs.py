"""Ways to read a cell out of a trained network's tokens, against the tokens themselves."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from scenc.data import Request, TokenDataset, Tokenizer


@pytest.fixture(scope="module")
def tokens(trained):
    """x~ and the hidden states of every layer, and after the final norm, of each cell by itself."""
    cells, network, found = trained._training_cells(), trained.module.eval(), []
    config = trained.config
    tokenizer = Tokenizer(config.context, target_sum=config.target_sum)
    dataset = TokenDataset(cells.rows, cells.gene_map, tokenizer)
    for cell in range(cells.n_cells):
        batch = dataset[Request(np.array([cell]), seed=config.seed)]
        with torch.no_grad():
            hidden = [network.embed_tokens(batch)]
            for block in network.transformer.blocks:
                hidden.append(block(hidden[-1], None))
            hidden.append(network.transformer.final_norm(hidden[-1]))
        found.append((batch.values()[0].numpy(), [states[0].numpy() for states in hidden]))
    return found


@pytest.mark.parametrize("read_out", [0, 1, 2, np.int64(2), "expression", None])
def test_each_is_its_mean_of_tokens(trained, tokens, read_out):
    rows = [7, 3, 119, 3]
    found = trained.get_latent_representation(
        indices=rows, read_out=read_out, batch_size=3, key_added=None
    )
    for place, cell in enumerate(rows):
        values, states = tokens[cell]
        if read_out == "expression":
            expected = np.average(states[-1], axis=0, weights=values)
        else:
            expected = states[-1 if read_out is None else read_out].mean(axis=0)
        np.testing.assert_allclose(found[place], expected, rtol=1e-3, atol=1e-4)


def test_cells_without_counts_get_zeros(trained, make_adata):
    adata = make_adata()
    adata.X.data[adata.X.indptr[5] : adata.X.indptr[6]] = 0
    for read_out in ("expression", 1):
        with pytest.warns(UserWarning, match="1 cells have no counts"):
            found = trained.get_latent_representation(adata, read_out=read_out, key_added=None)
        assert (found[5] == 0).all()
        assert (np.abs(np.delete(found, 5, axis=0)).sum(axis=1) > 0).all()


def test_records_say_how_cells_were_read_out(trained, make_adata):
    adata = make_adata()
    trained.get_latent_representation(adata, key_added="X_expression", read_out="expression")
    trained.get_latent_representation(adata)
    records = adata.uns["scenc"]["embeddings"]
    assert records["X_expression"]["embedding"]["read_out"] == "expression"
    assert "read_out" not in records["X_scenc"]["embedding"]


def test_files_are_read_out_alike(trained, make_adata, tmp_path):
    import anndata as ad

    adata = make_adata()
    adata.write_h5ad(tmp_path / "cells.h5ad")
    (written,) = trained.embed_files(
        [tmp_path / "cells.h5ad"], tmp_path / "out", read_out=1, progress=False
    )
    embedded = ad.read_h5ad(written)
    np.testing.assert_allclose(
        embedded.obsm["X_scenc"],
        trained.get_latent_representation(adata, key_added=None, read_out=1),
        atol=1e-5,
    )
    assert embedded.uns["scenc"]["embeddings"]["X_scenc"]["embedding"]["read_out"] == 1


@pytest.mark.parametrize("read_out", [3, -1, True, 1.0, "deviation", "1"])
def test_one_that_a_model_lacks_is_refused(trained, tmp_path, read_out):
    message = f"'expression' or a number of blocks from 0 to 2, got {read_out!r}"
    with pytest.raises(ValueError, match=message):
        trained.get_latent_representation(read_out=read_out)
    with pytest.raises(ValueError, match=message):
        trained.embed_files([tmp_path / "none.h5ad"], tmp_path, read_out=read_out)


def test_a_model_that_weights_by_expression_has_no_other(make_adata, make_model, train):
    model = train(make_model(make_adata(), pooling="expression"))
    with pytest.raises(ValueError, match="mean weighted by expression already: leave read_out out"):
        model.get_latent_representation(read_out="expression")
