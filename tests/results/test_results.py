"""The arithmetic of the tables, against numbers worked out by other means."""

from __future__ import annotations

import itertools
import json

import numpy as np
import pandas as pd
import pytest

from scenc.benchmark import Results

GRID = list(itertools.product(("learned", "protein"), ("raw", "hard", "soft")))


@pytest.fixture(scope="module")
def scores():
    """6 encodings, a control and a baseline on 4 data sets with 3 seeds, two metrics."""
    rng = np.random.default_rng(0)
    names = [(f"{g} + {e}", "encoding", g, e) for g, e in GRID]
    names += [("learned + hard (global edges)", "control", "learned", "hard")]
    names += [("PCA", "baseline", None, None)]
    rows = [
        (*who, dataset, metric, seed, rng.uniform(0.1, 0.9), "")
        for who in names
        for dataset in "abcd"
        for metric in ("accuracy", "ari")
        for seed in (0, 1, 2)
    ]
    columns = ["encoding", "kind", "gene_encoder", "expression_encoder", "dataset", "metric",
               "seed", "value", "reason"]  # fmt: skip
    return pd.DataFrame(rows, columns=columns)


@pytest.fixture(scope="module")
def results(scores):
    return Results.from_tables(scores)


def cube(scores, encoding, metric):
    """Values of an encoding, data sets x seeds, by loops."""
    of = scores[(scores["encoding"] == encoding) & (scores["metric"] == metric)]
    values = {(row.dataset, row.seed): row.value for row in of.itertuples()}
    return np.array([[values[d, s] for s in (0, 1, 2)] for d in "abcd"])


def row(table, **wanted):
    found = table[np.logical_and.reduce([table[name] == value for name, value in wanted.items()])]
    assert len(found) == 1
    return found.iloc[0]


def test_per_dataset_is_the_mean_over_seeds(results, scores):
    found = row(results.per_dataset(), encoding="PCA", dataset="c", metric="ari")
    values = cube(scores, "PCA", "ari")[2]
    assert found["value"] == pytest.approx(values.mean())
    assert found["std"] == pytest.approx(np.std(values, ddof=1))
    assert found["n_seeds"] == 3
    assert found["gene_encoder"] is None
    assert len(results.per_dataset()) == 8 * 4 * 2


def test_summary_is_over_the_means_of_data_sets(results, scores):
    found = row(results.summary(), encoding="learned + soft", metric="accuracy")
    means = cube(scores, "learned + soft", "accuracy").mean(axis=1)
    assert found["mean"] == pytest.approx(means.mean())
    assert found["std"] == pytest.approx(np.std(means, ddof=1))
    assert (found["n_datasets"], found["kind"]) == (4, "encoding")
    assert len(results.summary()) == 8 * 2


def test_undefined_scores_are_left_out_of_means_and_counted(scores):
    holed = scores.copy()
    of = (holed["encoding"] == "PCA") & (holed["metric"] == "ari")
    holed.loc[of & (holed["dataset"] == "a"), "value"] = np.nan
    holed.loc[of & (holed["dataset"] == "b") & (holed["seed"] == 0), "value"] = np.nan
    results = Results.from_tables(holed)
    values = cube(scores, "PCA", "ari")
    expected = [values[1, 1:].mean(), values[2].mean(), values[3].mean()]
    found = row(results.summary(), encoding="PCA", metric="ari")
    assert found["mean"] == pytest.approx(np.mean(expected))
    assert found["n_datasets"] == 3
    assert np.isnan(row(results.per_dataset(), encoding="PCA", metric="ari", dataset="a")["value"])


def test_relative_differences_are_ratios_of_means(results, scores):
    found = results.relative_differences()
    ratio = (
        cube(scores, "learned + hard", "ari").mean() / cube(scores, "protein + hard", "ari").mean()
    )
    one = row(found, comparison="learned over protein", within="hard", metric="ari")
    assert one["relative"] == pytest.approx(ratio - 1)
    over_all = [
        np.mean([cube(scores, f"{g} + {e}", "ari").mean() for e in ("raw", "hard", "soft")])
        for g in ("learned", "protein")
    ]
    one = row(found, comparison="learned over protein", within="all", metric="ari")
    assert (one["a"], one["b"]) == (pytest.approx(over_all[0]), pytest.approx(over_all[1]))
    assert one["relative"] == pytest.approx(over_all[0] / over_all[1] - 1)
    assert set(zip(found["comparison"], found["within"], strict=True)) == {
        *(("learned over protein", e) for e in ("raw", "hard", "soft", "all")),
        *((f"soft over {e}", g) for e in ("raw", "hard") for g in ("learned", "protein", "all")),
    }


