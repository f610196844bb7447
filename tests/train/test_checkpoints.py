from __future__ import annotations

import errno
import os
import pickle
import signal

import numpy as np
import pandas as pd
import pytest
import torch
from lightning.pytorch import Callback

from scenc.data import OrderedRequests, ShuffledRequests, TokenDataset, Tokenizer, open_rows
from scenc.nn import CellTransformer, ModelConfig
from scenc.train import (
    Budget,
    CheckpointError,
    Checkpoints,
    NonFiniteLossError,
    TrainConfig,
    _callbacks,
    fit,
    make_loggers,
)

SIZES = {"d_model": 8, "n_heads": 2, "d_feedforward": 8, "expression_hidden": 8, "dropout": 0.1}


class Failure(Exception):
    """What ends a training before its time."""


class FailAt(Callback):
    def __init__(self, step, function=None):
        self.step, self.function = step, function

    def on_train_batch_end(self, trainer, *_):
        if trainer.global_step == self.step:
            if self.function is None:
                raise Failure
            self.function()


@pytest.fixture(scope="module")
def dataset(make_counts):
    rows = open_rows(np.asarray(make_counts(100, 30)))
    return TokenDataset(rows, np.arange(30), Tokenizer(mask_fraction=0.5))


@pytest.fixture(scope="module")
def run(dataset):
    """Train a tiny network with dropout; return its weights and curves."""

    def train(
        folder=None, *, resume=False, every=1, callbacks=(), settings=None, logger=None, **config
    ):
        torch.manual_seed(1)
        network = CellTransformer(ModelConfig(**SIZES), 30)
        checkpoints = None
        if folder is not None:
            given = {"lr": 1e-3} if settings is None else settings
            checkpoints = Checkpoints(folder, every, given, resume=resume)
        curve = fit(
            network,
            dataset.loader(ShuffledRequests(np.arange(90), 8, seed=3)),
            dataset.loader(OrderedRequests(np.arange(90, 100), 8)),
            TrainConfig(**{"max_epochs": 2, "batch_size": 8, **config}),
            seed=0,
            accelerator="cpu",
            progress_bar=False,
            checkpoints=checkpoints,
            callbacks=callbacks,
            logger=logger,
        )
        return network.state_dict(), curve

    return train


@pytest.fixture(scope="module")
def undisturbed(run):
    """What a training comes to that nothing ends before its time."""
    torch.set_num_threads(1)  # as in each test
    return run()


def assert_equal(one, two):
    for name, weight in one[0].items():
        assert torch.equal(weight, two[0][name]), name
    for curve in ("train", "validation", "lr", "n_steps", "terms"):
        assert getattr(one[1], curve) == getattr(two[1], curve), curve


@pytest.mark.parametrize(
    ("settings", "ends"),
    [
        # 12 steps an epoch: ends in the middle, after its last step, and at the very last one.
        ({}, [2, 7, 13, 14, 24]),
        ({"validate_every": 5}, [5, 6, 7, 11, 13, 16]),
        # 3 steps an epoch, the last of two batches.
        ({"accumulate_grad_batches": 5, "validate_every": 2}, [2, 3, 4, 5]),
    ],
    ids=["by epoch", "by step", "accumulated"],
)
def test_what_was_broken_off_ends_with_the_same_weights(run, tmp_path, settings, ends):
    whole = run(**settings)
    for end in ends:
        folder = tmp_path / str(end)
        with pytest.raises(Failure):
            run(folder, callbacks=[FailAt(end)], **settings)
        assert_equal(run(folder, resume=True, **settings), whole)


@pytest.mark.parametrize(
    ("settings", "steps", "pauses"),
    [
        # 12 steps an epoch: pauses in the middle, at its end, and at the very last step.
        ({}, 20, [2, 12, 20]),
        ({"validate_every": 5}, 24, [5, 6, 24]),
        ({"accumulate_grad_batches": 5, "validate_every": 2}, 5, [3, 4]),
    ],
    ids=["by epoch", "by step", "accumulated"],
)
def test_a_paused_training_goes_on_to_the_same_weights(run, tmp_path, settings, steps, pauses):
    whole = run(callbacks=[Budget(steps)], **settings)
    assert whole[1].n_steps == steps
    # The schedule ends with the budget: what is left of the cosine is that of one step.
    assert max(whole[1].lr) == steps - 1
    assert whole[1].lr[steps - 1] == pytest.approx(warmup_cosine_at_the_end(steps), rel=1e-6)
    for step in pauses:
        _, curve = run(
            tmp_path, resume=True, every=100, callbacks=[Budget(steps, step)], **settings
        )
        assert curve.n_steps == step
        # Once more, as after a kill between the checkpoint and what follows it.
        _, again = run(
            tmp_path, resume=True, every=100, callbacks=[Budget(steps, step)], **settings
        )
        assert again == curve
    assert_equal(run(tmp_path, resume=True, callbacks=[Budget(steps)], **settings), whole)


