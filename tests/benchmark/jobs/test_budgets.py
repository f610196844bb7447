"""One training judged at several budgets: what is kept, reused and resumed."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from scenc.benchmark import Results
from scenc.benchmark.jobs._train_model import n_steps
from scenc.model import Model
from scenc.train import Budget

# 72 of 80 cells are trained on, 3 steps of 32, 32 and 8 cells an epoch.
TRAINING = {"max_epochs": 7, "validate_every": 2}


@pytest.fixture
def make_budgeted(make_benchmark, tiny_encoding):
    """Return a maker of a benchmark with budgets."""

    def make(budgets=(64, 100, 200), training=None, **changes):
        encoding = tiny_encoding(training={**TRAINING, **(training or {})})
        return make_benchmark(**{"encodings": [encoding], "budgets": budgets, **changes})

    return make


@pytest.mark.parametrize(
    ("visits", "steps"), [(1, 1), (32, 1), (33, 2), (72, 3), (73, 4), (144, 6), (200, 8)]
)
def test_visits_are_rounded_up_to_a_step(visits, steps):
    passed, cells = 0, 0
    while cells < visits:
        cells += [32, 32, 8][passed % 3]
        passed += 1
    assert passed == steps
    training = {"batch_size": 32, "accumulate_grad_batches": 1}
    assert n_steps(visits, 72, training) == steps


def test_steps_of_several_batches_end_with_the_epoch():
    training = {"batch_size": 8, "accumulate_grad_batches": 5}
    assert n_steps(72, 72, training) == 2
    assert n_steps(40, 72, training) == 1
    assert n_steps(72 + 41, 72, training) == 4
    assert n_steps(80, 160, {**training, "devices": 2}) == 1


def test_each_budget_is_embedded_and_scored(make_budgeted, run):
    benchmark = make_budgeted(budgets=[200, 64], baselines=["PCA", "untrained"])
    results = run(benchmark)
    jobs = results.jobs
    assert jobs["job"].is_unique
    assert jobs["job"].tolist()[:3] == [
        "train/learned + soft/0@64",
        "embed/learned + soft/a/0@64",
        "score/learned + soft/a/0@64",
    ]
    trained = jobs[jobs["encoding"] == "learned + soft"]
    assert trained["budget"].tolist() == [64] * 3 + [200] * 3
    # What is not trained is judged once.
    assert jobs[jobs["encoding"] == "PCA"]["budget"].isna().all()
    assert (jobs["encoding"] == "PCA").sum() == 2
    assert results.budgets == [64, 200]
    scores = results.scores[results.scores["metric"] == "batch_asw"]
    found = scores.set_index(["encoding", "budget"])["value"]
    assert len(found) == 4
    assert found.notna().all()
    assert found["learned + soft", 64] != found["learned + soft", 200]
    # One training, one curve, of as many steps as 200 visits take.
    curve = results.curves[results.curves["metric"] == "reconstruction_loss_train"]
    assert curve["step"].tolist() == list(range(8))
    early = results.at_budget(64).curves
    assert set(early.loc[early["metric"] == "reconstruction_loss_train", "step"]) == {0, 1}
    assert results.run["budgets"] == [64, 200]
    assert Results.load(benchmark.out).scores.equals(results.scores)


def test_the_models_are_those_of_one_training(make_budgeted, run, make_cells):
    benchmark = make_budgeted()
    run(benchmark)
    kept = models(benchmark)
    cells = make_cells(80, 40, seed=1)
    Model.setup_anndata(cells)
    encoding = benchmark.entries[0].encoding
    # By hand: 200 visits are 8 steps, and end in the third epoch; validated after each second step.
    for budget, last in {64: 2, 100: 4, 200: 8}.items():
        model = Model(cells, "learned", "soft", objective="masked", seed=0, **encoding.model)
        whole = Until(last)
        training = {**encoding.training, "max_epochs": 3}
        model.train(
            **training,
            n_threads=1,
            enable_progress_bar=False,
            callbacks=[Budget(8), whole],
        )
        expected = whole.best[1]
        for name, weight in kept[budget].module.named_parameters():
            assert torch.equal(weight, expected[name]), (budget, name)
        assert kept[budget].history["train_loss"].index.tolist() == list(range(last))


class Until(Budget):
    """Keeps the weights of the best validation within the first steps."""

    def __init__(self, last):
        super().__init__(8)
        self.last, self.best = last, (np.inf, {})

    def on_validation_end(self, trainer, pl_module):
        loss = float(trainer.callback_metrics["reconstruction_loss_validation"])
        if trainer.global_step <= self.last and loss < self.best[0]:
            weights = pl_module.network.named_parameters()
            self.best = loss, {name: w.detach().clone() for name, w in weights}


def models(benchmark):
    """Return the models of a run by budget."""
    folder = benchmark.out / "work" / "jobs"
    jobs = [job for job in benchmark.plan.jobs() if job.task == "train"]
    return {job.budget: Model.load(folder / job.key / "model") for job in jobs}


def test_a_budget_more_uses_what_is_there(make_budgeted, run, records):
    benchmark = make_budgeted(budgets=[64, 200])
    first = run(benchmark)
    before = records(benchmark.out)
    more = run(make_budgeted(budgets=[64, 100, 200]))
    after = records(benchmark.out)
    assert {key: after[key] for key in before} == before
    assert len(after) == len(before) + 3
    both = more.scores[more.scores["budget"] != 100].reset_index(drop=True)
    assert both.equals(first.scores)
    # Another largest budget has another schedule: nothing is the same.
    run(make_budgeted(budgets=[64, 300]))
    assert len(records(benchmark.out)) == len(after) + 6


def test_a_run_without_budgets_has_the_keys_it_always_had(make_benchmark, make_budgeted):
    plain = {job.key for job in make_benchmark().plan.jobs()}
    keyless = make_benchmark()
    assert {job.key for job in keyless.plan.jobs()} == plain
    assert all("budget" not in job.spec for job in keyless.plan.jobs())
    assert not plain & {job.key for job in make_budgeted().plan.jobs()}


def test_a_killed_training_goes_on_from_its_checkpoint(make_budgeted, run, monkeypatch, tmp_path):
    import scenc.benchmark.jobs._train_model as of_training

    whole = run(make_budgeted(out=tmp_path / "whole", budgets=[64, 2000]))
    killed = make_budgeted(out=tmp_path / "killed", budgets=[64, 2000])

    class Killed(BaseException):
        pass

    class Kill(Budget):
        def on_train_batch_start(self, trainer, *_):
            if trainer.global_step == 60:
                raise Killed

    arguments = of_training._training_arguments

    def with_checkpoints(*given, kill=True):
        found = arguments(*given)
        budget = found["callbacks"][0]
        kind = Kill if kill and budget.pause_at is None else Budget
        return {
            **found,
            "callbacks": [kind(budget.n_steps, budget.pause_at)],
            "checkpoint_every": 50,
        }

    monkeypatch.setattr(of_training, "_training_arguments", with_checkpoints)
    with pytest.raises(Killed):
        killed.run(progress=False)
    assert len(list((killed.out / "work" / "checkpoints").glob("*/last.ckpt"))) == 1
    # What has its weights is scored although the training has not ended.
    partly = Results.load(killed.out)
    assert partly.budgets == [64]
    seen = []

    class Look(Budget):
        def on_train_batch_start(self, trainer, *_):
            seen.append(trainer.global_step)

    def looking(*given):
        found = arguments(*given)
        return {**found, "callbacks": [Look(found["callbacks"][0].n_steps)]}

    monkeypatch.setattr(of_training, "_training_arguments", looking)
    resumed = run(killed)
    assert seen[0] == 50
    assert resumed.scores.equals(whole.scores)
    assert not list((killed.out / "work" / "checkpoints").iterdir())


def test_a_training_that_diverged_stays_so_at_larger_budgets(make_budgeted, run):
    wild = {"lr": 1e30, "gradient_clip": 0.0, "validate_every": 1, "warmup_steps": 0}
    results = make_budgeted(training=wild).run(progress=False)
    trained = results.jobs[results.jobs["task"] == "train"]
    assert trained["status"].tolist() == ["diverged"] * 3
    assert trained["diverged_step"].nunique() == 1


@pytest.mark.parametrize(
    ("budgets", "message"),
    [
        ([0], "from 1, got 0"),
        ([1.5], "from 1, got 1.5"),
        ([True], "from 1, got True"),
        ([5, 5], "must be different numbers"),
    ],
)
def test_budgets_that_cannot_be_are_refused(make_budgeted, budgets, message):
    with pytest.raises(ValueError, match=message):
        make_budgeted(budgets=budgets)


def test_budgets_without_anything_to_train_are_refused(make_benchmark):
    with pytest.raises(ValueError, match="encodings that are trained, and there is none"):
        make_benchmark(encodings=[], baselines=["PCA"], budgets=[10])


def test_one_seed_and_the_smaller_budgets_come_first(make_budgeted, tiny_encoding):
    encodings = [tiny_encoding("soft"), tiny_encoding("raw")]
    plan = make_budgeted(encodings=encodings, budgets=[200, 64], seeds=[0, 1], baselines=["PCA"])
    order = [(j.seed, j.budget, j.entry) for j in plan.plan.jobs() if j.task == "score"]
    soft, raw = "learned + soft", "learned + raw"
    assert order == [
        (0, 64, soft), (0, 64, raw), (0, None, "PCA"), (0, 200, soft), (0, 200, raw),
        (1, 64, soft), (1, 64, raw), (1, None, "PCA"), (1, 200, soft), (1, 200, raw),
    ]  # fmt: skip


def test_estimates_know_budgets(make_budgeted):
    table = make_budgeted(budgets=[10_000, 40_000]).jobs()
    seconds = table[table["task"] == "train"].set_index("budget")["seconds"] - 1
    assert seconds[40_000] == pytest.approx(3 * seconds[10_000], rel=0.01)


def test_a_record_says_how_many_steps_were_made(make_budgeted, run):
    benchmark = make_budgeted(budgets=[64, 200])
    run(benchmark)
    folder = benchmark.out / "work" / "jobs"
    records = [
        json.loads((folder / job.key / "job.json").read_text())
        for job in benchmark.plan.jobs()
        if job.task == "train"
    ]
    assert [record["n_steps"] for record in records] == [2, 8]
