from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from scenc.data import LengthBucket, TokenBatch
from scenc.nn import CellTransformer, ModelConfig, ProteinGeneEncoder

N_GENES = 30
SIZES = {"d_model": 12, "n_heads": 3, "d_feedforward": 20, "expression_hidden": 10}


def build(seed=0, **settings):
    config = ModelConfig(**{**SIZES, **settings})
    torch.manual_seed(seed)
    encoder = None
    if config.gene_encoder == "protein":
        has_vector = torch.arange(N_GENES) % 5 > 0
        encoder = ProteinGeneEncoder.from_vectors(
            torch.randn(N_GENES, 8), config.d_model, has_vector=has_vector, hidden=9
        )
    return CellTransformer(config, N_GENES, encoder).eval()


@pytest.fixture
def network():
    return build()


def encode(network, batch):
    """Return the last layer's tokens, from the whole batch at once."""
    keys = batch.valid
    keys[:, 0] = True  # attention to nothing is undefined
    return network.transformer(network.embed_tokens(batch), keys[:, None, None])


def pad(batch, width):
    """Append tokens of padding."""
    more = width - batch.n_tokens
    buckets = [LengthBucket(b.start, b.end, b.width + more, True) for b in batch.length_buckets]
    wider = {"length_buckets": tuple(buckets)} | {
        name: torch.nn.functional.pad(getattr(batch, name), (0, more))
        for name in ("genes", "value_index")
    }
    return replace(batch, **wider)


@pytest.mark.parametrize("expression_encoder", ["raw", "hard", "log", "soft"])
@torch.no_grad()
def test_tokens_are_gene_plus_expression_or_mask(make_batch, expression_encoder):
    network = build(expression_encoder=expression_encoder)
    bins = network.config.quantile_bins
    batch = make_batch(mask_fraction=0.4, quantile_bins=bins)
    tokens = network.embed_tokens(batch).numpy()

    genes = network.gene_encoder.table().numpy()
    values = getattr(batch, network.expression_encoder.reads)
    for cell, length in enumerate(batch.lengths.tolist()):
        for position in range(length):
            value = values[batch.value_index[cell, position]][None]
            expression = network.expression_encoder(value)[0].numpy()
            if position < batch.n_masked[cell]:
                expression = network.mask_token.numpy()
            expected = genes[batch.genes[cell, position]] + expression
            np.testing.assert_allclose(tokens[cell, position], expected, rtol=1e-5, atol=1e-6)


@torch.no_grad()
def test_masked_values_are_hidden(make_batch, network):
    batch = make_batch(mask_fraction=0.5)
    hidden = torch.zeros(len(batch.normalized), dtype=torch.bool)
    shown = hidden.clone()
    hidden[batch.value_index[:, : batch.max_masked][batch.masked]] = True
    seen = batch.valid.clone()
    seen[:, : batch.max_masked] &= ~batch.masked
    shown[batch.value_index[seen]] = True
    only_hidden = hidden & ~shown
    assert only_hidden.any()
    changed = replace(batch, normalized=torch.where(only_hidden, 99.0, batch.normalized))
    predictions = [network.reconstruct(b)[batch.masked] for b in (batch, changed)]
    assert torch.equal(*predictions)
    assert not torch.equal(changed.targets(), batch.targets())


@torch.no_grad()
def test_a_cell_is_the_mean_of_its_tokens(make_batch, network):
    batch = make_batch()
    assert batch.length_buckets[0].is_padded
    encoded, pooled = encode(network, batch).numpy(), network.embed_cells(batch).numpy()
    for cell, length in enumerate(batch.lengths.tolist()):
        np.testing.assert_allclose(
            pooled[cell], encoded[cell, :length].mean(axis=0), rtol=1e-5, atol=1e-6
        )


