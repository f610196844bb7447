"""Whole runs in this process: what is computed, kept, reused, and recorded when it fails."""

from __future__ import annotations

import json

import numpy as np
import pytest
import scipy.sparse as sp

from scenc.benchmark import PCA, SCVI, EvaluationSet, Results, Untrained, grid
from scenc.metrics import integration, knn_classification
from scenc.model import Model

FIGURES = [
    "batch_correction", "ilisi", "graph_connectivity", "batch_asw", "bio_preservation", "label_asw",
    "clisi", "nmi", "ari", "isolated_labels_f1", "isolated_labels_asw", "accuracy", "macro_f1",
    "reconstruction_mse",
]  # fmt: skip


class Sums:
    """Embeds cells by sums of genes that a fit chooses, and counts its fits."""

    name = "sums"

    def __init__(self, log, n=5):
        self.log, self.n = str(log), n
        self.settings = {"n": n}

    def fit(self, adata, batch_key=None, seed=0):
        with open(self.log, "a") as file:
            file.write(f"{adata.n_obs} {batch_key} {seed}\n")
        rng = np.random.default_rng(seed)
        self.weights = rng.normal(size=(adata.n_vars, self.n)).astype(np.float32)

    def embed(self, adata):
        return adata.X @ self.weights


class Kept(Sums):
    """The same, and its fit can be kept."""

    def save(self, folder):
        folder.mkdir()
        np.save(folder / "weights.npy", self.weights)

    def load(self, folder):
        self.weights = np.load(folder / "weights.npy")


@pytest.fixture
def log(tmp_path):
    path = tmp_path / "log"
    path.touch()
    return path


@pytest.fixture
def two_sets(make_cells):
    given = {"label_key": "cell_type", "batch_key": "batch", "min_cells": 10}
    return {
        "a": EvaluationSet(make_cells(60, 40, seed=5), **given),
        "b": EvaluationSet(make_cells(50, 30, seed=6), **{**given, "batch_key": None}),
    }


def value(results, **wanted):
    table = results.scores
    for name, is_ in wanted.items():
        table = table[table[name] == is_]
    assert len(table) == 1
    return table["value"].iloc[0], table["reason"].iloc[0]


