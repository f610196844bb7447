"""What holds of every embedding: bounds, and what the scores must not depend on."""

from __future__ import annotations

import math

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from scenc import metrics

SCORES = (*metrics.BATCH_CORRECTION, *metrics.BIO_PRESERVATION)

# One shape throughout: jax compiles anew for each.
few = settings(max_examples=6)
seeds = st.integers(0, 2**32 - 1)


def _cells(seed, spread):
    """100 cells, 3 batches, 4 labels, the fourth not in batch 2."""
    rng = np.random.default_rng(seed)
    labels = np.r_[np.arange(4), rng.integers(0, 4, size=96)]
    batch = np.r_[0, 1, 2, 0, rng.integers(0, 3, size=96)]
    batch[(labels == 3) & (batch == 2)] = 0
    embedding = rng.normal(size=(100, 3)) + spread * rng.normal(size=(4, 3))[labels]
    return embedding, batch, labels


def _same(a, b, tolerance=0.0):
    for name in SCORES:
        x, y = getattr(a, name), getattr(b, name)
        assert math.isclose(x, y, rel_tol=0, abs_tol=tolerance), (name, x, y)


@few
@given(seeds, st.sampled_from([0.0, 1.0, 5.0]))
def test_scores_are_within_bounds(seed, spread):
    scores = metrics.integration(*_cells(seed, spread))
    assert not scores.reasons
    for name, value in scores.to_dict().items():
        assert (-1 if name == "ari" else 0) <= value <= 1, name


@few
@given(seeds, seeds)
def test_order_of_cells_does_not_matter(seed, other):
    embedding, batch, labels = _cells(seed, 1.0)
    order = np.random.default_rng(other).permutation(100)
    scores = metrics.integration(embedding, batch, labels)
    _same(scores, metrics.integration(embedding[order], batch[order], labels[order]))


@few
@given(seeds, st.permutations(["B", "T", "NK", "DC"]), st.permutations(["x", "y", "z"]))
def test_names_do_not_matter(seed, types, batches):
    embedding, batch, labels = _cells(seed, 1.0)
    renamed = metrics.integration(embedding, np.array(batches)[batch], np.array(types)[labels])
    _same(metrics.integration(embedding, batch, labels), renamed, 1e-6)


@few
@given(seeds, st.sampled_from([2.0**-20, 0.5, 1024.0]), st.sampled_from([0.0, 64.0]))
def test_scale_and_place_do_not_matter(seed, scale, shift):
    embedding, batch, labels = _cells(seed, 1.0)
    moved = (embedding + shift) * scale
    measured = ["ilisi", "clisi", "batch_asw", "label_asw", "graph_connectivity"]
    a = metrics.integration(embedding, batch, labels, metrics=measured)
    b = metrics.integration(moved, batch, labels, metrics=measured)
    for name in measured:
        assert math.isclose(getattr(a, name), getattr(b, name), abs_tol=1e-4), name


@few
@given(seeds)
def test_telling_labels_apart_better_scores_higher(seed):
    near = metrics.integration(*_cells(seed, 0.0))
    labels = _cells(seed, 0.0)[2]
    far_apart = _cells(seed, 0.0)[0] + 50 * np.eye(4)[labels][:, :3]
    far = metrics.integration(far_apart, *_cells(seed, 0.0)[1:])
    assert far.label_asw > near.label_asw
    assert far.clisi > near.clisi
    assert far.nmi > near.nmi
    assert far.bio_preservation > near.bio_preservation


@few
@given(seeds, st.permutations(range(100)))
def test_classification_counts_every_test_cell(seed, order):
    embedding, _, labels = _cells(seed, 2.0)
    scores = metrics.knn_classification(
        embedding[order], labels[order], min_cells=15, n_repeats=2, seed=seed
    )
    assert 0 <= scores.accuracy <= 1
    assert 0 <= scores.macro_f1 <= 1
    assert scores.per_class["support"].sum() == scores.n_test
    assert scores.n_cells + sum(scores.dropped.values()) == 100
