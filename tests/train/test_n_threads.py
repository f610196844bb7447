from __future__ import annotations

import logging
import time

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from lightning.pytorch import Callback

from scenc.data import ShuffledRequests, TokenDataset, Tokenizer, open_rows
from scenc.nn import CellTransformer, ModelConfig
from scenc.train import Checkpoints, MaskedExpressionPlan, TrainConfig, fit

SIZES = {"d_model": 16, "n_layers": 1, "n_heads": 2, "d_feedforward": 32, "expression_hidden": 16}
N_CELLS, N_GENES, BATCH = 96, 30, 4


class Machine:
    """Stands for one whose steps last as long as a test says: a busy one would tell otherwise."""

    def __init__(self):
        self.n_threads, self.now = 1, 0.0

    def set_num_threads(self, n_threads):
        self.n_threads = n_threads

    def plan(self, seconds):
        """Return a plan whose steps last so many seconds with each number of threads."""

        class Timed(MaskedExpressionPlan):
            def training_step(plan, batch, batch_idx):
                self.now += seconds[self.n_threads]
                return super().training_step(batch, batch_idx)

        return Timed


@pytest.fixture
def machine(monkeypatch):
    simulated = Machine()
    monkeypatch.setattr(torch, "get_num_threads", lambda: simulated.n_threads)
    monkeypatch.setattr(torch, "set_num_threads", simulated.set_num_threads)
    monkeypatch.setattr(time, "perf_counter", lambda: simulated.now)
    return simulated


class NumbersUsed(Callback):
    """Keeps the number of threads that each step was made with."""

    def __init__(self):
        self.steps = []

    def on_train_batch_end(self, *_):
        self.steps.append(torch.get_num_threads())


class Failure(Exception):
    pass


class FailAt(Callback):
    def __init__(self, step):
        self.step = step

    def on_train_batch_end(self, trainer, *_):
        if trainer.global_step == self.step:
            raise Failure


@pytest.fixture
def run(make_counts):
    def train(has=1, plan=MaskedExpressionPlan, callbacks=(), batch_size=BATCH, **settings):
        torch.manual_seed(0)
        network = CellTransformer(ModelConfig(**SIZES), N_GENES)
        rows = open_rows(sp.csr_matrix(make_counts(N_CELLS, N_GENES)))
        dataset = TokenDataset(rows, np.arange(N_GENES), Tokenizer(mask_fraction=0.5))
        used = NumbersUsed()
        torch.set_num_threads(has)
        fit(
            network,
            dataset.loader(ShuffledRequests(np.arange(N_CELLS), batch_size)),
            None,
            TrainConfig(max_epochs=2, batch_size=batch_size),
            seed=0,
            plan=plan,
            accelerator="cpu",
            # Before the checkpoints' failure, which ends the training.
            callbacks=[used, *callbacks],
            progress_bar=False,
            **settings,
        )
        assert torch.get_num_threads() == has  # restored
        return used.steps, network.state_dict()

    return train


@pytest.mark.parametrize(
    ("seconds", "chosen"),
    [
        # As where other processes keep some cores busy.
        ({4: 0.02, 2: 0.01, 1: 0.001}, 1),
        ({4: 0.02, 2: 0.001, 1: 0.02}, 2),
        # As where every thread has a core of its own.
        ({4: 0.001, 2: 0.02, 1: 0.04}, 4),
    ],
    ids=["one", "half", "all"],
)
def test_the_fastest_number_is_taken_and_logged(run, machine, caplog, seconds, chosen):
    caplog.set_level(logging.INFO, "scenc")
    steps, _ = run(4, machine.plan(seconds))
    # Half of them first: there is no reason to time one thread where two are slower than four.
    assert set(steps[:8]) == {4, 2}
    assert set(steps[16:]) == {chosen}
    assert f"Training with n_threads={chosen}: " in caplog.text


def test_numbers_take_turns(run, machine):
    """What else the machine does meets both alike."""
    steps, _ = run(2, machine.plan({2: 0.001, 1: 0.01}))
    assert steps[:7] == [2, 1, 2, 1, 2, 1, 2]


def test_equal_times_leave_cores_to_others(run, machine):
    steps, _ = run(2, machine.plan({2: 0.02, 1: 0.02}))
    assert set(steps[8:]) == {1}


def test_a_number_that_is_given_is_used_from_the_start(run):
    steps, weights = run(2, n_threads=1)
    assert set(steps) == {1}
    _, alone = run(1)
    for name, weight in alone.items():
        assert torch.equal(weights[name], weight), name


def test_the_number_changes_weights_by_rounding_only(run):
    _, one = run(2, n_threads=1, batch_size=32)
    _, two = run(2, n_threads=2, batch_size=32)
    for name, weight in one.items():
        torch.testing.assert_close(two[name], weight, rtol=1e-3, atol=1e-4)


def test_deterministic_keeps_the_number(run, machine):
    steps, _ = run(2, machine.plan({2: 0.01, 1: 0.001}), deterministic=True)
    assert set(steps) == {2}


def test_a_resumed_training_keeps_the_number(run, machine, tmp_path):
    fast = machine.plan({2: 0.02, 1: 0.001})
    with pytest.raises(Failure):
        run(2, fast, [FailAt(20)], checkpoints=Checkpoints(tmp_path, 1, {}))
    # Were the numbers timed again, two would win.
    slow = machine.plan({2: 0.001, 1: 0.02})
    steps, _ = run(2, slow, checkpoints=Checkpoints(tmp_path, 50, {}, resume=True))
    assert set(steps) == {1}


def test_checkpoints_without_a_number_are_gone_on_from(run, tmp_path):
    """Versions before this choice have written such ones."""
    with pytest.raises(Failure):
        run(1, callbacks=[FailAt(20)], checkpoints=Checkpoints(tmp_path, 1, {}))
    path = tmp_path / "last.ckpt"
    kept = torch.load(path, weights_only=True)
    del kept["callbacks"]["Threads"]
    torch.save(kept, path)
    steps, _ = run(1, checkpoints=Checkpoints(tmp_path, 50, {}, resume=True))
    assert len(steps) == 2 * N_CELLS // BATCH - 19


def test_no_threads_are_refused(run):
    with pytest.raises(ValueError, match="n_threads must be at least 1, got 0"):
        run(n_threads=0)