@pytest.mark.slow
def test_scores_are_those_of_the_model_the_data_and_the_metrics(
    make_benchmark, two_sets, make_cells, tiny_encoding, make_vectors, run, records
):
    genes = make_cells(80, 40).var_names
    from scenc.genes import ProteinEmbeddings

    vectors = ProteinEmbeddings.from_arrays(genes, make_vectors(genes).fillna(0.5).to_numpy())
    encodings = [tiny_encoding("hard"), tiny_encoding("log", gene_encoder="protein")]
    benchmark = make_benchmark(
        evaluate=two_sets,
        encodings=encodings,
        metrics=None,
        seeds=[4],
        baselines=["PCA", SCVI(max_epochs=1), Untrained(encodings[0])],
        protein_embeddings=vectors,
        gene_vectors="random",
        title="try",
    )
    results = run(benchmark)
    names = ["learned + hard", "random + log", "PCA", "scVI", "untrained (learned + hard)"]
    assert list(results.encodings["encoding"]) == names
    assert list(results.encodings["gene_encoder"]) == ["learned", "protein", None, None, None]
    assert len(results.scores) == 5 * 2 * len(FIGURES)
    assert results.metrics == FIGURES

    # By hand, without the benchmark.
    train, query = make_cells(80, 40, seed=1), make_cells(60, 40, seed=5)
    Model.setup_anndata(train)
    model = Model(train, "learned", "hard", objective="masked", seed=4, **encodings[0].model)
    model.train(**encodings[0].training, enable_progress_bar=False)
    embedding = model.get_latent_representation(query, key_added=None)
    mixed = integration(embedding, query.obs["batch"], query.obs["cell_type"], seed=4)
    typed = knn_classification(embedding, query.obs["cell_type"], min_cells=10, seed=4)
    expected = {**mixed.to_dict(), "accuracy": typed.accuracy, "macro_f1": typed.macro_f1}
    expected["reconstruction_mse"] = model.get_reconstruction_error(query, seed=4).mean()
    for metric, number in expected.items():
        found, reason = value(
            results, encoding="learned + hard", dataset="a", seed=4, metric=metric
        )
        assert found == pytest.approx(number, rel=1e-5, nan_ok=True), metric
        assert reason == ("" if np.isfinite(number) else mixed.reasons[metric])

    for metric in ("ilisi", "batch_asw"):
        number, reason = value(results, encoding="PCA", dataset="b", metric=metric)
        assert np.isnan(number)
        assert reason == "no batch given"
    for name in names[2:]:
        number, reason = value(results, encoding=name, dataset="a", metric="reconstruction_mse")
        assert np.isnan(number)
        assert "predict" in reason

    curves = results.curves[results.curves["encoding"] == "learned + hard"]
    loss = curves[curves["metric"] == "reconstruction_loss_validation"]
    history = model.history["reconstruction_loss_validation"].iloc[:, 0]
    np.testing.assert_allclose(loss["value"], history, rtol=1e-6)
    assert loss["step"].tolist() == history.index.tolist()
    assert loss["epoch"].tolist() == [1.0, 2.0]
    assert (curves["metric"] == "reconstruction_loss_train").sum() == 6
    assert set(results.curves["encoding"]) == set(names[:2])

    jobs = results.jobs
    assert jobs["job"].is_unique
    assert jobs["task"].value_counts().to_dict() == {"train": 3, "embed": 10, "score": 10}
    assert jobs.loc[jobs["task"] == "train", "dataset"].isna().all()
    assert (jobs["seconds"] > 0).all()
    assert (jobs["peak_memory_mb"] > 50).all()
    facts = results.run["evaluation_sets"]["a"]
    assert (facts["n_cells"], facts["n_genes"], facts["min_cells"]) == (60, 40, 10)
    assert facts["genes_matched"] == 40
    assert results.run["title"] == "try"
    assert results.run["gene_vectors"] == "random"
    assert results.run["seeds"] == [4]
    assert results.run["training_data"]["n_cells"] == 80
    assert results.run["settings"]["shared"]["model.d_model"] == 16
    assert results.run["settings"]["each"]["random + log"]["model.expression_encoder"] == "log"
    assert {"scenc", "torch", "python"} <= set(results.run["versions"])

    loaded = Results.load(benchmark.out)
    assert loaded.scores.equals(results.scores)
    assert loaded.run == json.loads(json.dumps(results.run))

    before = records(benchmark.out)
    assert len(before) == 23
    run(benchmark)
    assert records(benchmark.out) == before


def test_nothing_finished_is_done_again_and_nothing_stale_is_used(
    make_benchmark, make_cells, tiny_encoding, run, records
):
    def tasks(benchmark):
        """Return the tasks that a run does, in order."""
        old = records(benchmark.out)
        results = run(benchmark)
        new = set(records(benchmark.out)) - set(old)
        assert {key: of for key, of in records(benchmark.out).items() if key in old} == old
        return results, sorted(
            json.loads((benchmark.out / "work" / "jobs" / key / "job.json").read_text())["name"]
            for key in new
        )

    name = "learned + soft"
    everything = [f"embed/{name}/a/0", f"score/{name}/a/0", f"train/{name}/0"]
    first, done = tasks(make_benchmark())
    assert done == everything
    assert tasks(make_benchmark())[1] == []

    cells = make_cells(60, 40, seed=5)
    relabelled = cells.copy()
    relabelled.obs["cell_type"] = np.roll(relabelled.obs["cell_type"].astype(str), 1)
    given = {"label_key": "cell_type", "batch_key": "batch", "min_cells": 10}
    results, done = tasks(make_benchmark(evaluate={"a": EvaluationSet(relabelled, **given)}))
    assert done == [f"score/{name}/a/0"]
    metric = {"encoding": name, "metric": "accuracy"}
    assert value(results, **metric) != value(first, **metric)
    fewer = EvaluationSet(cells, **{**given, "min_cells": 12})
    assert tasks(make_benchmark(evaluate={"a": fewer}))[1] == [f"score/{name}/a/0"]
    more = {"a": EvaluationSet(cells, **given), "b": EvaluationSet(make_cells(40, 40, 9), **given)}
    assert tasks(make_benchmark(evaluate=more))[1] == [f"embed/{name}/b/0", f"score/{name}/b/0"]
    assert tasks(make_benchmark(train=make_cells(80, 40, seed=2)))[1] == everything
    assert tasks(make_benchmark(encodings=[tiny_encoding(model={"n_bins": 5})]))[1] == everything
    longer = tiny_encoding(training={"max_epochs": 3})
    assert tasks(make_benchmark(encodings=[longer]))[1] == everything
    renamed = tiny_encoding(name="another name")
    assert tasks(make_benchmark(encodings=[renamed]))[1] == []
    assert tasks(make_benchmark(seeds=[0, 1]))[1] == [t[:-1] + "1" for t in everything]


