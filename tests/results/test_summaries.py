"""What is drawn: the paper's aggregate of a tidy table, and what a table must be."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from scenc import pl
from scenc.benchmark import Results
from scenc.results import as_results, spread_unit, summarise


def table(values, **columns):
    """One encoding's accuracy by data set and seed."""
    rows = [
        {"encoding": "mine", "dataset": dataset, "metric": "accuracy", "seed": seed, "value": value}
        for dataset, seeds in values.items()
        for seed, value in enumerate(seeds)
    ]
    return pd.DataFrame(rows).assign(**columns)


def test_means_over_seeds_come_before_means_over_data_sets():
    found = summarise(as_results(table({"a": [0.1, 0.3], "b": [0.8]})), "accuracy")["mine"]
    assert found.mean == pytest.approx((0.2 + 0.8) / 2)
    assert found.sd == pytest.approx(np.sqrt(2) * 0.3)  # of 0.2 and 0.8
    assert (found.n, found.of) == (2, 2)


def test_the_aggregate_is_that_of_the_benchmark(make_tables):
    tables = make_tables()
    expected = Results.from_tables(tables["scores"]).summary().set_index(["encoding", "metric"])
    for metric in ("nmi", "reconstruction_mse"):
        for name, found in summarise(as_results(tables["scores"]), metric).items():
            row = expected.loc[(name, metric)]
            np.testing.assert_allclose([found.mean, found.sd], [row["mean"], row["std"]])
            assert found.n == row["n_datasets"]


def test_a_single_data_set_is_spread_over_seeds():
    scores = as_results(table({"a": [0.1, 0.2, 0.6]}))
    found = summarise(scores, "accuracy")["mine"]
    assert spread_unit(scores, "accuracy") == "seeds"
    assert (found.n, found.mean) == (3, pytest.approx(0.3))
    assert found.sd == pytest.approx(np.std([0.1, 0.2, 0.6], ddof=1))


def test_one_number_has_no_spread():
    found = summarise(as_results(table({"a": [0.4]})), "accuracy")["mine"]
    assert (found.mean, found.n) == (0.4, 1)
    assert np.isnan(found.sd)


def test_undefined_scores_are_left_out_and_counted():
    both = pd.concat(
        [
            table({"a": [0.2], "b": [np.nan], "c": [np.inf]}),
            table({"a": [0.2], "b": [0.4], "c": [np.nan]}, encoding="other"),
        ]
    )
    found = summarise(as_results(both), "accuracy")
    assert (found["mine"].n, found["mine"].of) == (1, 2)  # c is defined for neither
    assert found["mine"].mean == 0.2


@pytest.mark.parametrize("column", ["encoding", "dataset", "metric", "value"])
def test_a_missing_column_is_named(column):
    with pytest.raises(ValueError, match=f"lack the column '{column}'"):
        pl.scores(table({"a": [0.1]}).drop(columns=column), "accuracy")


def test_a_word_for_a_value_is_named():
    scores = table({"a": [0.1]}).astype({"value": object})
    scores.loc[0, "value"] = "high"
    with pytest.raises(ValueError, match="'high'"):
        pl.scores(scores, "accuracy")


def test_a_score_given_twice_is_named():
    scores = table({"a": [0.1], "b": [0.1]})
    with pytest.raises(ValueError, match="more than one row for mine, b"):
        pl.scores(pd.concat([scores, scores[scores["dataset"] == "b"]]), "accuracy")


def test_what_is_no_table_is_named():
    with pytest.raises(TypeError, match=r"DataFrame or have one as \.scores, got dict"):
        pl.integration({})


def test_an_unknown_metric_names_the_nearest():
    with pytest.raises(ValueError, match="Did you mean 'accuracy'"):
        pl.scores(table({"a": [0.1]}), "acuracy")
