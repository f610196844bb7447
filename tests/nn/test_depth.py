"""A token of the cell's depth beside its genes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from scenc.nn import CellTransformer, DepthToken, ModelConfig

SIZES = {"d_model": 12, "n_heads": 3, "d_feedforward": 20, "expression_hidden": 10}


def build(**settings):
    torch.manual_seed(0)
    return CellTransformer(ModelConfig(**{**SIZES, "depth_token": True, **settings}), 30).eval()


@pytest.fixture
def counts(make_counts):
    return make_counts(12, 30)


@torch.no_grad()
def test_the_token_is_an_mlp_of_the_log_of_the_library_size():
    token = DepthToken(6, target_sum=500.0, activation="relu")
    sizes = np.array([1.0, 500.0, 12_345.0], np.float32)
    first, second = (token.mlp[i] for i in (0, 2))
    depth = np.log(sizes / 500)[:, None]
    hidden = np.maximum(depth @ first.weight.numpy().T + first.bias.numpy(), 0)
    expected = hidden @ second.weight.numpy().T + second.bias.numpy()
    np.testing.assert_allclose(token(torch.from_numpy(sizes)).numpy(), expected, atol=1e-5)
    assert token(torch.zeros(2)).isfinite().all()


@torch.no_grad()
def test_genes_attend_to_it_and_it_is_not_in_their_mean(make_batch, counts):
    network = build()
    batch = make_batch(counts)
    np.testing.assert_allclose(batch.library_sizes, counts.sum(axis=1))
    embedded = network.embed_cells(batch)
    for cell, length in enumerate(batch.lengths.tolist()):
        genes = network.embed_tokens(batch)[cell, :length]
        depth = network.depth_token(batch.library_sizes[cell : cell + 1])
        encoded = network.transformer(torch.cat([genes, depth])[None])[0, :length]
        torch.testing.assert_close(embedded[cell], encoded.mean(dim=0), rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_attention_is_over_it_too(make_batch, counts):
    network = build(n_layers=1)
    batch = make_batch(counts)
    (weights,) = network.attention_weights(batch)
    assert weights.shape[2:] == (batch.n_tokens + 1, batch.n_tokens + 1)
    block, length = network.transformer.blocks[0], int(batch.lengths[3])
    depth = network.depth_token(batch.library_sizes[3:4])
    alone = torch.cat([network.embed_tokens(batch)[3, :length], depth])[None]
    expected = block.attention_weights(alone, None)[0]
    genes = weights[3, :, :length]
    torch.testing.assert_close(genes[:, :, :length], expected[:, :length, :length])
    torch.testing.assert_close(genes[:, :, -1], expected[:, :length, -1])


@pytest.mark.parametrize("expression_encoder", ["raw", "hard", "log", "soft"])
@torch.no_grad()
def test_every_encoding_knows_the_depth(make_batch, counts, expression_encoder):
    network = build(expression_encoder=expression_encoder)
    without = build(expression_encoder=expression_encoder, depth_token=False)
    bins = network.config.quantile_bins
    batch = make_batch(counts, quantile_bins=bins)
    deeper = make_batch(counts, quantile_bins=bins)
    deeper.library_sizes.mul_(3)
    shift = (network.embed_cells(batch) - network.embed_cells(deeper)).abs().amax(dim=1)
    assert (shift > 1e-4).all()
    torch.testing.assert_close(without.embed_cells(batch), without.embed_cells(deeper))


@torch.no_grad()
def test_predictions_of_genes_see_it_too(make_batch, counts):
    network = build()
    batch = make_batch(counts)
    named = torch.tensor([3, 7])
    predicted = network.predict(batch, named, named)
    for cell, length in enumerate(batch.lengths.tolist()):
        shown = [g not in (3, 7) for g in batch.genes[cell, :length].tolist()]
        genes = network.embed_tokens(batch)[cell, :length][shown]
        depth = network.depth_token(batch.library_sizes[cell : cell + 1])
        for place, gene in enumerate(named):
            query = network.gene_encoder(gene[None]) + network.mask_token
            tokens = torch.cat([genes, depth, query])
            # Only the query sees the query.
            attend = torch.ones(len(tokens), len(tokens), dtype=torch.bool)
            attend[:-1, -1] = False
            encoded = network.transformer(tokens[None], attend[None, None])[0, -1:]
            expected = network.decoder(encoded)[0, 0]
            torch.testing.assert_close(predicted[cell, place], expected, rtol=1e-4, atol=1e-5)


def test_it_is_trained_by_the_masked_loss(make_batch, counts):
    network = build().train()
    errors, n_masked = network.squared_errors(make_batch(counts, mask_fraction=0.4))
    (errors.sum() / n_masked.sum()).backward()
    assert all(weight.grad.abs().sum() > 0 for weight in network.depth_token.parameters())


def test_networks_without_it_draw_the_same_weights():
    torch.manual_seed(0)
    assert CellTransformer(ModelConfig(**SIZES), 30).depth_token is None
    plain = build(depth_token=False).state_dict()
    deep = build().state_dict()
    shared = {name: weight for name, weight in deep.items() if not name.startswith("depth_token")}
    assert shared.keys() == plain.keys()
    assert all(torch.equal(plain[name], shared[name]) for name in plain)


def test_batches_without_library_sizes_are_refused(make_batch, counts):
    network = build()
    with pytest.raises(ValueError, match="needs batches with library_sizes"):
        network.embed_cells(replace(make_batch(counts), library_sizes=None))