def test_other_versions_give_other_keys(make_benchmark, monkeypatch):
    from scenc.benchmark.entries import _fingerprint

    keys = {job.key for job in make_benchmark().plan.jobs()}
    assert {job.key for job in make_benchmark().plan.jobs()} == keys
    monkeypatch.setattr(_fingerprint, "version", lambda name: "9.9" if name == "torch" else "1")
    assert not keys & {job.key for job in make_benchmark().plan.jobs()}


def test_fresh_forgets(make_benchmark, run, records):
    benchmark = make_benchmark()
    run(benchmark)
    before = records(benchmark.out)
    run(benchmark, fresh=True)
    after = records(benchmark.out)
    assert set(after) == set(before)
    assert all(after[key] != before[key] for key in before)


def test_damaged_results_are_done_again(make_benchmark, run, records):
    benchmark = make_benchmark()
    results = run(benchmark)
    keys = sorted(records(benchmark.out))
    folder = benchmark.out / "work" / "jobs"
    (folder / keys[0] / "job.json").write_text('{"format": 1')
    (folder / keys[1] / "job.json").unlink()
    again = run(make_benchmark())
    assert again.scores.equals(results.scores)
    assert sorted(records(benchmark.out)) == keys


@pytest.mark.parametrize("kind", [Sums, Kept])
def test_any_method_can_be_an_entry(make_benchmark, two_sets, make_cells, run, log, kind):
    arguments = {"encodings": [kind(log)], "seeds": [0, 7]}
    train = {"data": make_cells(80, 40, seed=1), "batch_key": "batch"}
    one = {"a": two_sets["a"]}
    results = run(make_benchmark(train=train, evaluate=one, **arguments))
    assert log.read_text() == "80 batch 0\n80 batch 7\n"
    cells = make_cells(60, 40, seed=5)
    embedding = cells.X @ np.random.default_rng(7).normal(size=(40, 5)).astype(np.float32)
    expected = knn_classification(embedding, cells.obs["cell_type"], min_cells=10, seed=7)
    found, _ = value(results, encoding="sums", metric="accuracy", seed=7)
    assert found == expected.accuracy
    number, reason = value(results, encoding="sums", metric="reconstruction_mse", seed=7)
    assert np.isnan(number)
    assert reason == "sums does not predict masked expression"

    run(make_benchmark(train=train, evaluate=one, **arguments))
    assert log.read_text().count("\n") == 2
    # A later set: what kept its fit embeds it, what did not is fitted again.
    same_genes = {**one, "c": EvaluationSet(make_cells(50, 40, 8), "cell_type", min_cells=10)}
    run(make_benchmark(train=train, evaluate=same_genes, **arguments))
    assert log.read_text().count("\n") == (2 if kind is Kept else 4)
    run(make_benchmark(train=train, evaluate=one, **{**arguments, "encodings": [kind(log, n=6)]}))
    assert log.read_text().count("\n") == (4 if kind is Kept else 6)


