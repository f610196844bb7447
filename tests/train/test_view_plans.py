from __future__ import annotations

from itertools import product

import numpy as np
import pytest
import scipy.sparse as sp
import scipy.stats
import torch
from torch.distributions import Normal
from torch.distributions import kl_divergence as torch_kl

from scenc.data import Neighborhoods, Request, Tokenizer, ViewDataset, open_rows
from scenc.nn import CellTransformer, ModelConfig
from scenc.train import GenerativePlan, TrainConfig
from scenc.train._view_plans import contrast_loss, distances


def info_nce(first, second, allowed, temperature):
    """Return the loss of one way, from its formula."""
    losses = []
    for i in range(len(first)):
        logits = first[i] @ second.T / temperature
        among = np.flatnonzero(allowed[i])
        losses.append(np.log(np.exp(logits[among]).sum()) - logits[i])
    return np.mean(losses)


@pytest.mark.parametrize("within_batch", [False, True])
def test_contrast_is_its_formula(within_batch):
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(2, 9, 4))
    first, second = vectors / np.linalg.norm(vectors, axis=2, keepdims=True)
    batches = rng.integers(0, 3, (2, 9))
    same = [(b[:, None] == b[None]) | (not within_batch) for b in (batches[1], batches[0])]
    expected = (info_nce(first, second, same[0], 0.3) + info_nce(second, first, same[1], 0.3)) / 2
    found = contrast_loss(*torch.tensor(vectors), torch.tensor(batches), 0.3, within_batch)
    assert float(found) == pytest.approx(expected, rel=1e-6)


def test_a_cell_alone_in_its_batch_has_nothing_to_be_told_from():
    vectors = torch.randn(3, 4)
    batches = torch.arange(3).expand(2, 3)
    assert float(contrast_loss(vectors, vectors, batches, 0.2, True)) == pytest.approx(0, abs=1e-6)


def test_distances_from_places_are_relative_to_the_places_own_lengths():
    rng = np.random.default_rng(0)
    places, cells = rng.normal(size=(2, 7, 3)), rng.normal(size=(2, 7, 5))
    own = np.array([True] * 5 + [False] * 2)
    apart, lengths = distances(*map(torch.tensor, (cells, places, own)))
    expected = ((cells[:, :5, :3] - places[:, :5]) ** 2).sum(axis=(1, 2))
    np.testing.assert_allclose(apart, expected)
    np.testing.assert_allclose(lengths, (places[:, :5] ** 2).sum(axis=(1, 2)))


N_PAIRS, N_GENES = 10, 30
WEIGHTS = {
    "counts_weight": 20.0,
    "partner_share": 0.3,
    "kl_weight": 2.0,
    "contrast_weight": 0.4,
    "anchor_weight": 0.7,
    "masked_weight": 0.5,
}


@pytest.fixture(scope="module")
def cells(make_counts):
    """Counts of 40 cells, their two covariates, and neighbours of the other batch for each."""
    counts = sp.csr_matrix(make_counts(40, N_GENES))
    covariates = np.stack([np.arange(40) % 2, np.arange(40) % 3], axis=1)
    anchors = np.random.default_rng(1).normal(size=(40, 5)).astype(np.float32)
    others = ((np.arange(40) + 1) % 40)[:, None]
    known = Neighborhoods(anchors, others, np.ones((40, 1)), covariates[:, 0])
    return counts, covariates, known


@pytest.fixture
def plan():
    """Return a maker of plans of equal networks; arguments are settings of the training."""

    def make(likelihood="nb", pooling="expression", **settings):
        torch.manual_seed(0)
        config = ModelConfig(
            objective="generative",
            likelihood=likelihood,
            d_model=16,
            n_layers=1,
            n_heads=2,
            d_feedforward=32,
            expression_hidden=16,
            pooling=pooling,
        )
        network = CellTransformer(config, N_GENES, n_categories=(2, 3))
        return GenerativePlan(network, TrainConfig(**{**WEIGHTS, **settings}))

    return make


@pytest.fixture
def batch(cells):
    """Return a maker of batches of pairs, the last two of which another rank has, too."""
    counts, covariates, known = cells

    def make(mask_fraction=0.2, n_repeated=2):
        tokenizer = Tokenizer(mask_fraction=mask_fraction, totals=True)
        args = (np.arange(N_GENES), tokenizer, known, (0.3, 0.9), 0.0, covariates)
        rows = np.arange(4, 4 + N_PAIRS)
        return ViewDataset(open_rows(counts), *args)[Request(rows, 3, n_repeated)]

    return make


def nb(counts, mean, theta):
    return scipy.stats.nbinom.logpmf(counts, theta, theta / (theta + mean)).sum(axis=1)


