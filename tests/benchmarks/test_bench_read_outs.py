"""The comparison of read-outs: what it scores, and that it trains no model twice."""

from __future__ import annotations

import json
import logging
import re
import sys

import numpy as np
import pandas as pd
import pytest
import torch

from scenc.data import Request, TokenDataset, Tokenizer
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


def test_differences_are_of_paired_models(bench):
    who = [(data, seed) for data in ("one", "two") for seed in (0, 1)]
    final = dict(zip(who, (0.1, 0.5, 0.9, 0.3), strict=True))
    change = dict(zip(who, (0.0, 0.2, 0.3, 0.3), strict=True))
    read_outs = {"final": final, "plus": {one: final[one] + 0.25 for one in who}}
    read_outs["varied"] = {one: final[one] + change[one] for one in who}
    rows = [
        {"data": data, "seed": seed, "read_out": name, "score": value}
        for name, values in read_outs.items()
        for (data, seed), value in values.items()
    ]
    found = bench.differences(pd.DataFrame(rows), "score")
    np.testing.assert_allclose(found.loc["plus"], [0.25, 0.25, 0.25, 1])
    # A draw is 0 with a chance of 1/64 (the first set twice, each time its first seed twice), which
    # is below 2.5 %, and 0.05 with one of 4/64. It is 0.3 with 1/4, and never more.
    np.testing.assert_allclose(found.loc["varied"], [0.2, 0.05, 0.3, 0.75])


@pytest.fixture(scope="module")
def tokens(trained):
    """Return genes and last hidden states of each cell, one at a time."""
    cells, network, found = trained._training_cells(), trained.module.eval(), []
    config = trained.config
    tokenizer = Tokenizer(config.context, target_sum=config.target_sum)
    dataset = TokenDataset(cells.rows, cells.gene_map, tokenizer)
    for cell in range(cells.n_cells):
        batch = dataset[Request(np.array([cell]), seed=config.seed)]
        with torch.no_grad():
            states = network.transformer(network.embed_tokens(batch))[0]
        found.append((batch.genes[0].numpy(), states.numpy()))
    return found


def test_deviations_are_from_the_genes_means(bench, trained, tokens):
    cells = trained._training_cells()
    means = bench.mean_tokens(trained.module, cells, np.arange(cells.n_cells))
    for gene in range(60):
        rows = [states[genes == gene] for genes, states in tokens]
        expected = np.concatenate(rows).mean(axis=0)
        np.testing.assert_allclose(means[gene], expected, rtol=1e-3, atol=1e-4)
    found = bench.deviations(trained.module, cells, means)
    for cell, (genes, states) in enumerate(tokens):
        expected = (states - means.numpy()[genes]).mean(axis=0)
        np.testing.assert_allclose(found[cell], expected, rtol=1e-3, atol=1e-4)


def test_genes_that_no_cell_has_get_the_mean_of_all(bench, trained, tokens):
    means = bench.mean_tokens(trained.module, trained._training_cells(), np.array([0]))
    genes, states = tokens[0]
    absent = np.setdiff1d(np.arange(60), genes)
    np.testing.assert_allclose(means[absent[0]], states.mean(axis=0), rtol=1e-3, atol=1e-4)


def test_attention_is_a_mean_weighted_by_it(bench, trained, tokens):
    attention = bench.AttentionReadOut(16)
    with torch.no_grad():
        attention.query.normal_(0, 3, generator=torch.Generator().manual_seed(0))
    found = bench.attended(trained.module, trained._training_cells(), attention)
    query = attention.query.detach().numpy()
    for cell, (_, states) in enumerate(tokens):
        expected = np.average(states, axis=0, weights=np.exp(states @ query / 4))
        np.testing.assert_allclose(found[cell], expected, rtol=1e-3, atol=1e-4)


def test_attention_learns_and_leaves_the_network_alone(bench, trained, weights_of):
    before, cells = weights_of(trained), trained._training_cells()
    rows = np.arange(cells.n_cells)
    losses = [_loss(bench, trained, cells, n_visits) for n_visits in (0, 4000)]
    assert losses[1] < 0.8 * losses[0]
    after = weights_of(trained)
    assert all(np.array_equal(before[name], after[name]) for name in before)
    one, two = (
        bench.fit_attention(trained.module, cells, rows, n_visits=240, mask_fraction=0.4, seed=3)
        for _ in range(2)
    )
    assert torch.equal(one.query, two.query)
    assert one.query.abs().max() > 0


def _loss(bench, trained, cells, n_visits):
    """Mean squared error of masked x~, predicted from what is read out of the other tokens."""
    rows = np.arange(cells.n_cells)
    read_out = bench.fit_attention(
        trained.module, cells, rows, n_visits=n_visits, mask_fraction=0.4, seed=1
    )
    tokenizer = Tokenizer(
        trained.config.context, mask_fraction=0.4, target_sum=trained.config.target_sum
    )
    dataset = TokenDataset(cells.rows, cells.gene_map, tokenizer)
    network, errors = trained.module, []
    for cell in rows[:40]:
        batch = dataset[Request(np.array([cell]), seed=99)]
        n = int(batch.n_masked[0])
        with torch.no_grad():
            hidden = network.transformer(network.embed_tokens(batch))
            shown = torch.arange(hidden.shape[1])[None] >= n
            genes = network.gene_encoder(batch.genes[0, :n])
            predicted = read_out.decoder(read_out(hidden, shown) + genes)[:, 0]
        errors.append((predicted - batch.targets()[0]).square())
    return float(torch.cat(errors).mean())