def test_methods_whose_settings_are_unclear_are_refused(make_benchmark):
    class Odd:
        def __init__(self):
            self.matrix = np.eye(2)

        def fit(self, adata, batch_key=None, seed=0): ...

        def embed(self, adata): ...

    with pytest.raises(TypeError, match="settings of Odd hold a ndarray.*attribute `settings`"):
        make_benchmark(encodings=[Odd()])


def test_pca_is_scanpys(make_cells):
    import scanpy as sc

    cells = make_cells(60, 40)
    method = PCA(n_components=5, n_genes=20)
    method.fit(cells)
    found = method.embed(cells)
    sc.pp.normalize_total(cells, target_sum=1e4)
    sc.pp.log1p(cells)
    sc.pp.highly_variable_genes(cells, n_top_genes=20)
    sc.pp.pca(cells, n_comps=5, mask_var="highly_variable", svd_solver="covariance_eigh")
    expected = cells.obsm["X_pca"]
    signs = np.sign((found * expected).sum(axis=0))
    np.testing.assert_allclose(found * signs, expected, rtol=1e-3, atol=1e-4)


class Broken:
    name = "broken"

    def fit(self, adata, batch_key=None, seed=0):
        raise ZeroDivisionError("no such luck")

    def embed(self, adata):
        raise AssertionError


class Wrong(Sums):
    name = "wrong"

    def embed(self, adata):
        return np.zeros((3, 2))


def test_failures_are_recorded_and_the_rest_goes_on(
    make_benchmark, tiny_encoding, make_adata, make_counts, two_sets, log
):
    kept = Kept(log)
    kept.name = "kept"
    benchmark = make_benchmark(
        evaluate={"a": two_sets["a"]}, encodings=[Broken(), Wrong(log), tiny_encoding(), kept]
    )
    results = benchmark.run(progress=False)
    jobs = results.jobs.set_index("job")
    assert jobs.loc["train/broken/0", "reason"] == "ZeroDivisionError: no such luck"
    for job in ("embed/broken/a/0", "score/broken/a/0"):
        assert jobs.loc[job, "status"] == "failed"
        assert jobs.loc[job, "reason"].endswith("failed: ZeroDivisionError: no such luck")
    assert "train/broken/0 failed" in jobs.loc["embed/broken/a/0", "reason"]
    assert "returned float64 values of shape (3, 2)" in jobs.loc["train/wrong/0", "reason"]
    assert jobs.loc["score/learned + soft/a/0", "status"] == "done"
    assert jobs.loc["score/kept/a/0", "status"] == "done"
    number, reason = value(results, encoding="broken", dataset="a", metric="accuracy")
    assert np.isnan(number)
    assert "no such luck" in reason
    accuracy, _ = value(results, encoding="learned + soft", dataset="a", metric="accuracy")
    assert np.isfinite(accuracy)
    assert Results.load(benchmark.out).scores.equals(results.scores)


def test_sets_of_other_genes_are_refused_before_any_job(
    make_benchmark, make_adata, make_counts, two_sets, log
):
    sets = {"a": two_sets["a"]}
    for name in ("mouse", "numbers"):
        stranger = make_adata(sp.csr_matrix(make_counts(40, 30)))
        stranger.var_names = [f"{name}{i}" for i in range(30)]
        sets[name] = EvaluationSet(stranger, "cell_type", "batch")
    benchmark = make_benchmark(evaluate=sets)
    message = "'mouse': only 0 of its 30 genes .* 'numbers': only 0 of its 30 genes"
    with pytest.raises(ValueError, match=message):
        benchmark.run(progress=False)
    assert not list((benchmark.out / "work").glob("jobs/*"))
    with pytest.raises(ValueError, match=message):
        make_benchmark(evaluate=sets).jobs()
    # Other methods are given the genes as they are.
    own = make_benchmark(evaluate=sets, encodings=[Kept(log)])
    assert set(own.jobs()["task"]) == {"train", "embed", "score"}