@torch.no_grad()
def test_padding_changes_nothing(make_batch, network):
    even = make_batch(np.ones((3, N_GENES)), mask_fraction=0.3)
    assert not even.length_buckets[0].is_padded
    for batch in (even, make_batch(mask_fraction=0.3)):
        wider = pad(batch, 50)
        torch.testing.assert_close(network.embed_cells(wider), network.embed_cells(batch))
        torch.testing.assert_close(network.reconstruct(wider), network.reconstruct(batch))


@pytest.mark.parametrize("in_order", [True, False])
@torch.no_grad()
def test_taking_a_batch_in_buckets_changes_nothing(make_batch, network, in_order):
    lengths = np.random.default_rng(0).integers(0, N_GENES, 80)
    lengths = -np.sort(-lengths) if in_order else lengths
    batch = make_batch(np.arange(N_GENES) < lengths[:, None], mask_fraction=0.5)
    whole = replace(batch, length_buckets=(LengthBucket(0, 80, batch.n_tokens, True),))
    assert len(batch.length_buckets) > 1
    for result in (
        network.embed_cells,
        lambda b: network.reconstruct(b)[b.masked],
        lambda b: network.squared_errors(b)[0],
    ):
        torch.testing.assert_close(result(batch), result(whole), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"depth_token": True, "gene_encoder": "protein"},
        {"pooling": "expression", "expression_encoder": "soft"},
    ],
)
def test_packing_a_batch_changes_nothing(make_batch, settings):
    network = build(**settings)
    lengths = np.random.default_rng(0).integers(0, N_GENES, 60)
    lengths[7] = 0
    counts = np.arange(N_GENES) < lengths[:, None]
    batch = make_batch(counts, mask_fraction=0.5, totals=True)
    packed = batch.packed()

    def results(batch):
        network.zero_grad()
        embedded = network.embed_cells(batch)
        errors, _ = network.squared_errors(batch)
        (errors.sum() + embedded.square().sum()).backward()
        gradients = [p.grad for p in network.parameters() if p.grad is not None]
        return [embedded.detach(), errors.detach(), *gradients]

    for found, expected in zip(results(packed), results(batch), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
    for read_out in ("expression", 0, 1):
        found, expected = (network.embed_cells(each, read_out) for each in (packed, batch))
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_only_buckets_with_padding_have_a_mask(make_batch, network):
    masks = []
    for block in network.transformer.blocks:
        block.register_forward_pre_hook(lambda _, inputs: masks.append(inputs[1]))
    lengths = np.array([30] * 20 + [18] * 20 + [9, 8] * 10)
    batch = make_batch(np.arange(N_GENES) < lengths[:, None], context=25)
    together = replace(batch, length_buckets=(LengthBucket(0, 60, 25, True),))
    found = network.embed_cells(batch)
    n_layers = len(network.transformer.blocks)
    assert [mask is None for mask in masks] == [True] * 2 * n_layers + [False] * n_layers
    masks.clear()
    torch.testing.assert_close(found, network.embed_cells(together), rtol=1e-4, atol=1e-5)
    assert not any(mask is None for mask in masks)


@torch.no_grad()
def test_errors_are_squared_differences_at_masked_tokens_only(make_batch, network):
    batch = make_batch(mask_fraction=0.4)
    errors, n_masked = network.squared_errors(batch)
    decoded = network.decoder(encode(network, batch))[..., 0].numpy()
    values = batch.values().numpy()
    for cell, n in enumerate(batch.n_masked.tolist()):
        assert n_masked[cell] == n == max(1, round(0.4 * int(batch.lengths[cell])))
        expected = ((decoded[cell, :n] - values[cell, :n]) ** 2).sum()
        assert errors[cell] == pytest.approx(expected, rel=1e-5)


def test_only_masked_positions_are_decoded(make_batch, network):
    batch, seen = make_batch(mask_fraction=0.2), []
    network.decoder.register_forward_hook(lambda _, inputs, __: seen.append(inputs[0].shape[1]))
    network.squared_errors(batch)
    network.embed_cells(batch)
    assert seen == [batch.max_masked]
    assert batch.max_masked < batch.n_tokens


@pytest.mark.parametrize(
    ("counts", "mask_fraction"),
    [
        ([[3]], 0.5),
        ([[3], [0]], 0.5),
        ([[0], [0]], 0.5),
        ([[1, 2], [0, 4]], 0.0),
        ([[1, 2], [0, 4]], 1.0),
    ],
    ids=["one token", "an empty cell", "only empty cells", "nothing masked", "all masked"],
)
@pytest.mark.parametrize("norm", ["pre", "post"])
def test_extreme_batches_give_finite_losses_gradients_and_cells(
    make_batch, counts, mask_fraction, norm
):
    network = build(norm=norm).train()
    batch = make_batch(counts, mask_fraction=mask_fraction)
    errors, n_masked = network.squared_errors(batch)
    loss = errors.sum() / n_masked.sum().clamp(min=1)
    loss.backward()
    assert loss.isfinite()
    assert all(w.grad is None or w.grad.isfinite().all() for w in network.parameters())
    assert (errors[batch.n_masked == 0] == 0).all()
    cells = network.embed_cells(batch)
    assert cells.isfinite().all()
    assert not cells[batch.lengths == 0].any()


def test_gradients_reach_every_parameter(make_batch, encoding):
    network = build(**encoding).train()
    batch = make_batch(mask_fraction=0.5, quantile_bins=network.config.quantile_bins)
    errors, n_masked = network.squared_errors(batch)
    (errors.sum() / n_masked.sum()).backward()
    unreached = [
        name
        for name, w in network.named_parameters()
        if w.grad is None or not w.grad.isfinite().all() or not w.grad.any()
    ]
    assert unreached == []


def without(batch, cell, hidden, query):
    """One cell as a batch: a masked query first, then the cell's tokens that are not hidden."""
    length = int(batch.lengths[cell])
    keep = [i for i in range(length) if int(batch.genes[cell, i]) not in hidden]
    one = torch.tensor([1])
    return TokenBatch(
        genes=torch.tensor([[query, *batch.genes[cell, keep].tolist()]]),
        value_index=torch.tensor([[0, *batch.value_index[cell, keep].tolist()]]),
        normalized=batch.normalized,
        counts=batch.counts,
        quantile_bins=None,
        lengths=one * (len(keep) + 1),
        n_masked=one,
        cells=one,
        totals=one,
        max_masked=1,
        n_valid=len(keep) + 1,
        length_buckets=(LengthBucket(0, 1, len(keep) + 1, False),),
    )


@torch.no_grad()
def test_a_prediction_is_that_of_a_masked_token_beside_the_unhidden_ones(make_batch):
    # In one layer it makes no difference that the cell's tokens do not see the query.
    network = build(n_layers=1)
    batch = make_batch()
    genes, hidden = [4, 0, 17], [4, 0, 17, 9]
    predicted = network.predict(batch, torch.tensor(genes), torch.tensor(hidden))
    assert predicted.shape == (batch.n_cells, 3)
    for cell in range(batch.n_cells):
        for column, gene in enumerate(genes):
            naive = network.reconstruct(without(batch, cell, hidden, gene))
            torch.testing.assert_close(predicted[cell, column], naive[0, 0], rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_queries_neither_see_each_other_nor_are_seen(make_batch):
    network, batch = build(n_layers=3), make_batch()
    hidden = torch.tensor([4, 0, 17])
    together = network.predict(batch, hidden, hidden)
    for column, gene in enumerate(hidden):
        alone = network.predict(batch, gene[None], hidden)[:, 0]
        torch.testing.assert_close(together[:, column], alone, rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_predictions_do_not_see_the_hidden_counts(make_batch):
    network, rng = build(n_layers=2), np.random.default_rng(0)
    counts = rng.poisson(1.0, (5, N_GENES))
    counts[:, 1] += 1
    batch = make_batch(counts)
    hidden = torch.tensor([1, 2])
    before = network.predict(batch, hidden, hidden)
    moved = batch.value_index.clone()
    moved[torch.isin(batch.genes, hidden)] = 0
    after = network.predict(replace(batch, value_index=moved), hidden, hidden)
    torch.testing.assert_close(before, after)


@torch.no_grad()
def test_a_cell_whose_every_gene_is_hidden_is_predicted(make_batch, network):
    batch = make_batch([[2, 0, 0], [0, 0, 0], [1, 1, 1]])
    predicted = network.predict(batch, torch.tensor([0]), torch.tensor([0, 1, 2]))
    assert predicted.isfinite().all()
    torch.testing.assert_close(predicted[0], predicted[1])
    torch.testing.assert_close(predicted[0], predicted[2])


@torch.no_grad()
def test_hard_bins_at_global_edges_see_values_instead_of_bins(make_batch):
    config = ModelConfig(**SIZES, expression_encoder="hard", hard_edges="global", n_bins=3)
    edges = torch.tensor([1.0, 2.0])
    network = CellTransformer(config, N_GENES, edges=edges)
    assert torch.equal(network.expression_encoder.edges, edges)
    assert network.embed_cells(make_batch()).isfinite().all()


def test_device_is_where_the_weights_are(network):
    assert network.device == torch.device("cpu")
    assert network.to("meta").device == torch.device("meta")


def test_pooling_by_expression_asks_for_the_sums_it_needs(make_batch):
    network = build(pooling="expression")
    with pytest.raises(ValueError, match=r"Tokenizer\(totals=True\)"):
        network.embed_cells(make_batch())
    assert network.embed_cells(make_batch(totals=True)).isfinite().all()


@pytest.mark.parametrize("norm", ["pre", "post"])
def test_checkpointed_blocks_give_the_same_gradients(make_batch, norm):
    network = build(norm=norm, n_layers=3, dropout=0.2).train()
    batch = make_batch(mask_fraction=0.5)
    found, calls = [], []
    network.transformer.blocks[1].register_forward_pre_hook(lambda *_: calls.append(1))
    for again in (False, True):
        network.transformer.checkpoint_blocks = again
        network.zero_grad()
        torch.manual_seed(3)
        errors, n_masked = network.squared_errors(batch)
        (errors.sum() / n_masked.sum()).backward()
        found.append([w.grad.clone() for w in network.parameters() if w.grad is not None])
    assert len(calls) == 3
    assert all(torch.equal(one, other) for one, other in zip(*found, strict=True))
    with torch.no_grad():
        network.eval().embed_cells(batch)
    assert len(calls) == 4


@pytest.mark.parametrize("depth_token", [False, True])
@pytest.mark.parametrize("pooling", ["mean", "expression"])
@torch.no_grad()
def test_embeddings_from_vectors_and_weights(make_batch, pooling, depth_token):
    network = build(pooling=pooling, depth_token=depth_token)
    if pooling == "expression":
        torch.nn.init.normal_(network.center)
    batch = make_batch(context=8, totals=pooling == "expression")
    weights = network.pooling_weights(batch)
    found = network.embed_vectors(
        network.embed_tokens(batch), weights, batch.lengths, network.depth_tokens(batch)
    )
    torch.testing.assert_close(found, network.embed_cells(batch))
    total = batch.totals if pooling == "expression" else torch.ones(batch.n_cells)
    torch.testing.assert_close(weights.sum(dim=1), total)
    assert not weights[~batch.valid].any()


@pytest.mark.parametrize("pooling", ["mean", "expression"])
@torch.no_grad()
def test_embeddings_are_means_of_token_states(make_batch, pooling):
    network = build(pooling=pooling)
    batch = make_batch(totals=pooling == "expression")
    weights, embedding = network.pooling_weights(batch), network.embed_cells(batch)
    for cells, states in network.token_states(batch):
        used = weights[cells, : states.shape[1]]
        expected = torch.einsum("ct,ctd->cd", used, states)
        if pooling == "expression":
            expected = expected / N_GENES**0.5
        torch.testing.assert_close(embedding[cells], expected)
