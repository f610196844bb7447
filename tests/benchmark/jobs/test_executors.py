"""The same scores wherever the jobs run."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest

from scenc.benchmark import PCA
from scenc.benchmark.jobs import _scheduler

pytestmark = pytest.mark.slow


@pytest.fixture
def grid_of(make_benchmark, tiny_encoding, tmp_path):
    """Return a maker of the same small grid in a folder of its own."""

    def make(folder, **changes):
        encodings = [tiny_encoding("soft"), tiny_encoding("hard", model={"hard_edges": "global"})]
        arguments = {"encodings": encodings, "baselines": ["PCA"], "out": tmp_path / folder}
        return make_benchmark(**{**arguments, **changes})

    return make


def test_processes_and_dask_find_what_this_process_finds(grid_of, run, same_scores, monkeypatch):
    from distributed import Client, LocalCluster

    monkeypatch.setenv("PYTHONWARNINGS", "ignore")
    here = run(grid_of("here"))
    assert np.isfinite(here.scores.query("metric == 'accuracy'")["value"]).all()
    same_scores(run(grid_of("pool"), workers=2), here)
    with (
        # By itself dask shares the memory out by cores: little for a worker where they are many.
        LocalCluster(
            n_workers=1, threads_per_worker=1, memory_limit=None, dashboard_address=None
        ) as cluster,
        Client(cluster) as client,
    ):
        dask = run(grid_of("dask"), executor=client.get_executor())
    same_scores(dask, here)


def test_submitit_finds_what_this_process_finds(
    make_benchmark, run, same_scores, tmp_path, monkeypatch
):
    import submitit

    monkeypatch.setenv("PYTHONWARNINGS", "ignore")
    here = run(make_benchmark(out=tmp_path / "here"))
    # Each job is a process that imports everything: let it do all but the embedding.
    shutil.copytree(tmp_path / "here", tmp_path / "there")
    for record in (tmp_path / "there" / "work" / "jobs").glob("*/job.json"):
        if json.loads(record.read_text())["name"].startswith(("train/", "score/")):
            shutil.rmtree(record.parent)
    executor = submitit.AutoExecutor(folder=tmp_path / "logs", cluster="local")
    executor.update_parameters(timeout_min=10)
    there = run(make_benchmark(out=tmp_path / "there"), executor=executor)
    same_scores(there, here)
    assert there.curves.equals(here.curves)
    assert len(list((tmp_path / "logs").glob("*_result.pkl"))) == 2


def test_a_process_that_dies_is_a_failed_job(grid_of, tmp_path, monkeypatch, processes):
    monkeypatch.setenv("PYTHONWARNINGS", "ignore")
    # One pool after the other: that each of them imports everything is not the point.
    monkeypatch.setattr(_scheduler, "get_context", lambda _: processes)
    deadly = tmp_path / "modules" / "deadly_method.py"
    deadly.parent.mkdir()
    deadly.write_text(
        "import os, signal\n"
        "class Deadly:\n"
        "    name, fit_on = 'deadly', 'evaluation'\n"
        "    def fit(self, adata, batch_key=None, seed=0):\n"
        "        os.kill(os.getpid(), signal.SIGKILL)\n"
        "    def embed(self, adata): ...\n"
    )
    monkeypatch.syspath_prepend(deadly.parent)
    from deadly_method import Deadly

    arguments = {"train": None, "encodings": [], "baselines": [Deadly(), PCA()]}
    benchmark = grid_of("out", **arguments)
    results = benchmark.run(workers=2, progress=False)
    jobs = results.jobs.set_index("job")
    assert jobs.loc["embed/deadly/a/0", "status"] == "failed"
    assert "the process died" in jobs.loc["embed/deadly/a/0", "reason"]
    assert jobs.loc["score/deadly/a/0", "status"] == "failed"
    assert jobs.loc[["embed/PCA/a/0", "score/PCA/a/0"], "status"].tolist() == ["done", "done"]