def test_an_encoding_that_hides_no_genes_has_all_scores_but_their_error(
    make_benchmark, tiny_encoding, run
):
    model = {"n_top_genes": 30, "decoder_hidden": 8}
    encoding = tiny_encoding(model=model, objective="generative")
    results = run(make_benchmark(encodings=[encoding], baselines=["untrained"]))
    for name in results.scores["encoding"].unique():
        assert np.isfinite(value(results, encoding=name, dataset="a", metric="macro_f1")[0])
    error, reason = value(
        results, encoding="learned + soft", dataset="a", metric="reconstruction_mse"
    )
    assert np.isnan(error)
    assert reason == "no masked genes were trained"


def test_failed_jobs_are_tried_again(make_benchmark, log, monkeypatch, caplog):
    monkeypatch.setattr(Sums, "embed", lambda self, adata: 1 / 0)
    first = make_benchmark(encodings=[Kept(log)]).run(progress=False)
    assert "2 of 3 jobs failed, the first: embed/sums/a/0: ZeroDivisionError" in caplog.text
    assert first.jobs["status"].tolist() == ["done", "failed", "failed"]
    monkeypatch.undo()
    second = make_benchmark(encodings=[Kept(log)]).run(progress=False)
    assert second.jobs["status"].tolist() == ["done", "done", "done"]
    assert log.read_text().count("\n") == 1


def test_divergence_is_a_result(make_benchmark, tiny_encoding, run, records, monkeypatch):
    from lightning.pytorch import LightningModule

    def poison(self, *_):
        if self.global_step == 4 and self.network.config.n_bins == 7:
            self.network.mask_token.data.fill_(np.nan)

    monkeypatch.setattr(LightningModule, "on_train_batch_start", poison)
    wild = tiny_encoding(name="wild", model={"n_bins": 7}, training={"validate_every": 1})
    benchmark = make_benchmark(encodings=[wild, tiny_encoding(name="calm")])
    results = run(benchmark)
    jobs = results.jobs.set_index("job")
    assert jobs.loc["train/wild/0", "status"] == "diverged"
    assert jobs.loc["train/calm/0", "status"] == "done"
    step = jobs.loc["train/wild/0", "diverged_step"]
    assert step == 4
    assert f"NaN or infinite at step {step}" in jobs.loc["train/wild/0", "reason"]
    curves = results.curves[results.curves["encoding"] == "wild"]
    losses = curves[curves["metric"] == "reconstruction_loss_train"]
    assert losses["step"].max() == step - 1
    # Scored with the best weights before it.
    assert jobs.loc["score/wild/a/0", "status"] == "done"
    before = records(benchmark.out)
    run(benchmark)
    assert records(benchmark.out) == before


def test_divergence_before_any_validation_leaves_nothing_to_score(make_benchmark, tiny_encoding):
    wild = tiny_encoding(training={"lr": 1e30, "gradient_clip": 0.0})
    results = make_benchmark(encodings=[wild]).run(progress=False)
    assert results.jobs["status"].tolist() == ["diverged", "failed", "failed"]
    assert "no validation came first" in results.jobs["reason"].iloc[0]
    assert "diverged before any validation" in results.jobs["reason"].iloc[1]
    assert results.scores["value"].isna().all()


def test_a_loss_that_ends_far_above_its_best_has_diverged(
    make_benchmark, tiny_encoding, run, monkeypatch
):
    from lightning.pytorch import LightningModule

    def spoil(self, *_):
        """Move all predictions far away; small steps do not bring them back."""
        if self.global_step == 4:
            self.network.decoder[-1].bias.data.add_(50)

    monkeypatch.setattr(LightningModule, "on_train_batch_start", spoil)
    training = {"max_epochs": 3, "validate_every": 1}
    results = run(make_benchmark(encodings=[tiny_encoding(training=training)]))
    curve = results.curves[results.curves["metric"] == "reconstruction_loss_validation"]
    losses = curve.set_index("step")["value"]
    assert losses.index.tolist() == list(range(9))
    assert (losses.loc[4:] > 10 * losses.min()).all()
    job = results.jobs.iloc[0]
    assert (job["status"], job["diverged_step"]) == ("diverged", 4)
    assert f"best ({losses.min():.4g}" in job["reason"]
    assert results.jobs["status"].tolist()[1:] == ["done", "done"]


