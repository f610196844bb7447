"""Names of cells by their embedding, against scikit-learn and formulas."""

from __future__ import annotations

import json

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from sklearn.neighbors import NearestNeighbors
from sklearn.preprocessing import StandardScaler

from scenc.io import ModelFileError
from scenc.tasks import UNKNOWN_LABEL, LabelClassifier, majority, over_clusters

QUIET = {"progress": False}
OPEN = {"unknown_threshold": 0.0, "distance_threshold": 100.0}


def draw(n_cells=400, n_types=4, n_dims=6, spread=1.0, seed=0):
    """Draw cells of types that overlap, of four batches that are shifted."""
    rng = np.random.default_rng(seed)
    centers = np.random.default_rng(99).normal(size=(n_types, n_dims)) * 2
    types = rng.integers(n_types, size=n_cells)
    batches = rng.integers(4, size=n_cells)
    cells = centers[types] + spread * rng.normal(size=(n_cells, n_dims)) + 0.2 * batches[:, None]
    names = np.array([f"type{i}" for i in range(n_types)], dtype=object)[types]
    return cells.astype(np.float32), names, batches


@pytest.fixture(scope="module")
def reference():
    return draw()


@pytest.fixture(scope="module")
def query():
    return draw(200, seed=1)


@pytest.fixture(scope="module", params=["logreg", "knn"])
def classifier(request, reference):
    cells, names, batches = reference
    return LabelClassifier.fit(cells, names, batches, method=request.param, **QUIET)


def test_logistic_regression_is_that_of_scikit_learn(reference, query):
    cells, names, _ = reference
    classifier = LabelClassifier.fit(cells, names, C=0.3, **OPEN, **QUIET)
    scaler = StandardScaler().fit(cells.astype(np.float64))
    expected = LogisticRegression(C=0.3, max_iter=1000).fit(scaler.transform(cells), names)
    logits = expected.decision_function(scaler.transform(query[0])) / classifier.temperature
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    found = classifier.predict(query[0])
    assert found.classes == tuple(expected.classes_)
    np.testing.assert_allclose(found.probabilities, probabilities, atol=2e-4)
    np.testing.assert_array_equal(found.labels, expected.predict(scaler.transform(query[0])))
    np.testing.assert_array_equal(found.confidence, found.probabilities.max(axis=1))


def test_two_types_have_the_probabilities_of_scikit_learn(query):
    cells, names, _ = draw(300, n_types=2)
    classifier = LabelClassifier.fit(cells, names, **OPEN, **QUIET)
    scaler = StandardScaler().fit(cells.astype(np.float64))
    expected = LogisticRegression(C=0.1, max_iter=1000).fit(scaler.transform(cells), names)
    logit = expected.decision_function(scaler.transform(query[0])) / classifier.temperature
    found = classifier.predict(query[0]).probabilities[:, 1]
    np.testing.assert_allclose(found, 1 / (1 + np.exp(-logit)), atol=2e-4)


def test_neighbors_vote_by_their_distance(reference, query):
    cells, names, _ = reference
    classifier = LabelClassifier.fit(cells, names, method="knn", n_neighbors=7, **OPEN, **QUIET)
    found = classifier.predict(query[0][:20])
    distances, rows = NearestNeighbors(n_neighbors=7).fit(cells).kneighbors(query[0][:20])
    for cell, (own, near) in enumerate(zip(distances, rows, strict=True)):
        weights = np.exp(-((own / own.mean()) ** 2))
        weights *= 7 / weights.sum()
        votes = np.array([weights[names[near] == name].sum() + 1 / 4 for name in found.classes])
        expected = votes ** (1 / classifier.temperature)
        np.testing.assert_allclose(found.probabilities[cell], expected / expected.sum(), atol=1e-4)


