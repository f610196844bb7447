import argparse
import json

import numpy as np
import pandas as pd
import pytest
import scib_metrics
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedShuffleSplit, cross_val_score
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from scenc.metrics import knn_classification


@pytest.fixture
def bench(script):
    return script("bench_quality")


@pytest.fixture
def blobs():
    """Return an embedding in which three types overlap, and their labels; 9 cells are rare."""
    rng = np.random.default_rng(0)
    labels = np.repeat(["B", "NK", "T", "rare"], [60, 50, 40, 9])
    centres = {"B": (0, 0, 0, 0), "NK": (3, 0, 0, 0), "T": (0, 3, 0, 0), "rare": (9, 9, 0, 0)}
    places = np.array([centres[label] for label in labels]) + rng.normal(size=(len(labels), 4))
    return places.astype(np.float32), pd.Series(labels)


def test_kmeans_finds_types_as_scib_metrics_does(bench):
    rng = np.random.default_rng(1)
    groups = np.repeat([0, 1, 2], 50)
    places = (20 * np.eye(3)[groups] + rng.normal(size=(150, 3))).astype(np.float32)
    # A fifth has the wrong label, so that the scores are not 1.
    labels = np.where(np.arange(150) % 5 == 0, (groups + 1) % 3, groups)
    expected = scib_metrics.nmi_ari_cluster_labels_kmeans(places, labels)
    nmi, ari = bench.kmeans_agreement(places, labels.astype(str))
    assert 0.3 < nmi < 0.9
    assert nmi == pytest.approx(expected["nmi"], abs=1e-6)
    assert ari == pytest.approx(expected["ari"], abs=1e-6)


def test_kmeans_leaves_out_cells_without_a_label(bench):
    places = np.array([[0.0], [0.1], [9.0], [9.1], [500.0]])
    assert bench.kmeans_agreement(places, ["a", "a", "b", "b", None]) == (1.0, 1.0)
    assert bench.kmeans_agreement(places, ["a", "a", "b", "b", "c"]) == (1.0, 1.0)
    assert bench.kmeans_agreement(places, ["a", "b", "a", "b", None])[1] < 0


def test_splits_are_those_of_knn_classification(bench, blobs):
    places, labels = blobs
    rows, truth, splits = bench.classification_splits(labels)
    assert sorted(set(truth)) == ["B", "NK", "T"]
    accuracies = [
        KNeighborsClassifier(10)
        .fit(places[rows][train], truth[train])
        .score(places[rows][test], truth[test])
        for train, test in splits
    ]
    scores = knn_classification(places, labels, min_cells=20, n_repeats=5)
    assert accuracies == pytest.approx(scores.splits["accuracy"].tolist())
    assert len(set(accuracies)) > 1


def test_logistic_regression_is_that_of_scikit_learn(bench, blobs):
    places, labels = blobs
    kept = labels != "rare"
    expected = cross_val_score(
        make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000)),
        places[kept].astype(float),
        labels[kept],
        cv=StratifiedShuffleSplit(5, test_size=0.2, random_state=0),
        scoring="f1_macro",
    ).mean()
    assert bench.logistic_f1(places, labels) == pytest.approx(expected)
    # Dimensions are standardised: their units do not matter.
    assert bench.logistic_f1(places * [1e4, 1, 1, 1], labels) == pytest.approx(expected)


def test_logistic_regression_needs_two_types(bench):
    assert np.isnan(bench.logistic_f1(np.eye(30), ["a"] * 30))


@pytest.fixture
def run_file(bench, tmp_path, monkeypatch):
    """Return a function that opens the same file with a version of scenc."""

    def open_file(version, any_version=False):
        monkeypatch.setattr(bench, "source_version", lambda: version)
        return bench.RunFile(tmp_path / "runs.jsonl", bench.BASELINES, any_version)

    return open_file


def test_runs_are_computed_once(bench, run_file):
    asked = []

    def run(name, method, seed):
        asked.append((name, seed))
        return {"macro_f1": 0.5}

    methods = {"pca": bench.METHODS["pca"]}
    file = run_file("1.0")
    bench.compute_missing(file, ["luad"], methods, [0], run)
    bench.compute_missing(file, ["luad", "pbmc7"], methods, [0, 1], run)
    assert asked == [("luad", 0), ("pbmc7", 0), ("luad", 1), ("pbmc7", 1)]
    assert [(row["data"], row["seed"], row["version"]) for row in file.rows()] == [
        ("luad", 0, "1.0"),
        ("pbmc7", 0, "1.0"),
        ("luad", 1, "1.0"),
        ("pbmc7", 1, "1.0"),
    ]


def test_versions_of_scenc_do_not_share_a_file(run_file):
    row = {"data": "luad", "method": "scenc", "seed": 0, "settings": {}}
    run_file("1.0").add(row)
    with pytest.raises(SystemExit, match=r"'scenc' by scenc 1.0, and this is 2.0.*--any-version"):
        run_file("2.0").holds("luad", "no_kl", 0, {"kl_weight": 0.0})
    assert run_file("2.0", any_version=True).holds("luad", "scenc", 0, {})
    # Principal components are the same whatever scenc's version.
    assert not run_file("2.0").holds("luad", "pca", 0, {})


def test_one_name_has_one_setting(run_file):
    file = run_file("1.0")
    file.add({"data": "luad", "method": "scvi", "seed": 0, "settings": {"max_epochs": 5}})
    with pytest.raises(SystemExit, match="'scvi' with the settings {'max_epochs': 5}"):
        file.holds("luad", "scvi", 1, {})
    assert file.holds("luad", "scvi", 0, {"max_epochs": 5})


def test_lines_of_earlier_versions_are_found(run_file):
    file = run_file("1.0")
    file.path.write_text(json.dumps({"data": "luad", "method": "pca", "seed": 0}) + "\n")
    assert file.holds("luad", "pca", 0, {})
    assert not file.holds("luad", "pca", 1, {})


def parsed(**changes):
    given = {"methods": ["compared"], "variant": [], "scvi_epochs": None, "accelerator": "cpu"}
    return argparse.Namespace(**{**given, **changes})


def test_methods_are_chosen_by_name_family_and_variant(bench):
    args = parsed(
        methods=["scvi", "ablations"], scvi_epochs=3, variant=[("wide", '{"d_model": 128}')]
    )
    chosen = bench.chosen_methods(args, bench.METHODS, bench.FAMILIES)
    assert list(chosen) == ["scvi", *bench.ABLATIONS, "wide"]
    assert chosen["scvi"].settings == {"max_epochs": 3}
    assert chosen["wide"].settings == {"d_model": 128}


def test_methods_that_train_are_told_the_accelerator(bench):
    args = parsed(methods=["pca", "scvi", "scenc"], accelerator="cuda")
    chosen = bench.chosen_methods(args, bench.METHODS, bench.FAMILIES)
    assert [method.settings for method in chosen.values()] == [{}, *[{"accelerator": "cuda"}] * 2]


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (parsed(methods=["scvii"]), "There are no methods {'scvii'}"),
        (parsed(variant=[("pca", "{}")]), "'pca' is a method"),
    ],
)
def test_unusable_methods_are_refused(bench, args, message):
    with pytest.raises(SystemExit, match=message):
        bench.chosen_methods(args, bench.METHODS, bench.FAMILIES)
