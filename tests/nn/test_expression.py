from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.special import erf, softmax

from scenc.nn import HardBinEncoder, LogBinEncoder, ModelConfig, RawEncoder, SoftBinEncoder
from scenc.nn.expression import build_expression_encoder, uniform_edges

D_MODEL = 6
VALUES = np.array([0.0, 0.02, 0.4, 1.0, 2.5, 7.3, 9.21], np.float32)


def weights(module, name):
    return module.get_submodule(name).weight.detach().numpy()


def bias(module, name):
    return module.get_submodule(name).bias.detach().numpy()


def encode(encoder, values=VALUES):
    with torch.no_grad():
        return encoder(torch.from_numpy(values)).numpy()


def close(a, b):
    np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("activation", "function"),
    [
        ("gelu", lambda x: 0.5 * x * (1 + erf(x / math.sqrt(2)))),
        ("relu", lambda x: np.maximum(x, 0)),
    ],
)
def test_raw_is_an_mlp_of_the_value(activation, function):
    encoder = RawEncoder(D_MODEL, hidden=9, activation=activation)
    hidden = function(VALUES[:, None] @ weights(encoder, "mlp.0").T + bias(encoder, "mlp.0"))
    close(encode(encoder), hidden @ weights(encoder, "mlp.2").T + bias(encoder, "mlp.2"))


@pytest.mark.parametrize("with_bias", [True, False])
def test_soft_is_a_mixture_of_bin_vectors(with_bias):
    encoder = SoftBinEncoder(D_MODEL, n_bins=5, hidden=9, bias=with_bias)
    first, second = (bias(encoder, f"weigh.{i}") if with_bias else 0 for i in (0, 2))
    hidden = VALUES[:, None] @ weights(encoder, "weigh.0").T + first
    leaky = np.where(hidden > 0, hidden, 0.01 * hidden)
    alpha = softmax(leaky @ weights(encoder, "weigh.2").T + second, axis=1)
    assert ("weigh.0.bias" in dict(encoder.named_parameters())) == with_bias
    close(encoder.weights(torch.from_numpy(VALUES)).detach(), alpha)
    close(encode(encoder), alpha @ weights(encoder, "table"))


def test_log_bins_are_floored_logarithms_with_a_ceiling():
    encoder = LogBinEncoder(D_MODEL, max_bin=10)
    counts = np.array([0, 1, 2, 3, 4, 6, 7, 8, 1022, 1023, 2046, 2047, 1e6, 0.5], np.float32)
    expected = [min(math.floor(math.log2(x + 1)), 10) for x in counts.tolist()]
    assert expected == [0, 1, 1, 2, 2, 2, 3, 3, 9, 10, 10, 10, 10, 0]
    assert encoder.bins(torch.from_numpy(counts)).tolist() == expected
    close(encode(encoder, counts), weights(encoder, "table")[expected])


def test_log_bins_are_exact_at_powers_of_two():
    encoder = LogBinEncoder(D_MODEL, max_bin=40)
    powers = torch.tensor([2.0**k - 1 for k in range(24)])
    assert encoder.bins(powers).tolist() == list(range(24))
    assert encoder.bins((powers - 1)[1:]).tolist()[1:] == list(range(1, 23))


def test_hard_bins_of_given_edges():
    edges = np.array([0.1, 1.0, 5.0], np.float32)
    encoder = HardBinEncoder(D_MODEL, n_bins=4, edges=torch.from_numpy(edges))
    expected = np.where(VALUES > 0, 1 + np.digitize(VALUES, edges, right=True), 0)
    assert expected.tolist() == [0, 1, 2, 2, 3, 4, 4]
    assert encoder.bins(torch.from_numpy(VALUES)).tolist() == expected.tolist()
    close(encode(encoder), weights(encoder, "table")[expected])


def test_hard_bins_found_by_the_tokenizer_are_looked_up():
    encoder = HardBinEncoder(D_MODEL, n_bins=4)
    assert encoder.reads == "quantile_bins"
    assert len(weights(encoder, "table")) == 5
    close(encode(encoder, np.array([0, 4, 1])), weights(encoder, "table")[[0, 4, 1]])


def test_hard_edges_must_fit_the_number_of_bins():
    with pytest.raises(ValueError, match="4 bins have 3 inner edges, got 2"):
        HardBinEncoder(D_MODEL, n_bins=4, edges=torch.zeros(2))


def test_uniform_edges_cut_the_range_of_values_into_equal_bins():
    edges = uniform_edges(4, 1e4).numpy()
    close(edges, np.log1p(1e4) * np.array([0.25, 0.5, 0.75]))


@pytest.mark.parametrize(
    ("settings", "kind", "reads", "n_bins"),
    [
        ({"expression_encoder": "raw"}, RawEncoder, "normalized", 0),
        ({"expression_encoder": "soft"}, SoftBinEncoder, "normalized", 20),
        ({"expression_encoder": "soft", "n_bins": 7}, SoftBinEncoder, "normalized", 7),
        ({"expression_encoder": "log"}, LogBinEncoder, "counts", 11),
        ({"expression_encoder": "log", "max_log_bin": 4}, LogBinEncoder, "counts", 5),
        ({"expression_encoder": "log", "log_input": "normalized"}, LogBinEncoder, "normalized", 11),
        ({"expression_encoder": "hard"}, HardBinEncoder, "quantile_bins", 50),
        ({"expression_encoder": "hard", "n_bins": 8}, HardBinEncoder, "quantile_bins", 8),
        ({"expression_encoder": "hard", "hard_edges": "uniform"}, HardBinEncoder, "normalized", 50),
    ],
)
def test_a_configuration_builds_its_encoder(settings, kind, reads, n_bins):
    config = ModelConfig(**settings)
    encoder = build_expression_encoder(config)
    assert type(encoder) is kind
    assert encoder.reads == reads
    assert config.n_expression_bins == n_bins
    assert config.quantile_bins == (n_bins if reads == "quantile_bins" else 0)
    if n_bins:
        assert len(encoder.table.weight) == n_bins + (kind is HardBinEncoder)
    if settings.get("hard_edges") == "uniform":
        close(encoder.edges, uniform_edges(50, config.target_sum))