def warmup_cosine_at_the_end(steps):
    """Return the learning rate of the last step of a training, from the formula."""
    warmup = int(0.1 * steps)
    done = (steps - 1 - warmup) / (steps - warmup)
    return 1e-3 * (1 + np.cos(np.pi * done)) / 2


def test_a_paused_training_has_the_weights_of_its_best_validation(run, tmp_path):
    settings = {"validate_every": 3}
    paused, curve = run(tmp_path, callbacks=[Budget(24, 14)], **settings)
    assert curve.n_steps == 14
    best = min(curve.validation, key=curve.validation.get) + 1
    assert best <= 12
    at_best, _ = run(tmp_path / "best", callbacks=[Budget(24, best)], **settings)
    for name, weight in at_best.items():
        assert torch.equal(weight, paused[name]), name


def test_a_budget_that_cannot_be_is_refused(run):
    with pytest.raises(ValueError, match="between 1 and n_steps"):
        Budget(5, 6)
    with pytest.raises(ValueError, match="pause only where it writes checkpoints"):
        run(callbacks=[Budget(5, 2)])


def test_a_stopped_training_goes_on_with_the_next_epoch(run, undisturbed, tmp_path):
    class Stop(Callback):
        def on_train_epoch_end(self, trainer, *_):
            trainer.should_stop = True

    _, curve = run(tmp_path, every=5, callbacks=[Stop()])
    assert curve.n_steps == 12
    assert_equal(run(tmp_path, every=5, resume=True), undisturbed)


def test_checkpoints_change_nothing_and_a_finished_training_is_done_at_once(
    run, undisturbed, tmp_path
):
    whole = run(tmp_path, every=7)
    assert_equal(whole, undisturbed)

    def refuse():
        raise AssertionError("trained again")

    fail = [FailAt(step, refuse) for step in range(30)]
    assert_equal(run(tmp_path, resume=True, callbacks=fail), whole)


def test_a_step_may_be_lost_and_is_made_again(run, undisturbed, tmp_path):
    with pytest.raises(Failure):
        run(tmp_path, every=5, callbacks=[FailAt(14)])
    kept = torch.load(tmp_path / "last.ckpt", weights_only=True)
    assert kept["global_step"] == 10
    assert_equal(run(tmp_path, resume=True, every=5), undisturbed)


def test_an_earlier_training_is_not_overwritten(run, tmp_path):
    run(tmp_path)
    with pytest.raises(FileExistsError, match="resume=True"):
        run(tmp_path)


def test_without_a_checkpoint_resuming_begins(run, undisturbed, tmp_path):
    assert_equal(run(tmp_path / "new", resume=True), undisturbed)


def test_another_training_is_refused_by_name(run, tmp_path):
    run(tmp_path, settings={"lr": 1e-3, "d_model": 8})
    with pytest.raises(CheckpointError, match=r"its lr is 0\.001, now it is 0\.1"):
        run(tmp_path, resume=True, settings={"lr": 0.1, "d_model": 8})


class Trap:
    def __reduce__(self):
        return os.mkdir, ("trapped",)