def test_the_temperature_makes_held_out_batches_likely(reference):
    """The best of a grid, with each batch left out in turn by scikit-learn."""
    cells, names, batches = reference
    classifier = LabelClassifier.fit(cells, names, batches, **QUIET)
    logits = np.zeros((len(cells), 4))
    for batch in range(4):
        out = batches == batch
        scaler = StandardScaler().fit(cells[~out].astype(np.float64))
        fitted = LogisticRegression(C=0.1, max_iter=1000)
        fitted.fit(scaler.transform(cells[~out]), names[~out])
        logits[out] = fitted.decision_function(scaler.transform(cells[out]))

    def loss(temperature):
        scaled = np.exp(logits / temperature)
        return log_loss(names, scaled / scaled.sum(axis=1, keepdims=True))

    grid = np.linspace(0.2, 3, 281)
    best = grid[np.argmin([loss(temperature) for temperature in grid])]
    assert classifier.n_batches == 4
    assert classifier.temperature == pytest.approx(best, abs=0.02)


def test_distances_are_percentiles_of_the_other_batches(reference, query):
    cells, names, batches = reference
    classifier = LabelClassifier.fit(cells, names, batches, **OPEN, **QUIET)
    found = classifier.predict(query[0])
    own = np.zeros(len(cells))
    for batch in range(4):
        out = batches == batch
        search = NearestNeighbors(n_neighbors=15).fit(cells[~out])
        own[out] = search.kneighbors(cells[out])[0].mean(axis=1)
    away = NearestNeighbors(n_neighbors=15).fit(cells).kneighbors(query[0])[0].mean(axis=1)
    expected = [
        100 * np.mean(own[names == label] <= distance)
        for label, distance in zip(found.labels, away, strict=True)
    ]
    # Ties and rounding move a percentile by one cell of a type at most.
    np.testing.assert_allclose(found.distance, expected, atol=1.1)


def test_what_is_far_or_doubtful_is_unknown(classifier, query):
    found = classifier.predict(query[0], unknown_threshold=0.8, distance_threshold=90)
    doubtful = (found.confidence < 0.8) | (found.distance > 90)
    np.testing.assert_array_equal(found.labels == UNKNOWN_LABEL, doubtful)
    assert 0 < doubtful.sum() < len(doubtful)
    far = classifier.predict(query[0] + 100)
    assert (far.labels == UNKNOWN_LABEL).all()
    assert (far.distance == 100).all()
    best = classifier.predict(query[0], **OPEN)
    assert UNKNOWN_LABEL not in best.labels


def test_a_cell_without_counts_is_unknown(classifier):
    found = classifier.predict(np.zeros((1, 6)), **OPEN)
    assert found.labels.tolist() == [UNKNOWN_LABEL]
    assert (found.confidence[0], found.distance[0]) == (0, 100)


def test_one_cell_has_the_values_it_has_among_others(classifier, query):
    alone, among = classifier.predict(query[0][7:8]), classifier.predict(query[0])
    assert alone.labels[0] == among.labels[7]
    np.testing.assert_allclose(alone.probabilities[0], among.probabilities[7], atol=1e-5)
    assert alone.distance[0] == among.distance[7]


def test_cells_without_a_label_are_left_out(reference):
    cells, names, _ = reference
    labels = names.copy()
    labels[:4] = [None, np.nan, "Unknown", "nan"]
    classifier = LabelClassifier.fit(cells, labels, **QUIET)
    same = LabelClassifier.fit(cells[4:], names[4:], **QUIET)
    assert classifier.n_unlabelled == 4
    assert classifier.temperature == same.temperature
    np.testing.assert_array_equal(classifier.directions.weights, same.directions.weights)


def test_batches_with_types_of_their_own(reference):
    cells, names, _ = reference
    classifier = LabelClassifier.fit(cells, names, names, **QUIET)
    plain = LabelClassifier.fit(cells, names, **QUIET)
    assert classifier.n_batches == 1
    assert classifier.temperature == plain.temperature