def test_an_interrupt_stops_the_run_and_keeps_what_is_done(
    make_benchmark, tiny_encoding, records, run
):
    import os
    import signal

    class Interrupting(Sums):
        name = "interrupting"

        def embed(self, adata):
            os.kill(os.getpid(), signal.SIGINT)

    benchmark = make_benchmark(encodings=[tiny_encoding(), Interrupting("/dev/null")])
    with pytest.raises(KeyboardInterrupt):
        benchmark.run(progress=False)
    assert len(records(benchmark.out)) == 3
    states = Results.load(benchmark.out).jobs["status"].tolist()
    assert states == ["done"] * 3 + ["pending"] * 3
    assert list((benchmark.out / "work" / "jobs").glob(".*")) == []


def test_an_interrupted_training_is_no_result(make_benchmark, records, monkeypatch):
    import os
    import signal

    from lightning.pytorch import LightningModule

    def interrupt(self, *_):
        os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(LightningModule, "on_train_epoch_start", interrupt)
    benchmark = make_benchmark()
    with pytest.raises(KeyboardInterrupt):
        benchmark.run(progress=False)
    assert records(benchmark.out) == {}


def test_types_too_small_are_said_to_be(make_benchmark, make_cells, run):
    cells = EvaluationSet(make_cells(60, 40, seed=5), "cell_type", "batch")
    results = run(make_benchmark(evaluate={"a": cells}))
    number, reason = value(results, metric="accuracy", dataset="a")
    assert np.isnan(number)
    assert reason == "no type has 250 cells or more"


def test_global_random_states_are_left_alone(make_benchmark, run):
    import random

    import torch

    random.seed(1), np.random.seed(1), torch.manual_seed(1)  # noqa: NPY002
    expected = random.random(), np.random.rand(), torch.rand(1).item()  # noqa: NPY002
    random.seed(1), np.random.seed(1), torch.manual_seed(1)  # noqa: NPY002
    run(make_benchmark(baselines=[SCVI(max_epochs=1)]))
    assert (random.random(), np.random.rand(), torch.rand(1).item()) == expected  # noqa: NPY002


@pytest.mark.slow
def test_estimates_cover_all_jobs_and_do_none(make_benchmark, run, tmp_path, tiny_encoding):
    benchmark = make_benchmark(
        encodings=[tiny_encoding(), *grid("small", gene_encoders=["learned"],
                                          expression_encoders=["raw"])],
        baselines=["PCA"],
    )  # fmt: skip
    table = benchmark.jobs()
    assert len(table) == 3 + 3 + 2
    assert set(table["status"]) == {"pending"}
    assert table[["seconds", "memory_mb"]].notna().all(axis=None)
    assert (table["seconds"] > 0).all()
    assert not benchmark.out.exists()
    assert "timed here" in table.attrs["basis"]
    big = table[(table["encoding"] == "learned + raw") & (table["task"] == "train")]
    small = table[(table["encoding"] == "learned + soft") & (table["task"] == "train")]
    assert big["seconds"].item() > small["seconds"].item()
    run(make_benchmark())
    states = benchmark.jobs().set_index("job")["status"]
    assert states["train/learned + soft/0"] == "done"
    assert states["train/learned + raw/0"] == "pending"

    missing = make_benchmark(train={"data": tmp_path / "no.h5ad", "n_cells": 10**6},
                             evaluate={"a": EvaluationSet(tmp_path / "no.h5ad")})  # fmt: skip
    table = missing.jobs().set_index("task")
    assert table.loc["train", "seconds"] > big["seconds"].item()
    assert np.isnan(table.loc["score", "seconds"])