def test_differences_are_taken_where_both_sides_are_defined(scores):
    holed = scores.copy()
    lost = (holed["encoding"] == "learned + soft") & (holed["dataset"] == "a")
    holed.loc[lost, "value"] = np.nan
    found = Results.from_tables(holed).relative_differences()
    one = row(found, comparison="soft over raw", within="learned", metric="accuracy")
    a, b = (cube(scores, f"learned + {e}", "accuracy")[1:].mean() for e in ("soft", "raw"))
    assert (one["a"], one["b"], one["n_datasets"]) == (pytest.approx(a), pytest.approx(b), 3)


def test_bootstrap_agrees_with_resampling_by_loops(results, scores):
    found = row(
        results.bootstrap(n=20_000, a="learned + soft", b="learned + hard", metrics=["ari"]),
        metric="ari",
    )
    difference = cube(scores, "learned + soft", "ari") - cube(scores, "learned + hard", "ari")
    assert found["difference"] == pytest.approx(difference.mean())
    rng = np.random.default_rng(99)
    samples = []
    for _ in range(20_000):
        rows, columns = rng.integers(4, size=4), rng.integers(3, size=3)
        samples.append(difference[rows][:, columns].mean())
    low, high = np.quantile(samples, [0.025, 0.975])
    spread = np.std(samples)
    assert found["low"] == pytest.approx(low, abs=0.05 * spread)
    assert found["high"] == pytest.approx(high, abs=0.05 * spread)
    assert found["above"] == pytest.approx(np.mean(np.array(samples) > 0), abs=0.02)


def test_bootstrap_tells_a_real_difference_from_none():
    rng = np.random.default_rng(1)
    rows = []
    for d, s in itertools.product(range(12), range(4)):
        level = rng.normal(0.5, 0.2)  # shared: only pairing lets the difference be seen
        for name, gain in (("better", 0.05), ("same", 0.0), ("base", 0.0)):
            rows.append((name, f"set {d}", "accuracy", s, level + gain + rng.normal(0, 0.01)))
    columns = ["encoding", "dataset", "metric", "seed", "value"]
    results = Results.from_tables(pd.DataFrame(rows, columns=columns))
    better = results.bootstrap(a="better", b="base").iloc[0]
    same = results.bootstrap(a="same", b="base").iloc[0]
    assert 0.03 < better["low"] < 0.05 < better["high"] < 0.07
    assert same["low"] < 0 < same["high"]
    assert better["relative_low"] < better["relative"] < better["relative_high"]


def test_groups_are_averaged_over_their_members(results, scores):
    a, b = ["learned + soft", "protein + soft"], "PCA"
    found = results.bootstrap(n=10, a=a, b=b, metrics=["accuracy"]).iloc[0]
    assert found["a"] == pytest.approx(np.mean([cube(scores, name, "accuracy") for name in a]))


def test_default_comparisons_hold_controls_and_baselines(results):
    found = results.bootstrap(n=10)
    names = set(found["comparison"])
    assert {"learned over protein", "soft over hard", "encoding over PCA"} <= names
    assert {"hard (global edges) over hard", "soft over hard (global edges)"} <= names
    assert len(found[found["comparison"] == "encoding over PCA"]) == 6 * 2


def test_bootstrap_is_reproducible_and_checked(results):
    one, two = (results.bootstrap(n=50, seed=3) for _ in range(2))
    pd.testing.assert_frame_equal(one, two)
    for arguments, message in [
        ({"a": "learned + sofft", "b": "PCA"}, "Did you mean 'learned \\+ soft'"),
        ({"a": "PCA"}, "both sides"),
        ({"metrics": ["acuracy"]}, "Did you mean 'accuracy'"),
        ({"n": 0}, "n must be positive"),
        ({"level": 1.0}, "level"),
    ]:
        with pytest.raises(ValueError, match=message):
            results.bootstrap(**arguments)


def test_minimum_loss_is_the_lowest_of_each_training(results):
    curves = pd.DataFrame(
        {
            "encoding": "learned + soft",
            "seed": [0, 0, 0, 1, 1],
            "metric": "reconstruction_loss_validation",
            "step": [9, 19, 29, 9, 19],
            "value": [0.5, 0.3, np.nan, 0.2, 0.4],
        }
    )
    found = Results.from_tables(results.scores, curves).minimum_loss()
    assert found["value"].tolist() == [0.3, 0.2]
    assert found["step"].tolist() == [19, 9]