@pytest.mark.parametrize("encoder", ["raw", "soft", "log", "hard"])
def test_encoders_read_a_batch_by_distinct_value(make_batch, encoder):
    config = ModelConfig(expression_encoder=encoder)
    module = build_expression_encoder(config)
    batch = make_batch(quantile_bins=config.quantile_bins)
    with torch.no_grad():
        encoded = module.encode(batch)
        expected = module(getattr(batch, module.reads))
    assert encoded.shape == (len(batch.normalized), config.d_model)
    assert torch.equal(encoded, expected)


def test_init_std_scales_the_tables():
    for kind in (HardBinEncoder, LogBinEncoder, SoftBinEncoder):
        torch.manual_seed(0)
        table = weights(kind(512, init_std=0.02), "table")
        assert table.std() == pytest.approx(0.02, rel=0.1)


def test_raw_reads_quantile_bins_as_scgpt_does(make_batch):
    """ContinuousValueEncoder of the bin's number: Linear, ReLU, Linear, LayerNorm."""
    config = ModelConfig(
        d_model=D_MODEL, n_heads=1, expression_encoder="raw", expression_hidden=D_MODEL,
        expression_input="quantile_bins", encoder_norm=True, activation="relu",
    )  # fmt: skip
    assert config.quantile_bins == 50
    encoder = build_expression_encoder(config)
    batch = make_batch(quantile_bins=config.quantile_bins)
    bins = batch.quantile_bins.numpy()[:, None].astype(float)
    assert bins.max() > 40
    hidden = np.maximum(bins @ weights(encoder, "mlp.0").T + bias(encoder, "mlp.0"), 0)
    out = hidden @ weights(encoder, "mlp.2").T + bias(encoder, "mlp.2")
    normed = (out - out.mean(axis=1, keepdims=True)) / np.sqrt(
        out.var(axis=1, keepdims=True) + 1e-5
    )
    with torch.no_grad():
        np.testing.assert_allclose(encoder.encode(batch).numpy(), normed, rtol=1e-4, atol=1e-4)


def test_soft_with_a_residual_is_scfoundations():
    """AutoDiscretizationEmbedding2: softmax(alpha h + W2 h + b2), h = LeakyReLU(0.1)."""
    encoder = SoftBinEncoder(D_MODEL, n_bins=7, hidden=7, slope=0.1, residual=0.5)
    linear = VALUES[:, None] @ weights(encoder, "weigh.0").T + bias(encoder, "weigh.0")
    hidden = np.where(linear > 0, linear, 0.1 * linear)
    logits = 0.5 * hidden + hidden @ weights(encoder, "weigh.2").T + bias(encoder, "weigh.2")
    close(encode(encoder), softmax(logits, axis=1) @ weights(encoder, "table"))
    with pytest.raises(ValueError, match="the hidden layer needs 20 units"):
        SoftBinEncoder(D_MODEL, residual=1.0)
    with pytest.raises(ValueError, match="set expression_hidden=20"):
        ModelConfig(soft_residual=1.0)


def test_soft_of_log_shares_is_states(make_batch, make_counts):
    counts = make_counts(12, 30)
    config = ModelConfig(d_model=D_MODEL, n_heads=1, n_bins=10, expression_input="log_share")
    assert config.log_shares
    encoder = build_expression_encoder(config)
    batch = make_batch(counts, log_shares=True)
    logged = np.log1p(counts.astype(float))
    expected = 100 * logged / logged.sum(axis=1, keepdims=True)
    for cell, length in enumerate(batch.lengths.tolist()):
        found = batch.log_shares[batch.value_index[cell, :length]].numpy()
        genes = batch.genes[cell, :length].numpy()
        np.testing.assert_allclose(found, expected[cell, genes], rtol=1e-5)
    with torch.no_grad():
        close(encoder.encode(batch), encode(encoder, batch.log_shares.numpy()))


def test_log_bins_of_scaled_counts_are_scberts(make_batch):
    """preprocess.py: normalize_total(1e4), log1p of base 2; SCDataset: at most 5, then floor."""
    config = ModelConfig(
        d_model=D_MODEL, n_heads=1, expression_encoder="log", log_input="scaled", max_log_bin=5
    )
    encoder = build_expression_encoder(config)
    rng = np.random.default_rng(0)
    counts = rng.integers(0, 4, (20, 30)).astype(np.float32)
    # Deep cells, in which scaled counts are small, some of them one less than a power of two.
    counts[:, 0] = 1e4 - counts[:, 1:].sum(axis=1)
    batch = make_batch(counts)
    scaled = counts.astype(float) * 1e4 / counts.sum(axis=1, keepdims=True)
    expected = np.floor(np.minimum(np.log2(1 + scaled), 5))
    assert set(expected.ravel()) == {0, 1, 2, 5}
    found = encoder.bins(batch.scaled)
    for cell, length in enumerate(batch.lengths.tolist()):
        at = batch.value_index[cell, :length]
        genes = batch.genes[cell, :length].numpy()
        assert found[at].tolist() == expected[cell, genes].tolist()
