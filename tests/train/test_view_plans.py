from __future__ import annotations

import numpy as np
import pytest
import torch

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