def test_a_saved_classifier_says_the_same(classifier, query, tmp_path):
    classifier.save(tmp_path / "saved")
    loaded = LabelClassifier.load(tmp_path / "saved")
    assert str(loaded) == str(classifier)
    first, second = classifier.predict(query[0]), loaded.predict(query[0])
    np.testing.assert_array_equal(first.labels, second.labels)
    np.testing.assert_array_equal(first.probabilities, second.probabilities)
    np.testing.assert_array_equal(first.distance, second.distance)
    with pytest.raises(FileExistsError, match="overwrite=True"):
        classifier.save(tmp_path / "saved")
    classifier.save(tmp_path / "saved", overwrite=True)
    (tmp_path / "other").mkdir()
    with pytest.raises(FileExistsError, match="no classifier"):
        classifier.save(tmp_path / "other", overwrite=True)


def change(name, value):
    def damage(folder):
        path = folder / "classifier.json"
        card = json.loads(path.read_text())
        path.write_text(json.dumps({**card, name: value}))

    return damage


def cut(folder):
    path = folder / "classifier.safetensors"
    path.write_bytes(path.read_bytes()[:-8])


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (cut, "checksums differ"),
        (change("format", "other"), "does not describe"),
        (change("version", 2), "format version 2; this scenc reads 1"),
        (change("classes", ["a", "b"]), "does not hold"),
        (change("temperature", -1), "temperature is -1"),
        (change("method", "forest"), "method must be one of"),
        (lambda folder: (folder / "classifier.json").write_text("{"), "is damaged"),
    ],
)
def test_damaged_files_are_named(classifier, tmp_path, damage, message):
    classifier.save(tmp_path / "saved")
    damage(tmp_path / "saved")
    with pytest.raises(ModelFileError, match=message):
        LabelClassifier.load(tmp_path / "saved")


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"classifier\.json is missing"):
        LabelClassifier.load(tmp_path / "nothing")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"labels": ["a"] * 400}, "two types or more, and has only 'a'"),
        ({"labels": [None] * 400}, "has none"),
        ({"labels": ["a"]}, "400 cells and 1 labels"),
        ({"embedding": np.full((400, 6), np.nan)}, "NaN or infinite values, first in row 0"),
        ({"embedding": np.zeros(400)}, "cells x dimensions"),
        ({"unknown_threshold": 2}, "probability, 0 to 1, got 2"),
        ({"distance_threshold": 101}, "percentile, 0 to 100, got 101"),
        ({"n_neighbors": 0}, "n_neighbors must be at least 1"),
        ({"C": 0}, "C must be positive"),
        ({"method": "tree"}, "method must be one of 'logreg', 'knn'"),
    ],
)
def test_bad_input_is_named(reference, change, message):
    given = {"embedding": reference[0], "labels": reference[1], **QUIET, **change}
    with pytest.raises(ValueError, match=message):
        LabelClassifier.fit(given.pop("embedding"), given.pop("labels"), **given)


def test_other_dimensions_are_refused(classifier):
    with pytest.raises(ValueError, match="6 dimensions, and these have 5: embed the cells by"):
        classifier.predict(np.ones((3, 5)))


def test_a_type_for_each_cell_teaches_nothing():
    with pytest.raises(ValueError, match="nothing to learn from"):
        LabelClassifier.fit(np.eye(5), list("abcde"), **QUIET)


def test_clusters_vote():
    labels = np.array(["B", "B", "T", "T", "Unknown", "NK"], dtype=object)
    clusters = np.array(["x", "x", "x", "y", "y", None], dtype=object)
    # In y, T and "Unknown" have one vote each.
    assert majority(labels, clusters).tolist() == ["B", "B", "B", "T", "T", "NK"]


def test_small_clusters_lie_within_types():
    cells, names, _ = draw(300, spread=0.1)
    clusters = over_clusters(cells)
    assert len(np.unique(clusters)) > 4
    voted = majority(names, clusters)
    np.testing.assert_array_equal(voted, names)
    assert over_clusters(cells[:2]).tolist() == [0, 1]
