from __future__ import annotations

import numpy as np
import pytest
import scipy.stats
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.special import expit
from scvi.distributions import NegativeBinomial, ZeroInflatedNegativeBinomial
from torch.distributions import Normal
from torch.distributions import kl_divergence as torch_kl

from scenc._threads import kept_threads
from scenc.data import CellCounts
from scenc.nn import Bottleneck, CountDecoder, Decoded, count_loss, kl_divergence

N_CELLS, N_GENES = 12, 9


def sparse(counts, dtype=torch.float64):
    """Return dense counts as the likelihood wants them, without covariates."""
    cell, gene = np.nonzero(counts)
    return CellCounts(
        torch.from_numpy(cell),
        torch.from_numpy(gene),
        torch.tensor(counts[cell, gene], dtype=dtype),
        torch.tensor(counts.sum(axis=1).clip(min=1), dtype=dtype),
        torch.zeros(len(counts), 0, dtype=torch.int64),
    )


@pytest.fixture
def case():
    """Counts, the shares that a decoder might expect, theta, and logits of technical zeros."""
    rng = np.random.default_rng(0)
    shares = rng.dirichlet(np.full(N_GENES, 0.7), N_CELLS) + 1e-6
    shares /= shares.sum(axis=1, keepdims=True)
    theta = np.exp(rng.normal(0, 1.5, N_GENES))
    counts = rng.negative_binomial(1, 0.2, (N_CELLS, N_GENES)) * (rng.random((N_CELLS, 1)) < 0.9)
    return counts.astype(float), shares, theta, rng.normal(0, 2, shares.shape)


def loss_of(counts, shares, theta, zero_logit=None, dtype=torch.float64):
    zeros = None if zero_logit is None else torch.tensor(zero_logit, dtype=dtype)
    decoded = Decoded(torch.tensor(np.log(shares), dtype=dtype), zeros)
    log_theta = torch.tensor(np.log(theta), dtype=dtype)
    return count_loss(decoded, log_theta, sparse(counts, dtype)).numpy()


def scipy_nb(counts, mean, theta):
    """Return the log-probability of each count, where scipy counts failures before successes."""
    return scipy.stats.nbinom.logpmf(counts, theta, theta / (theta + mean))


def means(counts, shares):
    return shares * counts.sum(axis=1, keepdims=True).clip(min=1)


def test_the_loss_is_minus_scipys_log_probability(case):
    counts, shares, theta, _ = case
    assert (counts == 0).any()
    assert (counts.sum(axis=1) == 0).any(), "a cell without counts is among them"
    expected = -scipy_nb(counts, means(counts, shares), theta).sum(axis=1)
    np.testing.assert_allclose(loss_of(counts, shares, theta), expected, rtol=1e-10)
    single = loss_of(counts, shares, theta, dtype=torch.float32)
    np.testing.assert_allclose(single, expected, rtol=1e-4)


def test_the_zero_inflated_loss_is_its_formula(case):
    counts, shares, theta, logit = case
    technical = expit(logit)
    probability = (1 - technical) * np.exp(scipy_nb(counts, means(counts, shares), theta))
    probability += technical * (counts == 0)
    found = loss_of(counts, shares, theta, logit)
    np.testing.assert_allclose(found, -np.log(probability).sum(axis=1), rtol=1e-10)


# scvi-tools warns of fractions, and goes on.
@pytest.mark.filterwarnings("ignore:The value argument must be within the support")
@pytest.mark.parametrize("inflated", [False, True])
def test_the_loss_is_that_of_scvi_tools_also_of_fractions(case, inflated):
    whole, shares, theta, logit = case
    for counts in (whole, whole * 0.37):
        mean = torch.tensor(means(counts, shares))
        settings = {"mu": mean, "theta": torch.tensor(theta), "validate_args": False}
        theirs = (
            ZeroInflatedNegativeBinomial(**settings, zi_logits=torch.tensor(logit))
            if inflated
            else NegativeBinomial(**settings)
        )
        # They add 1e-8 to what they take logarithms of.
        expected = -theirs.log_prob(torch.tensor(counts)).sum(dim=1)
        found = loss_of(counts, shares, theta, logit if inflated else None)
        np.testing.assert_allclose(found, expected, rtol=1e-5)


@given(
    counts=arrays(np.int64, (4, 5), elements=st.one_of(st.just(0), st.integers(0, 5000))),
    logits=arrays(np.float64, (4, 5), elements=st.floats(-12, 12)),
    log_theta=arrays(np.float64, 5, elements=st.floats(-6, 6)),
)
def test_sparse_counts_are_as_likely_as_dense_ones(counts, logits, log_theta):
    shares = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    expected = -scipy_nb(counts, means(counts, shares), np.exp(log_theta)).sum(axis=1)
    found = loss_of(counts.astype(float), shares, np.exp(log_theta))
    np.testing.assert_allclose(found, expected, rtol=1e-7, atol=1e-7)


@pytest.mark.parametrize("log_theta", [-15.0, 0.0, 15.0])
@pytest.mark.parametrize("log_share", [-40.0, -1e-6])
@pytest.mark.parametrize("zero_logit", [None, -40.0, 40.0])
def test_extremes_have_finite_losses_and_gradients(log_theta, log_share, zero_logit):
    counts = np.array([[0.0, 0.0, 1.0], [1e6, 3.0, 0.0], [0.0, 0.0, 0.0]])
    leaves = [torch.full((3, 3), log_share), torch.full((3,), log_theta)]
    if zero_logit is not None:
        leaves.append(torch.full((3, 3), zero_logit))
    for leaf in leaves:
        leaf.requires_grad_()
    decoded = Decoded(leaves[0], None if zero_logit is None else leaves[2])
    losses = count_loss(decoded, leaves[1], sparse(counts, torch.float32))
    losses.sum().backward()
    assert torch.isfinite(losses).all()
    assert all(torch.isfinite(leaf.grad).all() for leaf in leaves)