def test_tables_survive_writing_and_reading(results, tmp_path):
    jobs = pd.DataFrame(
        {
            "job": ["train/PCA/0", "embed/PCA/a/0"],
            "task": ["train", "embed"],
            "encoding": "PCA",
            "dataset": [None, "a"],
            "status": ["diverged", "done"],
            "diverged_step": [12, None],
        }
    )
    curves = pd.DataFrame({"encoding": ["PCA"], "metric": ["x"], "step": [1], "value": [np.nan]})
    run = {"title": "try", "seeds": [0, 1, 2]}
    written = Results.from_tables(results.scores, curves, jobs, run)
    files = written.write(tmp_path / "r")
    assert all(file.is_file() for file in files)
    assert {file.name for file in files} == {file.name for file in (tmp_path / "r").iterdir()}
    loaded = Results.load(tmp_path / "r")
    for suffix in ("parquet", "csv"):
        if suffix == "csv":
            for file in (tmp_path / "r").glob("*.parquet"):
                file.unlink()
            loaded = Results.load(tmp_path / "r")
        pd.testing.assert_frame_equal(loaded.scores, written.scores)
        pd.testing.assert_frame_equal(loaded.curves, written.curves)
        pd.testing.assert_frame_equal(loaded.jobs, written.jobs)
        assert loaded.run == run
    assert loaded.scores["gene_encoder"].iloc[-1] is None
    assert loaded.jobs["dataset"].tolist() == [None, "a"]
    assert loaded.jobs["diverged_step"].iloc[0] == 12
    summary = pd.read_csv(tmp_path / "r" / "summary.csv")
    assert len(summary) == len(written.summary())


def test_a_table_of_anyones_is_enough():
    scores = pd.DataFrame(
        {"encoding": ["x", "y"], "dataset": "d", "metric": "ari", "value": [0.5, None]}
    )
    results = Results.from_tables(scores)
    assert results.scores["kind"].tolist() == ["encoding", "encoding"]
    assert results.summary()["mean"].fillna(-1).tolist() == [0.5, -1]
    assert len(results.relative_differences()) == 0
    assert "0.500" in str(results)
    assert "0.500" in results._repr_html_()
    assert len(results.jobs) == len(results.curves) == 0


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (lambda t: t.drop(columns="value"), ValueError, "lack the column 'value'"),
        (lambda t: t.assign(value="high"), ValueError, "'value' must hold numbers"),
        (lambda t: pd.concat([t, t]), ValueError, "more than one row for learned \\+ raw, a"),
        (lambda t: t.to_numpy(), TypeError, "must be a DataFrame"),
    ],
)
def test_tables_that_are_none_are_refused(scores, change, error, message):
    with pytest.raises(error, match=message):
        Results.from_tables(change(scores))


def test_folders_that_hold_no_results_are_refused(results, tmp_path):
    with pytest.raises(FileNotFoundError, match="holds no results"):
        Results.load(tmp_path)
    results.write(tmp_path)
    (tmp_path / "run.json").write_text("{")
    with pytest.raises(ValueError, match="run.json is damaged"):
        Results.load(tmp_path)
    (tmp_path / "run.json").write_text(json.dumps([1]))
    with pytest.raises(ValueError, match="does not describe a run"):
        Results.load(tmp_path)
    (tmp_path / "scores.parquet").write_bytes(b"PAR1 not really")
    with pytest.raises(ValueError, match="scores.parquet is damaged"):
        Results.load(tmp_path)


def test_missing_values_get_the_columns_default_and_infinite_ones_are_undefined():
    scores = pd.DataFrame({"encoding": ["x", "y"], "dataset": "d", "metric": "ari"})
    scores = scores.assign(value=[np.inf, 0.5], seed=[np.nan, 3], kind=[None, "control"])
    found = Results.from_tables(scores).scores
    assert found["seed"].tolist() == [0, 3]
    assert found["kind"].tolist() == ["encoding", "control"]
    assert found["value"].isna().tolist() == [True, False]


@pytest.fixture
def budgeted(make_budget_tables):
    return Results.from_tables(**make_budget_tables())


