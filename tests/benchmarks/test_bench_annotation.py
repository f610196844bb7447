import numpy as np
import pytest
from sklearn.metrics import roc_auc_score


@pytest.fixture
def bench(script):
    return script("bench_annotation")


def named(bench, best, confidence, distance=None, unknown=None):
    return bench.Named(np.array(best, dtype=object), np.array(confidence), distance, unknown)


def test_calibration_error_is_the_gap_in_each_bin(bench):
    confidence = np.array([0.95, 0.95, 0.95, 0.95, 0.5, 0.5])
    right = np.array([True, True, True, False, True, False])
    # Four cells 0.2 too sure, two as sure as they are right.
    assert bench.calibration_error(confidence, right) == pytest.approx(0.2 * 4 / 6)


def test_names_are_scored_where_the_reference_has_the_type(bench):
    truth = np.array(["B", "B", "T", "new", None], dtype=object)
    unknown = np.array([False, True, False, False, True])
    found = named(bench, ["B", "T", "T", "T", "B"], [0.9, 0.4, 0.8, 0.7, 0.6], None, unknown)
    scores = bench.score_names(found, truth, {"B", "T"})
    assert scores["n_cells"] == 3
    assert scores["accuracy"] == pytest.approx(2 / 3)
    assert scores["macro_f1"] == pytest.approx(2 / 3)
    assert scores["unknown_share"] == pytest.approx(1 / 3)
    assert scores["accuracy_named"] == 1


def test_cells_of_an_absent_type_are_told_from_the_others(bench):
    truth = np.array(["new", "new", "B", "T", None], dtype=object)
    distance, unknown = np.array([99, 10, 50, 20, 0.0]), np.array([True, False, False, True, False])
    found = named(bench, ["B"] * 5, [0.6, 0.3, 0.9, 0.5, 0.1], distance, unknown)
    scores = bench.score_unknown(found, truth, {"B", "T"}, "new")
    assert scores["auroc_conf"] == roc_auc_score([1, 1, 0, 0], [0.4, 0.7, 0.1, 0.5])
    assert scores["auroc_dist"] == roc_auc_score([1, 1, 0, 0], [99, 10, 50, 20])
    assert scores["auroc_either"] == roc_auc_score([1, 1, 0, 0], [0.99, 0.7, 0.5, 0.5])
    assert (scores["found"], scores["false"]) == (0.5, 0.5)


def test_lines_are_found_again(bench, tmp_path):
    file = bench.Lines(tmp_path / "runs.jsonl")
    key = {"task": "kang18", "method": "pca+knn", "seed": 0, "held_out": "labels"}
    assert not file.holds(key)
    file.add({**key, "accuracy": 0.5})
    assert file.holds(key)
    assert not file.holds({**key, "seed": 1})
