from __future__ import annotations

import math
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from sklearn import metrics as sk
from sklearn.model_selection import train_test_split
from sklearn.neighbors import KNeighborsClassifier

from scenc.metrics import knn_classification


@pytest.fixture
def overlapping():
    """800 cells of three overlapping types, 20 of a fourth, 30 without label."""
    rng = np.random.default_rng(0)
    labels = np.repeat(["a", "b", "c", "few"], [300, 260, 240, 20]).astype(object)
    embedding = (
        rng.normal(size=(820, 3))
        + rng.normal(size=(4, 3))[np.repeat(range(4), [300, 260, 240, 20])]
    )
    labels[:30] = np.nan
    return embedding, labels


def test_it_is_the_plain_recipe(overlapping):
    embedding, labels = overlapping
    scores = knn_classification(embedding, labels, min_cells=230, seed=7)

    keep = pd.Series(labels).isin(["a", "b", "c"]).to_numpy()
    x, y = embedding[keep], labels[keep].astype(str)
    x_train, x_test, y_train, y_test = train_test_split(
        x, y, test_size=0.2, stratify=y, random_state=7
    )
    predicted = KNeighborsClassifier(n_neighbors=10).fit(x_train, y_train).predict(x_test)
    assert scores.accuracy == pytest.approx(sk.accuracy_score(y_test, predicted))
    assert scores.macro_f1 == pytest.approx(sk.f1_score(y_test, predicted, average="macro"))
    report = sk.classification_report(y_test, predicted, output_dict=True)
    for name, row in scores.per_class.iterrows():
        assert row["precision"] == pytest.approx(report[name]["precision"])
        assert row["recall"] == pytest.approx(report[name]["recall"])
        assert row["f1"] == pytest.approx(report[name]["f1-score"])
        assert row["support"] == report[name]["support"]
    assert (scores.n_train, scores.n_test) == (len(y_train), len(y_test))
    assert scores.dropped == {"few": 20}
    assert scores.n_unlabelled == 30
    assert math.isnan(scores.accuracy_std)
    assert not scores.reasons


def test_repeats_give_mean_and_spread(overlapping):
    scores = knn_classification(*overlapping, min_cells=230, n_repeats=5)
    assert scores.splits.shape == (5, 2)
    assert scores.splits["accuracy"].nunique() > 1
    assert scores.accuracy == pytest.approx(scores.splits["accuracy"].mean())
    assert scores.macro_f1_std == pytest.approx(scores.splits["macro_f1"].std())
    assert (scores.per_class["f1_std"] > 0).all()
    once = knn_classification(*overlapping, min_cells=230)
    assert once.accuracy == scores.splits["accuracy"][0]
    again = knn_classification(*overlapping, min_cells=230, n_repeats=5)
    pd.testing.assert_frame_equal(scores.splits, again.splits)


def test_scale_and_place_do_not_matter(overlapping):
    embedding, labels = overlapping
    a = knn_classification(embedding, labels, min_cells=230)
    b = knn_classification(embedding * 1024 + 4096, labels, min_cells=230)
    assert a.accuracy == b.accuracy
    pd.testing.assert_frame_equal(a.per_class, b.per_class)


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ({"min_cells": 500}, "no type has 500 cells or more"),
        ({"min_cells": 265}, "only one type, 'a', has 265 cells or more"),
        ({"min_cells": 20, "test_size": 0.003}, "too small for 4 types"),
        ({"min_cells": 20, "k": 700}, "fewer than k = 700"),
    ],
)
def test_undefined(overlapping, arguments, reason):
    scores = knn_classification(*overlapping, **arguments)
    assert math.isnan(scores.accuracy)
    assert math.isnan(scores.macro_f1)
    assert reason in scores.reasons["accuracy"]
    assert reason in scores.reasons["macro_f1"]
    assert scores.per_class.empty
    assert list(scores.per_class.columns) == ["precision", "recall", "f1", "support", "f1_std"]
    assert reason in str(scores)
    assert reason in scores._repr_html_().replace("&#x27;", "'")


def test_no_label_at_all(overlapping):
    scores = knn_classification(overlapping[0], [None] * 820)
    assert scores.reasons["accuracy"] == "no cell has a label"
    assert scores.n_unlabelled == 820
    assert scores.n_cells == 0


def test_a_type_that_is_never_predicted_has_f1_of_zero(overlapping):
    scores = knn_classification(*overlapping, min_cells=20)
    report = scores.per_class.loc["few"]
    assert report["support"] == 4
    assert report["f1"] == 0
    assert scores.macro_f1 == pytest.approx(scores.per_class["f1"].mean())


@pytest.mark.parametrize(
    "arguments", [{"min_cells": 1}, {"k": 0}, {"n_repeats": 0}, {"test_size": 1.0}]
)
def test_numbers_out_of_range(overlapping, arguments):
    with pytest.raises(ValueError, match=next(iter(arguments))):
        knn_classification(*overlapping, **arguments)


def test_it_prints(overlapping):
    scores = knn_classification(*overlapping, min_cells=230, n_repeats=2)
    text = str(scores)
    assert "770 cells, 3 types, k = 10, 2 x 616/154, 30 cells without label left out" in text
    assert "Dropped, fewer than 230 cells: few (20)." in text
    assert "f1_std" in text
    assert scores._repr_html_().count("<table") == 1
    assert repr(scores).startswith("ClassificationScores(accuracy=0.")
    assert list(scores.to_series().index) == list(scores.to_dict())


def test_importing_is_light_and_classification_needs_no_jax():
    code = """
import sys
import scenc.metrics as m
heavy = {"jax", "scib_metrics", "umap", "pynndescent", "igraph", "leidenalg", "torch", "scvi"}
assert not heavy & set(sys.modules), heavy & set(sys.modules)
assert "sklearn" not in sys.modules
m.knn_classification([[float(i % 2)] for i in range(100)], [i % 2 for i in range(100)], min_cells=9)
assert not heavy & set(sys.modules), heavy & set(sys.modules)
"""
    subprocess.run([sys.executable, "-c", code], check=True)
