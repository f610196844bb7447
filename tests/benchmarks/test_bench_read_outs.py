"""The comparison of read-outs: what it scores, and that it trains no model twice."""

from __future__ import annotations

import json
import logging
import re
import sys

import numpy as np
import pandas as pd
import pytest

from scenc.metrics import integration, knn_classification


@pytest.fixture
def bench(script):
    log = logging.getLogger("lightning.pytorch")
    level = log.level
    yield script("bench_read_outs")
    # The script silences it for its own process.
    log.setLevel(level)


@pytest.fixture
def blobs():
    """Return an embedding of three overlapping types in two batches, and the cells' obs."""
    rng = np.random.default_rng(0)
    kinds = np.repeat([0, 1, 2], 50)
    obs = pd.DataFrame(
        {"cell_type": np.array(list("abc"))[kinds], "batch": np.tile(["x", "y"], 75)}
    )
    return (2 * np.eye(3)[kinds] + rng.normal(size=(150, 3))).astype(np.float32), obs


def test_scores_are_those_of_the_metrics(bench, blobs):
    places, obs = blobs
    scores = bench.score(places, obs)
    found = integration(places, obs["batch"], obs["cell_type"])
    knn = knn_classification(places, obs["cell_type"], min_cells=20, n_repeats=5, seed=0)
    assert scores == {
        "macro_f1": knn.macro_f1,
        "batch_correction": found.batch_correction,
        "bio_preservation": found.bio_preservation,
    }


def test_of_large_sets_the_same_cells_are_scored(bench, blobs, monkeypatch):
    places, obs = blobs
    monkeypatch.setattr(bench, "N_SCORED", 90)
    kept = np.sort(np.random.default_rng(0).choice(150, 90, replace=False))
    expected = bench.score(places[kept], obs.iloc[kept])
    assert bench.score(places, obs) == expected != bench.score(places[:90], obs[:90])


def test_models_whose_lines_are_there_are_not_trained_again(bench, monkeypatch, tmp_path, capsys):
    asked = []

    def run(name, expression, seed, n_visits, folder):
        asked.append((name, expression, seed))
        who = {"data": name, "encoding": f"learned + {expression}", "seed": seed}
        for read_out, value in (("final", 0.25 + seed / 2), ("layer 0", 0.5)):
            scores = dict.fromkeys(bench.SCORES, value)
            yield {**who, "visits": n_visits, "read_out": read_out, **scores}

    monkeypatch.setattr(bench, "run", run)
    out = tmp_path / "rows.jsonl"
    command = ["bench", str(tmp_path), "--sets", "luad", "--expression", "hard", "--out", str(out)]
    for seeds in (["0"], ["0", "1"], ["0", "1"]):
        monkeypatch.setattr(sys, "argv", [*command, "--seeds", *seeds])
        bench.main()
    assert asked == [("luad", "hard", 0), ("luad", "hard", 1)]
    assert len(out.read_text().splitlines()) == 4
    assert json.loads(out.read_text().splitlines()[0])["read_out"] == "final"
    # The mean of 0.25 and 0.75, of the data set and over all.
    table = capsys.readouterr().out.rsplit("macro_f1, 2 seeds", 1)[1]
    assert re.search(r"final +0\.5 +0\.5\n", table)
