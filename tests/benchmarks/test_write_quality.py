import numpy as np
import pandas as pd
import pytest


@pytest.fixture
def write(script):
    return script("write_quality")


def runs(*rows):
    given = {"data": "pbmc7", "method": "pca", "seed": 0, "macro_f1": 0.5, "accuracy": 0.5}
    return pd.DataFrame([{**given, **row} for row in rows])


def saved(frame, path):
    frame.to_json(path, orient="records", lines=True)
    return path


def cells_of(table, row):
    lines = [line.strip("|").split("|") for line in table.splitlines() if line.startswith("|")]
    header, *rows = ([cell.strip() for cell in line] for line in lines)
    values = next(values for values in rows if values[0] == row)
    return dict(zip(header, values, strict=True))


def test_what_earlier_runs_did_not_measure_is_empty(write, tmp_path):
    found = write.read_runs(
        saved(runs({"seed": 0, "macro_f1": 0.5}, {"seed": 1, "macro_f1": 0.7}), tmp_path / "runs")
    )
    row = cells_of(write.data_set(found, "pbmc7"), "50 PCs")
    assert row["macro F1"] == "0.600 ± 0.141"
    assert row["seeds"] == "2"
    assert row["macro F1, logistic"] == row["NMI, KMeans"] == row["wall s"] == ""


def test_wall_time_is_of_training_and_embedding(write, tmp_path):
    source = saved(
        runs(
            {"method": "pca", "train_wall_seconds": 2.0, "kmeans_nmi": 0.25},
            {"method": "scvi", "train_wall_seconds": 30.0, "embed_wall_seconds": 4.0},
        ),
        tmp_path / "runs",
    )
    table = write.data_set(write.read_runs(source), "pbmc7")
    assert cells_of(table, "50 PCs")["wall s"] == "2"
    assert cells_of(table, "50 PCs")["NMI, KMeans"] == "0.250"
    assert cells_of(table, "scVI")["wall s"] == "34"


def test_means_take_methods_that_ran_on_all_data_sets(write, tmp_path):
    source = saved(
        runs(
            {"data": "pbmc7", "method": "pca", "macro_f1": 0.4},
            {"data": "luad", "method": "pca", "macro_f1": 0.8},
            {"data": "pbmc7", "method": "scvi"},
        ),
        tmp_path / "runs",
    )
    table = write.means(write.read_runs(source), ["pbmc7", "luad"], write.METHODS)
    assert cells_of(table, "50 PCs")["macro F1"] == "0.600"
    assert "scVI" not in table


def test_a_run_that_is_there_twice_is_refused(write, tmp_path):
    with pytest.raises(ValueError, match=r"holds twice:\n.*\n1 +pbmc7 +pca +0"):
        write.read_runs(saved(runs({}, {}), tmp_path / "runs"))


def test_curves_lie_at_the_cells_that_were_shown(write, tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr(write.scenc.pl, "save", lambda ax, path: drawn.append(ax))
    scores = {"bio_preservation": 0.7, "batch_correction": 0.6}
    found = write.read_runs(
        saved(
            runs(
                {**scores, "method": "scenc 50k", "macro_f1": 0.9, "visits": 30_000},
                {**scores, "method": "scenc 25k", "macro_f1": 0.8, "visits": None},
                {**scores, "method": "pca", "macro_f1": 0.75},
            ),
            tmp_path / "runs",
        )
    )
    write.draw_visits(found, tmp_path / "visits.svg")
    curve, reference = drawn[0].lines
    np.testing.assert_allclose(curve.get_xydata(), [(25, 0.8), (30, 0.9)])
    assert set(reference.get_ydata()) == {0.75}


def test_hidden_counts_are_tabled_by_data_set(write, tmp_path):
    source = saved(
        runs(
            {"data": "luad", "method": "knn", "explained": 0.25, "marker_correlation": 0.9},
            {"data": "pbmc3k", "method": "knn", "explained": 0.125, "marker_correlation": 0.8},
            {"data": "luad", "method": "gene_mean", "explained": 0.0, "deviance": 0.5},
        ),
        tmp_path / "runs",
    )
    tables = write.expression_tables(write.read_runs(source))
    assert cells_of(tables["hidden_molecules"], "15 nearest neighbours") == {
        "": "15 nearest neighbours",
        "lung adenocarcinoma": "0.250",
        "PBMC 3k": "0.125",
    }
    assert cells_of(tables["hidden_molecules"], "each gene's mean share")["PBMC 3k"] == ""
    assert (
        cells_of(tables["hidden_molecules_deviance"], "each gene's mean share")[
            "lung adenocarcinoma"
        ]
        == "0.500"
    )
    assert "mean share" not in tables["hidden_genes"]
