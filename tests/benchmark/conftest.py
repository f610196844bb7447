"""A benchmark small enough to run whole in a test."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp

from scenc.benchmark import Benchmark, Encoding, EvaluationSet

TINY = {
    "d_model": 16,
    "n_layers": 1,
    "n_heads": 2,
    "d_feedforward": 32,
    "context": 20,
    "expression_hidden": 16,
}
TRAINING = {"max_epochs": 2, "batch_size": 32, "accelerator": "cpu"}


@pytest.fixture(scope="session")
def make_cells(make_adata, make_counts):
    """Return a maker of AnnData with batches and three types: (n_cells, n_genes, seed)."""

    def make(n_cells=60, n_genes=40, seed=0):
        return make_adata(sp.csr_matrix(make_counts(n_cells, n_genes, seed)))

    return make


@pytest.fixture(scope="session")
def tiny_encoding():
    """Return a maker of an encoding that trains in a second."""

    def make(expression_encoder="soft", model=None, training=None, **rest):
        model, training = {**TINY, **(model or {})}, {**TRAINING, **(training or {})}
        return Encoding(
            expression_encoder=expression_encoder, model=model, training=training, **rest
        )

    return make


@pytest.fixture
def make_benchmark(tmp_path, make_cells, tiny_encoding):
    """Return a maker of a benchmark of one encoding on one set with one cheap metric."""

    def make(**changes):
        cells = EvaluationSet(make_cells(60, 40, seed=5), "cell_type", "batch", min_cells=10)
        arguments = {
            "train": make_cells(80, 40, seed=1),
            "evaluate": {"a": cells},
            "out": tmp_path / "out",
            "encodings": [tiny_encoding()],
            "seeds": [0],
            "baselines": [],
            "metrics": ["batch_asw"],
        }
        return Benchmark(**{**arguments, **changes})

    return make


@pytest.fixture
def run():
    """Run a benchmark without a bar, and expect that nothing failed."""

    def call(benchmark, **arguments):
        results = benchmark.run(progress=False, **arguments)
        assert set(results.jobs["status"]) <= {"done", "diverged"}, results.jobs["reason"].tolist()
        return results

    return call


@pytest.fixture(scope="session")
def same_scores():
    """Return a check that two results hold the same scores, to the last digit."""

    def check(one, other):
        key = ["encoding", "dataset", "metric", "seed"]
        a, b = (of.scores.sort_values(key).reset_index(drop=True) for of in (one, other))
        assert a[key].equals(b[key])
        assert a["reason"].equals(b["reason"])
        np.testing.assert_array_equal(a["value"], b["value"])

    return check


@pytest.fixture
def records():
    """Return a reader of when each finished job of a folder was written, and as which file."""

    def read(out):
        paths = (out / "work" / "jobs").glob("*/job.json")
        return {p.parent.name: (p.stat().st_ino, p.stat().st_mtime_ns) for p in paths}

    return read
