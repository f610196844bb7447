from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp
from sklearn.metrics import f1_score
from sklearn.model_selection import StratifiedShuffleSplit
from sklearn.neighbors import KNeighborsClassifier, NearestNeighbors

from scenc.tasks import Halves, check_embedding

N_CELLS = 400


@pytest.fixture(scope="module")
def groups():
    """Types of the cells, and batches that have nothing to do with them."""
    cells = np.arange(N_CELLS)
    return cells % 4, (cells // 4) % 2


@pytest.fixture(scope="module")
def noise():
    return np.random.default_rng(0).normal(size=(N_CELLS, 10)).astype(np.float32)


def apart(noise, groups, distance=20.0):
    """Move each group along an axis of its own."""
    return noise + distance * np.eye(noise.shape[1], dtype=np.float32)[groups]


def one_value(check, score, column="embedding"):
    return check.scores.loc[score, column]


def test_what_separates_and_mixes_better_is_called_better(noise, groups):
    labels, batches = groups
    good, bad = apart(noise, labels), apart(noise, batches)
    check = check_embedding(good, bad, batches.astype(str), labels.astype(str))
    assert (check.separation, check.mixing, check.is_better) == ("better", "better", True)
    turned = check_embedding(bad, good, batches.astype(str), labels.astype(str))
    assert (turned.separation, turned.mixing, turned.is_better) == ("worse", "worse", False)
    assert "worse than 10 principal components" in turned.conclude()
    for score in ("label_f1", "batch_f1"):
        assert one_value(check, score) == one_value(turned, score, "components")
        assert one_value(check, score, "components") == one_value(turned, score)


def test_one_and_the_same_is_alike(noise, groups):
    labels, batches = groups
    check = check_embedding(noise, noise.copy(), batches, labels)
    assert (check.separation, check.mixing, check.is_better) == ("alike", "alike", False)
    assert one_value(check, "neighbor_overlap") == 1


def test_noise_is_neither_better_nor_worse_than_other_noise(noise, groups):
    labels, batches = groups
    other = np.random.default_rng(1).normal(size=noise.shape).astype(np.float32)
    check = check_embedding(noise, other, batches, labels)
    assert (check.separation, check.mixing) == ("alike", "alike")
    # Nine of the other 399 cells and ten: chance.
    assert one_value(check, "neighbor_overlap") == pytest.approx(10 / 399, abs=0.02)


def test_labels_are_told_as_scikit_learn_does(noise, groups):
    labels, _ = groups
    places = apart(noise, labels, distance=2.0)
    scores = []
    for train, test in StratifiedShuffleSplit(5, test_size=0.2, random_state=3).split(
        labels, labels
    ):
        nearest = KNeighborsClassifier(10).fit(places[train], labels[train])
        scores.append(f1_score(labels[test], nearest.predict(places[test]), average="macro"))
    check = check_embedding(places, noise, None, labels, seed=3)
    assert 0.5 < one_value(check, "label_f1") < 1
    assert one_value(check, "label_f1") == pytest.approx(np.mean(scores), abs=1e-6)
    assert check.mixing == ""
    assert check.is_better


def halves_of(embedding, components, held_out):
    return Halves(embedding, components, sp.csr_matrix(held_out))


def test_without_labels_held_out_expression_is_told_within_batches(noise, groups):
    labels, batches = groups
    rng = np.random.default_rng(2)
    profiles = rng.gamma(1.0, 1.0, (4, 30))
    # Batches differ by much, which is no merit to tell.
    held_out = (rng.poisson(profiles[labels]) + 9 * batches[:, None]).astype(np.float32)
    good, bad = apart(noise, labels), apart(noise, batches)
    check = check_embedding(noise, noise, batches, None, halves_of(good, bad, held_out))
    assert check.separation == "better"
    for column, places in (("embedding", good), ("components", bad)):
        left = total = 0.0
        for batch in (0, 1):
            rows = np.flatnonzero(batches == batch)
            near = NearestNeighbors(n_neighbors=11).fit(places[rows]).kneighbors(places[rows])[1]
            near = near[:, 1:]
            left += ((held_out[rows] - held_out[rows][near].mean(axis=1)) ** 2).sum()
            total += ((held_out[rows] - held_out[rows].mean(axis=0)) ** 2).sum()
        # The report has the mean over five parts of the cells, each by itself.
        assert one_value(check, "held_out", column) == pytest.approx(1 - left / total, abs=0.01)
    assert "labels_key" in str(check)


def test_missing_labels_are_left_out(noise, groups):
    labels = np.where(np.arange(N_CELLS) < 300, groups[0].astype(str), None)
    check = check_embedding(apart(noise, groups[0]), noise, None, labels)
    assert check.n_labels == 4
    assert one_value(check, "label_f1") == 1


def test_what_is_undefined_says_why(noise):
    labels = np.where(np.arange(N_CELLS) < 5, "rare", "common")
    check = check_embedding(noise, noise, None, labels)
    assert np.isnan(one_value(check, "label_f1"))
    assert "only one type" in check.reasons["label_f1"]
    assert check.separation == check.mixing == ""
    assert "Nothing here tells" in check.conclude()
    assert "label_f1" not in check.to_dict()


def test_an_embedding_in_one_point_separates_worse(noise, groups):
    labels, batches = groups
    check = check_embedding(np.zeros_like(noise), apart(noise, labels), batches, labels)
    assert check.separation == "worse"
    assert check.mixing == ""
    assert not check.is_better


def test_it_prints_as_a_table(noise, groups):
    labels, batches = groups
    check = check_embedding(apart(noise, labels), noise, batches, labels)
    text, html = str(check), check._repr_html_()
    assert repr(check).startswith("<EmbeddingCheck: 400 cells, 2 batches, 4 labels.")
    for part in (
        "The embedding separates cells better than 10 principal components of the same data, and "
        "mixes batches about as well.",
        "10 PCs",
        "labels told by neighbours (macro F1)",
    ):
        assert part in text
        assert part in html
    assert list(check.to_frame().columns) == ["embedding", "components", "verdict"]
    assert check.to_dict()["label_f1"] == 1