def expected_terms(plan, batch, cells, draw=None):
    """Work the terms out from the network's parts, the likelihood in scipy."""
    network, share = plan.network, plan.config.partner_share
    dense, covariates = cells[0].toarray(), cells[1]
    rows = np.arange(4, 4 + N_PAIRS)
    rows = (rows, (rows + 1) % 40)
    own = batch.real.numpy()
    with torch.no_grad():
        seen = []
        for view in (batch.first, batch.second):
            embedded = network.embed_cells(view)
            seen.append(embedded[torch.argsort(view.cells)])
        z_mean, log_variance = network.bottleneck(torch.stack(seen))
        latent = z_mean if draw is None else z_mean + draw * (0.5 * log_variance).exp()
        theta = network.count_decoder.log_dispersion.exp().numpy().astype(float)
        losses = np.zeros(N_PAIRS)
        for z, whose in product(range(2), repeat=2):
            weight = 1 - share if z == whose else share
            counts, codes = dense[rows[whose]], torch.tensor(covariates[rows[whose]])
            shares = network.count_decoder(latent[z], codes).log_share.double().exp().numpy()
            mean = shares * counts.sum(axis=1, keepdims=True)
            losses -= weight * nb(counts, mean, theta) / 2 / N_GENES
        standard = Normal(torch.zeros_like(z_mean), 1.0)
        apart = torch_kl(Normal(z_mean, (0.5 * log_variance).exp()), standard)
        kl = apart.sum(dim=2).mean(dim=0).numpy() / N_GENES
        errors, number = 0.0, 0
        for view in (batch.first, batch.second):
            each, n_masked = network.squared_errors(view)
            real = batch.real[view.cells]
            errors += float(each[real].sum())
            number += int(n_masked[real].sum())
        contrast = float(contrast_loss(*seen, batch.batches, plan.config.temperature, True))
        apart, lengths = distances(torch.stack(seen), batch.anchors, batch.real)
    return {
        "counts": losses[own].mean(),
        "kl": kl[own].mean(),
        "contrast": contrast,
        "anchor": float((apart / lengths).sum()),
        "masked": errors / max(number, 1),
    }


def total(terms, config):
    return (
        config.counts_weight * (terms["counts"] + config.kl_weight * terms["kl"])
        + config.contrast_weight * terms["contrast"]
        + config.anchor_weight * terms["anchor"]
        + config.masked_weight * terms["masked"]
    )


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_validation_takes_the_generative_terms_at_the_mean_of_z(plan, batch, cells, share):
    plan, batch = plan(partner_share=share), batch()
    plan.eval()
    with torch.no_grad():
        sums, numbers = plan.validation_sums(batch)
    assert (numbers == N_PAIRS - 2).all(), "pairs of another rank count there"
    found = sums / numbers
    terms = expected_terms(plan, batch, cells)
    np.testing.assert_allclose(found[1:], [*terms.values()], rtol=1e-4)
    assert float(found[0]) == pytest.approx(total(terms, plan.config), rel=1e-4)
    assert len(found) == len(plan.validation_names)


def test_training_decodes_a_draw_of_z(plan, batch, cells):
    plan, batch = plan(), batch()
    plan.train()
    torch.manual_seed(7)
    found = float(plan.training_step(batch, 0).detach())
    torch.manual_seed(7)
    terms = expected_terms(plan, batch, cells, torch.randn(2, N_PAIRS, 16))
    assert found == pytest.approx(total(terms, plan.config), rel=2e-6)
    at_mean = total(expected_terms(plan, batch, cells), plan.config)
    assert found != pytest.approx(at_mean, rel=2e-5)
    assert float(plan.last_loss) == found


@pytest.mark.parametrize("name", [name for name in WEIGHTS if name != "partner_share"])
def test_a_term_of_weight_0_is_left_out(plan, batch, cells, name):
    one, pairs = plan(**{name: 0.0}), batch()
    one.eval()
    with torch.no_grad():
        found = one.validation_sums(pairs)[0][0] / (N_PAIRS - 2)
    assert float(found) == pytest.approx(
        total(expected_terms(one, pairs, cells), one.config), rel=1e-4
    )


@pytest.mark.parametrize("likelihood", ["nb", "zinb"])
@pytest.mark.parametrize("pooling", ["expression", "mean"])
@pytest.mark.parametrize("left_out", [(), ("masked_weight", "anchor_weight", "contrast_weight")])
def test_every_weight_that_is_trained_has_a_gradient(plan, batch, likelihood, pooling, left_out):
    plan = plan(likelihood, pooling, **dict.fromkeys(left_out, 0.0))
    plan.train()
    plan.training_step(batch(mask_fraction=0.0 if left_out else 0.2), 0).backward()
    lacking = [n for n, w in plan.named_parameters() if w.requires_grad and w.grad is None]
    assert not lacking, "training on several GPUs would wait for them"
    unused = {name for name, weight in plan.named_parameters() if not weight.requires_grad}
    predicting = ("network.mask_token", "network.decoder.")
    if pooling == "expression":
        predicting += ("network.transformer.final_norm.",)
    masked = {name for name, _ in plan.named_parameters() if name.startswith(predicting)}
    assert unused == (masked if left_out else set())
    assert plan.network.count_decoder.log_dispersion.grad.any()
    assert plan.network.bottleneck.log_variance.weight.grad.any()


def test_the_loss_of_zero_inflated_counts_differs(plan, batch):
    pairs, losses = batch(), []
    for likelihood in ("nb", "zinb"):
        one = plan(likelihood).eval()
        with torch.no_grad():
            losses.append(float(one.validation_sums(pairs)[0][1]))
    assert np.isfinite(losses).all()
    assert losses[0] != losses[1]