def test_damaged_and_hostile_files_are_refused(run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run(tmp_path)
    path = tmp_path / "last.ckpt"
    good = path.read_bytes()
    torch.save({"callbacks": {"Checkpoints": Trap()}}, tmp_path / "trap")
    hostile = [
        good[: len(good) // 2],
        b"",
        b"no checkpoint",
        pickle.dumps(Trap()),
        (tmp_path / "trap").read_bytes(),
    ]
    for content in hostile:
        path.write_bytes(content)
        with pytest.raises(CheckpointError, match=r"last\.ckpt"):
            run(tmp_path, resume=True)
    assert not (tmp_path / "trapped").exists()
    torch.save({"callbacks": {}}, path)
    with pytest.raises(CheckpointError, match="no checkpoint of scenc"):
        run(tmp_path, resume=True)


def test_a_full_disk_leaves_the_last_good_checkpoint(run, undisturbed, tmp_path, monkeypatch):
    from lightning.pytorch import Trainer

    save = Trainer.save_checkpoint

    def fill(trainer, path, *args):
        save(trainer, path, *args)
        if trainer.global_step == 9:
            os.truncate(path, 100)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patched:
        patched.setattr(Trainer, "save_checkpoint", fill)
        with pytest.raises(OSError, match=r"step 9 .*disk is full.*that of step 6 is intact"):
            run(tmp_path, every=3)
    assert [path.name for path in tmp_path.iterdir()] == ["last.ckpt"]
    assert_equal(run(tmp_path, every=3, resume=True), undisturbed)


def test_a_loss_found_not_finite_while_a_checkpoint_is_written_is_reported_as_that(
    run, tmp_path, monkeypatch
):
    class Poison(Callback):
        def on_train_batch_start(self, trainer, pl_module, *_):
            if trainer.global_step == 4:
                torch.nn.init.constant_(pl_module.network.mask_token, torch.nan)

    # As on a GPU, where losses are read later.
    monkeypatch.setitem(_callbacks._STEPS_PER_READ, "cpu", 50)
    with pytest.raises(NonFiniteLossError, match="not finite at step 4") as caught:
        run(tmp_path, every=3, callbacks=[Poison()])
    assert list(caught.value.curve.train) == [0, 1, 2, 3]
    assert [path.name for path in tmp_path.iterdir()] == ["last.ckpt"]
    assert torch.load(tmp_path / "last.ckpt", weights_only=True)["global_step"] == 3


def test_sigterm_saves_first(run, undisturbed, tmp_path):
    before = signal.getsignal(signal.SIGTERM)
    stop = FailAt(8, lambda: os.kill(os.getpid(), signal.SIGTERM))
    with pytest.raises(SystemExit) as left:
        run(tmp_path, every=100, callbacks=[stop])
    assert left.value.code == 143
    assert signal.getsignal(signal.SIGTERM) is before
    assert torch.load(tmp_path / "last.ckpt", weights_only=True)["global_step"] == 8
    assert_equal(run(tmp_path, every=100, resume=True), undisturbed)


def test_every_must_be_positive(tmp_path):
    with pytest.raises(ValueError, match="checkpoint_every must be at least 1"):
        Checkpoints(tmp_path, 0, {})


def test_a_resumed_training_logs_at_the_same_steps(run, undisturbed, tmp_path):
    with pytest.raises(Failure):
        run(tmp_path, callbacks=[FailAt(7)])
    run(tmp_path, resume=True, logger=make_loggers("csv", tmp_path / "resumed"))
    (path,) = tmp_path.rglob("metrics.csv")
    logged = pd.read_csv(path).set_index("step")["reconstruction_loss_validation"].dropna()
    assert logged.index.tolist() == list(undisturbed[1].validation)


def test_curves_go_to_a_logger(dataset, tmp_path):
    network = CellTransformer(ModelConfig(**SIZES), 30)
    curve = fit(
        network,
        dataset.loader(ShuffledRequests(np.arange(90), 8, seed=3)),
        dataset.loader(OrderedRequests(np.arange(90, 100), 8)),
        TrainConfig(max_epochs=2, batch_size=8),
        seed=0,
        accelerator="cpu",
        progress_bar=False,
        logger=make_loggers("csv", tmp_path),
    )
    (path,) = tmp_path.rglob("metrics.csv")
    table = pd.read_csv(path)
    logged = table.dropna(subset="train_loss").set_index("step")
    np.testing.assert_allclose(logged["train_loss"], list(curve.train.values()), rtol=1e-6)
    np.testing.assert_allclose(logged["learning_rate"], list(curve.lr.values()), rtol=1e-6)
    validation = table["reconstruction_loss_validation"].dropna()
    np.testing.assert_allclose(validation, list(curve.validation.values()), rtol=1e-6)
    with pytest.raises(ValueError, match="logger"):
        make_loggers("cvs", tmp_path)
