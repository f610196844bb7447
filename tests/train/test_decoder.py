"""The decoder alone, fitted to z that is given."""

from __future__ import annotations

from copy import deepcopy

import numpy as np
import pytest
import torch
from scipy.stats import nbinom

from scenc.data import CellCounts
from scenc.nn import CountDecoder
from scenc.train import Latent, fit_decoder

N_CELLS, N_GENES, D_MODEL = 300, 12, 3


@pytest.fixture(scope="module")
def counts():
    """Counts of two kinds of cells, each with genes of its own."""
    rng = np.random.default_rng(0)
    kinds = np.arange(N_CELLS) % 2
    mean = np.full((2, N_GENES), 1.0)
    mean[0, : N_GENES // 2] = mean[1, N_GENES // 2 :] = 9.0
    return rng.poisson(mean[kinds]), kinds


@pytest.fixture
def parts(counts):
    values, kinds = counts
    torch.manual_seed(0)
    decoder = CountDecoder(D_MODEL, 8, N_GENES, [1])
    decoder.start_at(torch.from_numpy(values.sum(axis=0) / values.sum()).float())
    # The first dimension tells the kinds apart.
    mean = torch.zeros(N_CELLS, D_MODEL)
    mean[:, 0] = torch.from_numpy(2.0 * kinds - 1)
    latent = Latent(mean, torch.full((N_CELLS, D_MODEL), -4.0))

    def read(cells):
        cell, gene = np.nonzero(values[cells])
        return CellCounts(
            torch.from_numpy(cell),
            torch.from_numpy(gene),
            torch.from_numpy(values[cells][cell, gene].astype(np.float32)),
            torch.from_numpy(values[cells].sum(axis=1).astype(np.float32)),
            torch.zeros(len(cells), 1, dtype=torch.int64),
        )

    return decoder, latent, read


TRAIN, VALIDATION = np.arange(200), np.arange(200, N_CELLS)


def test_the_shares_of_each_kind_are_found(parts, counts):
    decoder, latent, read = parts
    before, after = fit_decoder(decoder, latent, read, TRAIN, VALIDATION, 300, seed=0)
    assert after < before
    values, kinds = counts
    decoded = decoder(latent.mean, torch.zeros(N_CELLS, 1, dtype=torch.int64)).log_share.exp()
    for kind in (0, 1):
        measured = values[kinds == kind].sum(axis=0)
        np.testing.assert_allclose(
            decoded.detach().numpy()[kinds == kind].mean(axis=0),
            measured / measured.sum(),
            atol=0.02,
        )


def test_losses_are_those_of_the_negative_binomial(parts, counts):
    decoder, latent, read = parts
    before, after = fit_decoder(decoder, latent, read, TRAIN, VALIDATION, 100, seed=0)
    values = counts[0][VALIDATION]
    with torch.no_grad():
        share = decoder(latent.mean[VALIDATION], torch.zeros(100, 1, dtype=torch.int64)).log_share
    mean = share.exp().numpy() * values.sum(axis=1, keepdims=True)
    theta = decoder.log_dispersion.exp().detach().numpy()
    expected = -nbinom.logpmf(values, theta, theta / (theta + mean)).mean()
    assert after == pytest.approx(expected, rel=1e-5)
    assert before > after


def test_equal_seeds_give_equal_weights_and_leave_random_states(parts):
    decoder, latent, read = parts
    other = deepcopy(decoder)
    state = torch.get_rng_state()
    for one in (decoder, other):
        fit_decoder(one, latent, read, TRAIN, VALIDATION, 60, seed=3)
    assert torch.equal(torch.get_rng_state(), state)
    for one, two in zip(decoder.parameters(), other.parameters(), strict=True):
        assert torch.equal(one, two)


def test_weights_that_validate_worse_are_not_kept(parts):
    decoder, latent, read = parts
    fit_decoder(decoder, latent, read, TRAIN, VALIDATION, 300, seed=0)
    best = deepcopy(decoder.state_dict())
    # Fitted to two cells, it knows less of the others.
    before, after = fit_decoder(decoder, latent, read, TRAIN[:2], VALIDATION, 200, seed=1)
    assert after <= before
    if after == before:
        for name, weights in decoder.state_dict().items():
            assert torch.equal(weights, best[name])


def test_without_validation_the_last_weights_stay(parts):
    decoder, latent, read = parts
    first = deepcopy(decoder.state_dict())
    before, after = fit_decoder(decoder, latent, read, TRAIN, VALIDATION[:0], 20, seed=0)
    assert np.isnan([before, after]).all()
    assert not torch.equal(decoder.output.weight, first["output.weight"])


def test_a_loss_that_is_not_finite_changes_nothing(parts):
    decoder, latent, read = parts
    latent.mean[:] = torch.nan
    first = deepcopy(decoder.state_dict())
    fit_decoder(decoder, latent, read, TRAIN, VALIDATION, 20, seed=0)
    for name, weights in decoder.state_dict().items():
        assert torch.equal(weights, first[name])


@pytest.mark.parametrize("reads", [1, 30])
def test_a_fit_that_is_broken_off_leaves_the_weights_from_before(parts, reads):
    decoder, latent, read = parts
    before = deepcopy(decoder.state_dict())
    left = iter(range(reads))

    def read_until_interrupted(cells):
        if next(left, None) is None:
            raise KeyboardInterrupt
        return read(cells)

    with pytest.raises(KeyboardInterrupt):
        fit_decoder(decoder, latent, read_until_interrupted, TRAIN, VALIDATION, 60, seed=0)
    for name, weight in decoder.state_dict().items():
        assert torch.equal(weight, before[name]), name
