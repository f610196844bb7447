"""Negative controls: what they shuffle, what they leave, and that scores fall."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from anndata import AnnData

from scenc.benchmark import EvaluationSet, Results
from scenc.benchmark.jobs._shuffle import permute_labels, shuffle_expression, shuffle_genes


@pytest.fixture
def counts(make_counts):
    return sp.csr_matrix(make_counts(600, 40, 3)).astype(np.float32)


def rows_sorted(matrix):
    return np.sort(matrix.toarray(), axis=1)


def test_shuffled_genes_keep_the_values_of_each_cell(counts):
    shuffled = shuffle_genes(counts, 0)
    np.testing.assert_array_equal(rows_sorted(shuffled), rows_sorted(counts))
    assert shuffled.has_canonical_format
    # Any gene is as likely as any other, whichever it was.
    expressed = (shuffled.toarray() > 0).mean(axis=0)
    share = counts.nnz / counts.shape[0] / counts.shape[1]
    sd = np.sqrt(share * (1 - share) / counts.shape[0])
    assert np.abs(expressed - share).max() < 5 * sd
    assert (shuffled != counts).nnz > 0.5 * counts.nnz
    assert (shuffle_genes(counts, 0) != shuffled).nnz == 0
    assert (shuffle_genes(counts, 1) != shuffled).nnz > 0


def test_shuffled_expression_keeps_genes_and_values_of_each_cell(counts):
    shuffled = shuffle_expression(counts, 0)
    np.testing.assert_array_equal(shuffled.toarray() > 0, counts.toarray() > 0)
    np.testing.assert_array_equal(rows_sorted(shuffled), rows_sorted(counts))
    assert (shuffled != counts).nnz > 0.2 * counts.nnz
    assert (shuffle_expression(counts, 0) != shuffled).nnz == 0


def test_permuted_labels_keep_their_numbers():
    labels = pd.Series(pd.Categorical(["a"] * 50 + ["b"] * 20 + [None] * 5), index=list(range(75)))
    permuted = permute_labels(labels, 0)
    assert permuted.index.equals(labels.index)
    assert permuted.value_counts(dropna=False).equals(labels.value_counts(dropna=False))
    assert not permuted.equals(labels)


@pytest.fixture(scope="module")
def simulate():
    """Return a maker of cells of four types, each with genes of its own, some of them high."""

    def make(seed, n_cells=320, n_genes=60):
        rng = np.random.default_rng(seed)
        types = np.arange(n_cells) % 4
        high = np.where(np.arange(n_genes) % 3 == 0, 40.0, 4.0)
        levels = np.where(np.arange(n_genes) % 4 == np.arange(4)[:, None], high, 0.2)
        depth = rng.uniform(0.7, 1.4, (n_cells, 1))
        counts = rng.poisson(levels[types] * depth).astype(np.float32)
        obs = pd.DataFrame(
            {"cell_type": pd.Categorical.from_codes(types, list("ABCD")),
             "batch": rng.choice(["x", "y"], n_cells)},
            index=[f"cell {i}" for i in range(n_cells)],
        )  # fmt: skip
        var = pd.DataFrame(index=[f"GENE{i}" for i in range(n_genes)])
        return AnnData(sp.csr_matrix(counts), obs=obs, var=var)

    return make


@pytest.fixture(scope="module")
def checked(simulate, tmp_path_factory, tiny_encoding):
    from scenc.benchmark import Benchmark

    encoding = tiny_encoding("soft", {"context": 40}, {"lr": 1e-2, "validate_every": 20})
    benchmark = Benchmark(
        simulate(0),
        {"a": EvaluationSet(simulate(1), "cell_type", "batch", min_cells=10)},
        tmp_path_factory.mktemp("checked"),
        [encoding],
        seeds=[0],
        baselines=[],
        budgets=[2_000, 10_000],
        negative_controls=True,
        metrics=["nmi", "ari"],
    )
    results = benchmark.run(progress=False)
    assert set(results.jobs["status"]) == {"done"}, results.jobs["reason"].tolist()
    return results


@pytest.mark.slow
def test_the_scores_of_negative_controls_fall(checked):
    checks = checked.checks
    assert set(checks["budget"]) == {10_000}
    found = checks.set_index(["shuffled", "metric"])
    whole = checked.scores.set_index(["encoding", "budget", "seed", "metric"])["value"]
    for (shuffled, metric), row in found.iterrows():
        expected = whole[row["encoding"], 10_000, 0, metric]
        np.testing.assert_equal(row["intact"], expected, err_msg=f"{shuffled} {metric}")
    value, intact = found["value"], found["intact"]
    assert intact["genes", "accuracy"] > 0.85
    # Four types alike in number: chance is a quarter. 64 cells are tested.
    chance, sd = 0.25, np.sqrt(0.25 * 0.75 / 64)
    for shuffled in ("genes", "labels"):
        assert abs(value[shuffled, "accuracy"] - chance) < 3 * sd, shuffled
        assert value[shuffled, "macro_f1"] < chance + 3 * sd
        assert abs(value[shuffled, "nmi"]) < 0.1
        assert abs(value[shuffled, "ari"]) < 0.1
    for shuffled in ("genes", "expression"):
        assert value[shuffled, "reconstruction_mse"] > 1.5 * intact[shuffled, "reconstruction_mse"]
    table = checked.negative_controls()
    assert (table["worse"] == 1).all()
    assert dict(zip(table["shuffled"], table["n_datasets"], strict=True)) == {
        "genes": 1,
        "expression": 1,
        "labels": 1,
    }


@pytest.mark.slow
def test_negative_controls_take_no_part_in_anything_else(checked, tmp_path):
    assert set(checked.encodings["encoding"]) == {"learned + soft"}
    jobs = checked.jobs["job"]
    assert "score/learned + soft/a/genes shuffled/0@10000" in set(jobs)
    checked.write(tmp_path)
    assert Results.load(tmp_path).checks.equals(checked.checks)


def test_negative_controls_leave_other_keys_as_they_are(make_benchmark):
    plain = {job.key for job in make_benchmark().plan.jobs()}
    with_controls = make_benchmark(negative_controls=["genes", "labels"]).plan.jobs()
    assert len(with_controls) == len(plain) + 3
    assert plain < {job.key for job in with_controls}


def test_they_are_made_once_of_the_first_seed_and_the_largest_budget(make_benchmark, tiny_encoding):
    benchmark = make_benchmark(
        encodings=[tiny_encoding("soft"), tiny_encoding("raw")],
        seeds=[3, 4],
        budgets=[64, 200],
        negative_controls=True,
    )
    shuffled = [job for job in benchmark.plan.jobs() if job.shuffled]
    assert {(job.seed, job.budget) for job in shuffled} == {(3, 200)}
    assert [job.task for job in shuffled].count("score") == 2 * 3
    assert [job.task for job in shuffled].count("embed") == 2 * 2


def test_an_unknown_negative_control_is_refused(make_benchmark):
    with pytest.raises(ValueError, match="Did you mean 'genes'"):
        make_benchmark(negative_controls=["gene"])
