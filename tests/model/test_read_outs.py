"""Ways to read a cell out of its tokens, against the tokens themselves."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from scenc.data import Request, TokenDataset
from scenc.model._initial import make_tokenizer
from scenc.model._read_outs import (
    AttentionReadOut,
    fit_attention,
    mean_tokens,
    names_of,
    read_out_cells,
)


@pytest.fixture(scope="module")
def cells(trained):
    return trained._training_cells()


@pytest.fixture(scope="module")
def tokens(trained, cells):
    """Genes, x~ and the hidden states of every layer of each cell, one at a time."""
    dataset = TokenDataset(cells.rows, cells.gene_map, make_tokenizer(trained.config))
    network, found = trained.module.eval(), []
    for cell in range(cells.n_cells):
        batch = dataset[Request(np.array([cell]), seed=trained.config.seed)]
        with torch.no_grad():
            hidden = [network.embed_tokens(batch)]
            for block in network.transformer.blocks:
                hidden.append(block(hidden[-1], None))
            hidden.append(network.transformer.final_norm(hidden[-1]))
        states = [h[0].numpy() for h in hidden]
        found.append((batch.genes[0].numpy(), batch.values()[0].numpy(), states))
    return found


@pytest.fixture(scope="module")
def means(trained, cells):
    return mean_tokens(trained.module, cells, np.arange(cells.n_cells))


def test_gene_means_are_means_over_the_cells_that_have_them(tokens, means):
    for gene in range(60):
        rows = [states[-1][genes == gene] for genes, _, states in tokens]
        expected = np.concatenate(rows).mean(axis=0)
        np.testing.assert_allclose(means[gene], expected, rtol=1e-3, atol=1e-4)


def test_genes_that_no_cell_has_get_the_mean_of_all(trained, cells, tokens):
    means = mean_tokens(trained.module, cells, np.array([0]))
    genes, _, states = tokens[0]
    absent = np.setdiff1d(np.arange(60), genes)
    np.testing.assert_allclose(means[absent[0]], states[-1].mean(axis=0), rtol=1e-3, atol=1e-4)


def test_each_read_out_is_its_mean_of_tokens(trained, cells, tokens, means):
    attention = AttentionReadOut(16)
    with torch.no_grad():
        attention.query.normal_(0, 3, generator=torch.Generator().manual_seed(0))
    rows = np.array([7, 3, 119, 3])
    found = read_out_cells(trained.module, cells, rows, means, attention, batch_size=3)
    assert list(found) == [
        "layer 0", "layer 1", "layer 2", "final", "expression", "deviation", "attention",
    ]  # fmt: skip
    query = attention.query.detach().numpy()
    for place, cell in enumerate(rows):
        genes, values, states = tokens[cell]
        weights = np.exp(states[-1] @ query / 4)
        expected = {
            "layer 0": states[0].mean(axis=0),
            "layer 1": states[1].mean(axis=0),
            "layer 2": states[2].mean(axis=0),
            "final": states[-1].mean(axis=0),
            "expression": np.average(states[-1], axis=0, weights=values),
            "deviation": (states[-1] - means.numpy()[genes]).mean(axis=0),
            "attention": np.average(states[-1], axis=0, weights=weights),
        }
        for name, value in expected.items():
            np.testing.assert_allclose(found[name][place], value, rtol=1e-3, atol=1e-4)


def test_the_final_one_is_the_models_embedding(trained, cells, means):
    found = read_out_cells(trained.module, cells, np.arange(cells.n_cells), means)
    assert list(found) == names_of(trained.module)
    np.testing.assert_allclose(
        found["final"], trained.get_latent_representation(key_added=None), atol=1e-5
    )


def test_attention_learns_and_leaves_the_network_alone(trained, cells, weights_of):
    before = weights_of(trained)
    rows = np.arange(cells.n_cells)
    losses = [_loss(trained, cells, n_visits) for n_visits in (0, 4000)]
    assert losses[1] < 0.8 * losses[0]
    after = weights_of(trained)
    assert all(np.array_equal(before[name], after[name]) for name in before)
    one, two = (
        fit_attention(trained.module, cells, rows, n_visits=240, mask_fraction=0.4, seed=3)
        for _ in range(2)
    )
    assert torch.equal(one.query, two.query)
    assert one.query.abs().max() > 0


def _loss(trained, cells, n_visits):
    """Mean squared error of masked x~, predicted from what is read out of the other tokens."""
    rows = np.arange(cells.n_cells)
    read_out = fit_attention(
        trained.module, cells, rows, n_visits=n_visits, mask_fraction=0.4, seed=1
    )
    dataset = TokenDataset(cells.rows, cells.gene_map, make_tokenizer(trained.config, 0.4))
    network, errors = trained.module, []
    for cell in rows[:40]:
        batch = dataset[Request(np.array([cell]), seed=99)]
        n = int(batch.n_masked[0])
        with torch.no_grad():
            hidden = network.transformer(network.embed_tokens(batch))
            shown = torch.arange(hidden.shape[1])[None] >= n
            genes = network.gene_encoder(batch.genes[0, :n])
            predicted = read_out.decoder(read_out(hidden, shown) + genes)[:, 0]
        errors.append((predicted - batch.targets()[0]).square())
    return float(torch.cat(errors).mean())