def test_gradients_of_many_counts_are_alike_to_the_bit():
    """Several threads must not add up a gene's terms in an order that changes."""
    rng = np.random.default_rng(0)
    counts = sparse(rng.poisson(3, (200, 500)).astype(float), torch.float32)
    logits = torch.tensor(rng.normal(size=(200, 500)), dtype=torch.float32)
    decoded = Decoded(logits.log_softmax(dim=1), None)

    def gradient():
        log_theta = torch.zeros(500, requires_grad=True)
        count_loss(decoded, log_theta, counts).sum().backward()
        return log_theta.grad

    with kept_threads():
        torch.set_num_threads(2)
        first = gradient()
        assert all(torch.equal(first, gradient()) for _ in range(20))


def test_the_divergence_is_torchs():
    torch.manual_seed(0)
    mean, log_variance = torch.randn(2, 7, 5, dtype=torch.float64)
    z = Normal(mean, (0.5 * log_variance).exp())
    expected = torch_kl(z, Normal(torch.zeros_like(mean), 1.0)).sum(dim=1)
    torch.testing.assert_close(kl_divergence(mean, log_variance), expected)
    assert kl_divergence(torch.zeros(1, 3), torch.zeros(1, 3)).item() == 0


def test_a_new_bottleneck_scales_and_has_one_variance():
    torch.manual_seed(0)
    embedding = torch.randn(6, 4) * 3
    mean, log_variance = Bottleneck(4)(embedding)
    ratio = mean / embedding
    torch.testing.assert_close(ratio, ratio[0, 0].expand(6, 4))
    assert 0 < ratio[0, 0] < 1
    torch.testing.assert_close(log_variance, log_variance[0, 0].expand(6, 4))


@pytest.fixture
def decoder():
    """A decoder of two covariates, with weights as after some training."""
    torch.manual_seed(0)
    decoder = CountDecoder(4, 8, N_GENES, (3, 2), zero_inflated=True)
    for bias in decoder.biases:
        torch.nn.init.normal_(bias)
    return decoder


def cells(n=10):
    torch.manual_seed(1)
    return torch.randn(n, 4), torch.stack([torch.arange(n) % 3, torch.arange(n) % 2], dim=1)


def test_shares_add_up_to_one_and_depend_on_each_covariate(decoder):
    latent, codes = cells()
    decoded = decoder(latent, codes)
    torch.testing.assert_close(decoded.log_share.exp().sum(dim=1), torch.ones(10))
    assert decoded.zero_logit.shape == (10, N_GENES)
    assert CountDecoder(4, 8, N_GENES, (3, 2))(latent, codes).zero_logit is None
    for place in range(2):
        changed = codes.clone()
        changed[0, place] = (codes[0, place] + 1) % 2
        other = decoder(latent, changed).log_share
        assert (other[0] != decoded.log_share[0]).any()
        torch.testing.assert_close(other[1:], decoded.log_share[1:])


def test_a_decoder_starts_at_the_mean_profile():
    torch.manual_seed(0)
    decoder = CountDecoder(4, 8, N_GENES, (3, 2))
    profile = torch.rand(N_GENES)
    profile[2] = 0
    profile /= profile.sum()
    latent, codes = cells()
    decoder.start_at(torch.full((N_GENES,), 1 / N_GENES))
    even = decoder(latent, codes).log_share.exp()
    decoder.start_at(profile)
    found = decoder(latent, codes).log_share.exp()
    # Beside the profile there is what the hidden units say, whatever it is.
    expected = even * profile / (even * profile).sum(dim=1, keepdim=True)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6)
    torch.nn.init.zeros_(decoder.output.weight)
    found = decoder(latent, codes).log_share.exp()
    torch.testing.assert_close(found, profile.expand(10, -1), rtol=1e-4, atol=1e-6)


def test_more_categories_leave_the_known_ones_as_they_are(decoder):
    latent, codes = cells()
    before = decoder(latent, codes)
    tables = [t.detach().clone() for t in (*decoder.shifts, *decoder.biases)]
    decoder.extend([5, 2])
    after = decoder(latent, codes)
    assert torch.equal(before.log_share, after.log_share)
    assert torch.equal(before.zero_logit, after.zero_logit)
    for old, new in zip(tables, (*decoder.shifts, *decoder.biases), strict=True):
        assert torch.equal(new[: len(old)], old)
        torch.testing.assert_close(new[len(old) :], old.mean(dim=0).expand(len(new) - len(old), -1))
    assert [len(table) for table in decoder.shifts] == [5, 2]
    codes[:, 0] = 4
    decoder(latent, codes).log_share[:, 0].sum().backward()
    assert decoder.shifts[0].grad[4].any(), "new categories are trained"


def test_mixed_precision_ends_at_the_parts():
    torch.manual_seed(0)
    bottleneck, decoder = Bottleneck(4), CountDecoder(4, 8, N_GENES, (3, 2), zero_inflated=True)
    latent, codes = cells()
    exact = (*bottleneck(latent), *decoder(latent, codes))
    with torch.autocast("cpu", torch.bfloat16):
        found = (*bottleneck(latent), *decoder(latent, codes))
    for one, other in zip(found, exact, strict=True):
        assert one.dtype == torch.float32
        torch.testing.assert_close(one, other)