def test_budgets_stand_in_all_tables(budgeted, tmp_path):
    assert budgeted.budgets == [25_000, 100_000, 250_000]
    scores = budgeted.scores
    for budget in budgeted.budgets:
        one = scores[(scores["encoding"] == "learned + soft") & (scores["budget"] == budget)]
        one = one[one["metric"] == "nmi"]
        summary = budgeted.summary()
        of = summary[(summary["encoding"] == "learned + soft") & (summary["metric"] == "nmi")]
        mean = of.set_index("budget")["mean"][budget]
        assert mean == pytest.approx(one.groupby("dataset")["value"].mean().mean())
    budgeted.write(tmp_path)
    again = Results.load(tmp_path)
    assert again.scores.equals(budgeted.scores)
    assert again.at_budget(25_000).scores["budget"].dropna().unique().tolist() == [25_000]


def test_intervals_are_those_of_each_budget_alone(budgeted):
    pair = {"a": "learned + soft", "b": "learned + hard", "metrics": ["nmi"], "n": 200}
    found = budgeted.bootstrap(**pair).set_index("budget")
    assert found.index.tolist() == budgeted.budgets
    scores = budgeted.scores
    for budget in budgeted.budgets:
        alone = scores[scores["budget"] == budget].drop(columns="budget")
        expected = Results.from_tables(alone).bootstrap(**pair).iloc[0]
        for name in ("a", "b", "low", "high"):
            assert found.loc[budget, name] == pytest.approx(expected[name]), name
    # A baseline is the same at each budget; two of them are compared once.
    over = budgeted.bootstrap(a="learned + soft", b="PCA", metrics=["nmi"], n=10)
    assert over["budget"].tolist() == budgeted.budgets
    assert over["b"].nunique() == 1
    once = budgeted.bootstrap(a="PCA", b="scVI", metrics=["nmi"], n=10)
    assert once["budget"].isna().tolist() == [True]
    ratios = budgeted.relative_differences()
    assert ratios["budget"].value_counts().nunique() == 1


def test_the_default_budget_is_the_largest_that_all_have_reached(budgeted):
    assert set(budgeted.at_budget().scores["budget"].dropna()) == {250_000}
    scores = budgeted.scores
    pending = (scores["encoding"] == "learned + soft") & (scores["budget"] == 250_000)
    partly = Results.from_tables(scores[~pending])
    assert set(partly.at_budget().scores["budget"].dropna()) == {100_000}
    assert "PCA" in set(partly.at_budget().encodings["encoding"])
    with pytest.raises(ValueError, match=r"one of \[25000, 100000, 250000\], got 5"):
        partly.at_budget(5)
    plain = Results.from_tables(scores[scores["budget"] == 25_000].drop(columns="budget"))
    assert plain.at_budget() is plain
    with pytest.raises(ValueError, match="have no budgets"):
        plain.at_budget(5)


def test_curves_reach_to_the_budget(make_budget_tables):
    tables = make_budget_tables(budgets=(10, 20))
    jobs = tables["jobs"]
    trained = jobs["task"] == "train"
    jobs["n_steps"] = jobs["budget"].where(trained).map({10: 30, 20: 100})
    results = Results.from_tables(**tables)
    assert results.at_budget(20).curves.equals(results.curves)
    cut = results.at_budget(10)
    expected = results.curves[results.curves["step"] < 30]
    assert 0 < len(expected) < len(results.curves)
    assert cut.curves.equals(expected.reset_index(drop=True))
    assert (cut.minimum_loss()["value"] > results.minimum_loss()["value"]).all()


def test_negative_controls_count_where_scores_must_fall():
    rows = [
        ("genes", "accuracy", "a", 0.9, 0.3),
        ("genes", "accuracy", "b", 0.7, 0.8),
        ("genes", "ilisi", "a", 0.5, 0.4),  # rests on no gene
        ("expression", "reconstruction_mse", "a", 0.2, 0.6),
        ("expression", "accuracy", "a", 0.9, 0.8),
        ("labels", "nmi", "a", None, 0.1),
    ]
    names = ["shuffled", "metric", "dataset", "intact", "value"]
    checks = pd.DataFrame(rows, columns=names).assign(encoding="mine")
    scores = {"encoding": ["mine"], "dataset": ["a"], "metric": ["ari"], "value": [0.5]}
    results = Results.from_tables(pd.DataFrame(scores), checks=checks)
    table = results.negative_controls().set_index(["shuffled", "metric"])
    assert table.index.tolist() == [("genes", "accuracy"), ("expression", "reconstruction_mse")]
    assert table.loc[("genes", "accuracy"), "worse"] == 0.5
    assert table.loc[("genes", "accuracy"), "value"] == pytest.approx(0.55)
    assert table.loc[("genes", "accuracy"), "n_datasets"] == 2
    assert table.loc[("expression", "reconstruction_mse"), "worse"] == 1
