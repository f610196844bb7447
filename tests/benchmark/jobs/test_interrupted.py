"""Runs that are killed, and runs that meet."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest

from scenc.benchmark import Results

pytestmark = pytest.mark.slow

# One process imports everything; each run is a fork of it, so that many can be killed in a minute.
SCRIPT = """
import json, os, random, signal, sys, time
import anndata
from scenc.benchmark import Benchmark, EvaluationSet, grid
import scenc.benchmark.jobs._tasks, scenc.benchmark.jobs._collect
import scenc.metrics, scenc.model, scenc.train
import scanpy, sklearn.neighbors, threadpoolctl

folder = sys.argv[1]
cells = {name: anndata.read_h5ad(f"{folder}/{name}.h5ad") for name in ("train", "a", "b")}

def benchmark(out):
    given = {"label_key": "cell_type", "batch_key": "batch", "min_cells": 10}
    return Benchmark(
        cells["train"], {name: EvaluationSet(cells[name], **given) for name in ("a", "b")},
        f"{folder}/{out}",
        grid(expression_encoders=["soft", "hard"], gene_encoders=["learned"], controls=True,
             model=MODEL, training=TRAINING),
        seeds=[0], baselines=["PCA", "untrained"], metrics=["batch_asw"],
    )

def start(out):
    child = os.fork()
    if child == 0:
        code = 1
        try:
            benchmark(out).run(progress=False)
            code = 0
        finally:
            os._exit(code)
    return child

def finished(out):
    try:
        jobs = os.scandir(f"{folder}/{out}/work/jobs")
    except FileNotFoundError:
        return {}
    records = ((job.name, os.path.join(job.path, "job.json")) for job in jobs if job.name[0] != ".")
    return {name: os.stat(path).st_mtime_ns for name, path in records if os.path.exists(path)}

def wait(child):
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

def running(child):
    return os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None

began = time.monotonic()
assert wait(start("whole")) == 0
took = time.monotonic() - began

moments = random.Random(0)
kept, kills = {}, 0
while kills < 10:
    child = start("killed")
    # Some jobs further, however slow the machine is at the moment, and then at any time.
    wanted = len(kept) + moments.randrange(3)
    while len(finished("killed")) < wanted and running(child):
        time.sleep(0.005)
    until = time.monotonic() + moments.uniform(0.01, 0.06) * took
    # Not much further if the machine has become faster: there are to be several kills.
    while time.monotonic() < until and len(finished("killed")) < wanted + 2:
        time.sleep(0.005)
    os.kill(child, signal.SIGKILL)
    if wait(child) == 0:
        break
    kills += 1
    now = finished("killed")
    assert now.items() >= kept.items(), "a finished job was lost or done again"
    kept = now
assert wait(start("killed")) == 0
now = finished("killed")
assert now.items() >= kept.items(), "a finished job was lost or done again"

children = [start("shared") for _ in range(2)]
assert [wait(child) for child in children] == [0, 0]
print(json.dumps({"kills": kills, "kept": len(kept), "all": len(now), "seconds": took}))
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory, make_cells):
    folder = tmp_path_factory.mktemp("interrupted")
    for name, n_cells, seed in (("train", 80, 1), ("a", 60, 5), ("b", 50, 6)):
        make_cells(n_cells, 40, seed).write_h5ad(folder / f"{name}.h5ad")
    return folder


@pytest.fixture(scope="module")
def said(folder, tiny_encoding):
    """What the script has to say once it is through."""
    encoding = tiny_encoding(training={"max_epochs": 3})
    script = SCRIPT.replace("MODEL", repr(dict(encoding.model)))
    script = script.replace("TRAINING", repr(dict(encoding.training)))
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", script, str(folder)],
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


def test_a_run_killed_at_random_moments_ends_as_one_that_was_not(said, folder, same_scores):
    assert said["kills"] >= 5
    assert said["kept"] > 0
    whole, killed = (Results.load(folder / name) for name in ("whole", "killed"))
    assert set(killed.jobs["status"]) == {"done"}
    assert len(killed.jobs) == said["all"] == 3 * 5 + 1 * 4 + 1 * 5
    same_scores(killed, whole)
    order = ["encoding", "seed", "metric", "step"]
    curves = [of.curves.sort_values(order)["value"].to_numpy() for of in (whole, killed)]
    np.testing.assert_array_equal(*curves)
    assert [path.name for path in (folder / "killed" / "work").rglob(".*")] == []


def test_runs_that_share_a_folder_share_the_work(said, folder, same_scores):
    whole, shared = (Results.load(folder / name) for name in ("whole", "shared"))
    same_scores(shared, whole)
    records = [
        json.loads(path.read_text())
        for path in (folder / "shared" / "work" / "jobs").glob("*/job.json")
    ]
    assert len(records) == said["all"]
    # Both did some of it.
    assert len({record["process"] for record in records}) == 2
