from __future__ import annotations

import os
import signal
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
import torch
from lightning.pytorch import Callback
from lightning.pytorch.loggers import CSVLogger
from lightning.pytorch.plugins import MixedPrecision
from lightning.pytorch.strategies import SingleDeviceStrategy

from scenc.data import OrderedRequests, ShuffledRequests, TokenDataset, Tokenizer, open_rows
from scenc.nn import CellTransformer, ModelConfig
from scenc.train import NonFiniteGradientError, NonFiniteLossError, TrainConfig, fit, warmup_cosine
from scenc.train._run import _resolve_precision

N_GENES, N_TRAIN, N_VALIDATION = 30, 48, 16
SIZES = {"d_model": 16, "n_layers": 1, "n_heads": 2, "d_feedforward": 32, "expression_hidden": 16}


class Task:
    """A network with batches to train and to validate on."""

    def __init__(self, counts, *, mask_fraction=0.5, context=None, **settings):
        torch.manual_seed(0)
        self.network = CellTransformer(ModelConfig(**{**SIZES, **settings}), N_GENES)
        tokenizer = Tokenizer(context=context, mask_fraction=mask_fraction)
        rows = open_rows(sp.csr_matrix(counts))
        self.dataset = TokenDataset(rows, np.arange(N_GENES), tokenizer)
        self.held_out = OrderedRequests(np.arange(N_TRAIN, N_TRAIN + N_VALIDATION), 6)

    def requests(self, batch_size):
        return ShuffledRequests(np.arange(N_TRAIN), batch_size)

    def run(self, *, validate=True, batch_size=8, seed=0, callbacks=(), **settings):
        chosen = {"max_epochs": 2, "warmup_steps": 0, "batch_size": batch_size}
        how = {
            name: settings.pop(name)
            for name in (
                "first_step",
                "precision",
                "early_stopping",
                "strategy",
                "logger",
                "deterministic",
            )
            if name in settings
        }
        return fit(
            self.network,
            self.dataset.loader(self.requests(batch_size)),
            self.dataset.loader(self.held_out) if validate else None,
            TrainConfig(**{**chosen, **settings}),
            seed=seed,
            accelerator="cpu",
            callbacks=callbacks,
            progress_bar=False,
            **how,
        )

    @torch.no_grad()
    def validation_loss(self):
        errors = n_masked = 0.0
        for batch in self.dataset.loader(self.held_out):
            of_cells, numbers = self.network.squared_errors(batch)
            errors += float(of_cells.sum())
            n_masked += float(numbers.sum())
        return errors / n_masked

    def weights(self):
        return {n: w.detach().clone() for n, w in self.network.named_parameters()}


@pytest.fixture
def make_task(make_counts):
    def make(counts=None, **settings):
        if counts is None:
            counts = make_counts(N_TRAIN + N_VALIDATION, N_GENES)
        return Task(counts, **settings)

    return make


@pytest.fixture
def task(make_task):
    return make_task()


@pytest.fixture
def even_counts():
    """Every cell expresses every gene: all cells have equally many tokens."""
    rng = np.random.default_rng(0)
    return 1 + rng.poisson(2.0, (N_TRAIN + N_VALIDATION, N_GENES)).astype(np.float32)


class Recorder(Callback):
    """Keeps what an optimizer step was made with."""

    def __init__(self):
        self.lr, self.norms, self.modes, self.optimizer = [], [], [], None

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        modules = pl_module.network.modules()
        self.modes.append(all(module.training for module in modules))

    def on_before_optimizer_step(self, trainer, pl_module, optimizer):
        self.optimizer = optimizer.optimizer if hasattr(optimizer, "optimizer") else optimizer
        self.lr.append(self.optimizer.param_groups[0]["lr"])

    def on_train_batch_end(self, trainer, pl_module, *_):
        grads = [w.grad for w in pl_module.network.parameters() if w.grad is not None]
        self.norms.append(float(torch.stack([g.norm() for g in grads]).norm()))


class AtBatch(Callback):
    """Does something before one batch."""

    def __init__(self, number, action):
        self.number, self.action, self.seen = number, action, 0

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        if self.seen == self.number:
            self.action(pl_module.network)
        self.seen += 1


def poison(network):
    with torch.no_grad():
        network.mask_token.fill_(torch.nan)


def interrupt(_):
    signal.raise_signal(signal.SIGINT)


def same(one, other):
    return all(torch.equal(one[name], other[name]) for name in one)


def test_training_lowers_the_loss_and_records_every_step(task):
    before = task.validation_loss()
    curve = task.run(max_epochs=4, lr=1e-2, first_step=100)
    assert curve.n_steps == 24
    assert list(curve.train) == list(curve.lr) == list(range(100, 124))
    assert list(curve.validation) == [105, 111, 117, 123]
    assert task.validation_loss() < 0.5 * before
    assert not task.network.training


def test_the_loss_is_the_mean_over_a_batchs_masked_tokens(task):
    batch = next(iter(task.dataset.loader(task.requests(8))))
    with torch.no_grad():
        predicted = task.network.reconstruct(batch)[batch.masked]
    expected = (predicted - batch.targets()[batch.masked]).square().mean()
    assert task.run().train[0] == pytest.approx(float(expected), rel=1e-5)


def test_learning_rate_follows_the_schedule(task):
    recorder = Recorder()
    settings = {"lr": 2e-3, "warmup_steps": 4, "max_warmup_share": 1.0, "min_lr_ratio": 0.1}
    curve = task.run(callbacks=[recorder], max_epochs=3, **settings)
    expected = [2e-3 * warmup_cosine(s, warmup=4, total=18, floor=0.1) for s in range(18)]
    assert recorder.lr == pytest.approx(expected)
    assert list(curve.lr.values()) == pytest.approx(expected)


def test_a_short_training_gets_a_short_warmup(task, caplog):
    caplog.set_level("INFO", "scenc")
    curve = task.run(max_epochs=5, lr=1.0e-3, warmup_steps=2000)
    assert list(curve.lr.values())[:3] == pytest.approx([1e-3 / 3, 2e-3 / 3, 1e-3])
    assert "Warm-up cut from 2000 to 3 of 30 steps" in caplog.text


def test_optimizer_is_adamw_that_spares_biases_norms_and_vectors(task):
    recorder = Recorder()
    task.run(callbacks=[recorder], lr=1e-3, weight_decay=0.01, betas=(0.8, 0.9))
    assert type(recorder.optimizer) is torch.optim.AdamW
    decayed, spared = recorder.optimizer.param_groups
    assert (decayed["weight_decay"], spared["weight_decay"]) == (0.01, 0.0)
    assert decayed["betas"] == spared["betas"] == (0.8, 0.9)
    names = {id(w): name for name, w in task.network.named_parameters()}
    grouped = [{names[id(w)] for w in group["params"]} for group in (decayed, spared)]
    assert grouped[0] | grouped[1] == set(names.values())
    assert not grouped[0] & grouped[1]
    assert grouped[1] == {
        name for name in names.values() if "norm" in name or "bias" in name or "mask" in name
    }


def test_gradients_are_clipped(make_task):
    free, clipped, strict = Recorder(), Recorder(), Recorder()
    for recorder, clip in ((free, 0), (clipped, 1.0), (strict, 1e-3)):
        make_task().run(callbacks=[recorder], gradient_clip=clip)
    assert max(free.norms) > 1.5
    assert max(clipped.norms) == pytest.approx(1.0, rel=1e-3)
    assert strict.norms == pytest.approx([1e-3] * 12, rel=1e-2)


def test_accumulated_batches_equal_a_large_one(make_task, even_counts):
    # All tokens masked and all cells alike in length: nothing is left to chance.
    large, small = (make_task(even_counts, mask_fraction=1.0) for _ in range(2))
    whole = large.run(batch_size=24)
    parts = small.run(batch_size=8, accumulate_grad_batches=3)
    assert whole.n_steps == parts.n_steps == 4
    assert list(parts.train) == list(whole.train)
    assert list(parts.train.values()) == pytest.approx(list(whole.train.values()), rel=1e-4)
    assert list(parts.validation.values()) == pytest.approx(
        list(whole.validation.values()), rel=1e-4
    )
    for name, weight in small.weights().items():
        torch.testing.assert_close(weight, large.weights()[name], rtol=1e-3, atol=1e-4)


def test_equal_seeds_give_equal_weights_with_dropout(make_task):
    first, again, other = (make_task(dropout=0.3) for _ in range(3))
    for task, seed in ((first, 1), (again, 1), (other, 2)):
        torch.rand(3)
        task.run(seed=seed)
    assert same(first.weights(), again.weights())
    assert not same(first.weights(), other.weights())


def test_the_random_state_of_the_session_is_left_alone(task):
    torch.manual_seed(5)
    np.random.seed(5)  # noqa: NPY002
    before = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    task.run()
    assert torch.equal(torch.get_rng_state(), before[0])
    np.testing.assert_array_equal(np.random.get_state()[1], before[1])  # noqa: NPY002


def test_every_batch_is_trained_on_in_train_mode(task):
    for _ in range(2):
        recorder = Recorder()
        task.run(callbacks=[recorder])
        assert recorder.modes == [True] * 12


def test_the_weights_of_the_best_validation_are_restored(task):
    spoil = AtBatch(15, lambda network: network.decoder[-1].bias.data.add_(50))
    curve = task.run(max_epochs=3, early_stopping=False, callbacks=[spoil])
    losses = list(curve.validation.values())
    assert min(losses) < losses[-1]
    assert task.validation_loss() == pytest.approx(min(losses), rel=1e-5)


def test_without_validation_the_last_weights_stay(task):
    last = {}
    keep = AtBatch(11, lambda network: last.update(n=network.mask_token.detach().clone()))
    curve = task.run(validate=False, callbacks=[keep])
    assert curve.validation == {}
    assert curve.n_steps == 12
    assert not torch.equal(task.network.mask_token, last["n"])


@pytest.mark.parametrize(("early_stopping", "n_epochs"), [(True, 4), (False, 9)])
def test_early_stopping_waits_for_the_patience(task, early_stopping, n_epochs):
    curve = task.run(max_epochs=9, lr=0.0, patience=3, early_stopping=early_stopping)
    assert len(curve.validation) == n_epochs


@pytest.mark.parametrize("accumulate", [1, 2])
def test_validation_may_go_by_optimizer_steps(task, accumulate):
    curve = task.run(
        max_epochs=4, validate_every=3, accumulate_grad_batches=accumulate, early_stopping=False
    )
    assert curve.n_steps == 24 // accumulate
    assert list(curve.validation) == list(range(2, 24 // accumulate, 3))


@pytest.mark.parametrize("accumulate", [1, 2])
def test_a_loss_that_is_not_finite_stops_training_at_its_step(task, accumulate):
    initial = task.weights()
    with pytest.raises(NonFiniteLossError, match="not finite at step 53") as caught:
        task.run(
            callbacks=[AtBatch(3 * accumulate, poison)],
            accumulate_grad_batches=accumulate,
            batch_size=8 // accumulate,
            first_step=50,
        )
    assert caught.value.step == 53
    # Nothing was validated yet: the last good weights are those from the start.
    assert same(task.weights(), initial)
    assert not task.network.training


def test_after_a_failure_the_best_weights_so_far_are_in_place(task):
    validated = {}
    keep = AtBatch(6, lambda network: validated.update(task.weights()))
    with pytest.raises(NonFiniteLossError) as caught:
        task.run(callbacks=[keep, AtBatch(8, poison)])
    assert caught.value.step == 8
    assert same(task.weights(), validated)


def test_an_exploding_training_is_stopped(task):
    with pytest.raises(NonFiniteLossError) as caught:
        task.run(lr=1e30, max_epochs=3)
    assert 0 < caught.value.step < 18
    assert all(weight.isfinite().all() for weight in task.weights().values())


def interrupt_at_once(*_):
    raise KeyboardInterrupt


@pytest.fixture(params=[signal.default_int_handler, interrupt_at_once])
def handler(request):
    """A session's own way to take an interrupt."""
    previous = signal.signal(signal.SIGINT, request.param)
    yield request.param
    signal.signal(signal.SIGINT, previous)


def test_an_interrupt_ends_training_but_not_the_session(task, handler):
    validated = {}
    keep = AtBatch(6, lambda network: validated.update(task.weights()))
    with pytest.warns(UserWarning, match="interrupted"):
        curve = task.run(callbacks=[keep, AtBatch(9, interrupt)])
    assert signal.getsignal(signal.SIGINT) is handler
    assert curve.n_steps == len(curve.train) == 9
    assert same(task.weights(), validated)
    assert not task.network.training


@pytest.mark.usefixtures("handler")
def test_an_interrupt_before_any_validation_keeps_the_last_weights(task):
    last = {}
    keep = AtBatch(4, lambda network: last.update(task.weights()))
    with pytest.warns(UserWarning, match="interrupted"):
        task.run(callbacks=[keep, AtBatch(4, interrupt)])
    assert same(task.weights(), last)


def test_a_callback_may_still_leave_the_process(task):
    def leave(_):
        raise SystemExit(3)

    with pytest.raises(SystemExit) as caught:
        task.run(callbacks=[AtBatch(1, leave)])
    assert caught.value.code == 3


def test_half_precision_runs_on_the_cpu(make_task):
    full, half = make_task(), make_task()
    curve, other = full.run(lr=1e-2), half.run(lr=1e-2, precision="bf16-mixed")
    assert {weight.dtype for weight in half.weights().values()} == {torch.float32}
    assert list(other.train.values()) == pytest.approx(list(curve.train.values()), rel=0.05)
    assert other.train != curve.train


def half_strategy():
    """FP16 with a scaled loss, which Lightning has on GPUs only; PyTorch has it on CPUs, too."""
    return SingleDeviceStrategy("cpu", precision_plugin=MixedPrecision("16-mixed", "cpu"))


def test_skipped_steps_of_fp16_end_training_if_they_do_not_end(task, tmp_path):
    initial = task.weights()
    spoil = AtBatch(0, lambda network: network.mask_token.register_hook(lambda g: g * torch.nan))
    logger = CSVLogger(tmp_path)
    with pytest.raises(NonFiniteGradientError, match=r"step 29.*6\.1e-05.*bf16-mixed") as caught:
        task.run(max_epochs=9, strategy=half_strategy(), callbacks=[spoil], logger=logger)
    assert isinstance(caught.value, NonFiniteLossError)
    assert (caught.value.step, caught.value.scale) == (29, 2.0**-14)
    assert len(caught.value.curve.train) == 30
    assert same(task.weights(), initial)
    (path,) = tmp_path.rglob("metrics.csv")
    scales = pd.read_csv(path).set_index("step")["loss_scale"].dropna()
    assert scales.to_dict() == {step: 2.0 ** (15 - step) for step in range(30)}


def test_fp16_goes_on_after_a_skipped_step(task):
    def spoil_once(network):
        handle = network.mask_token.register_hook(lambda g: (handle.remove(), g * torch.nan)[1])

    full = CellTransformer(task.network.config, N_GENES)
    full.load_state_dict(task.network.state_dict())
    curve = task.run(strategy=half_strategy(), callbacks=[AtBatch(0, spoil_once)])
    assert curve.n_steps == 12
    assert all(np.isfinite(list(curve.train.values())))
    task.network = full
    assert list(curve.validation.values()) == pytest.approx(
        list(task.run().validation.values()), rel=0.1
    )


@pytest.mark.parametrize(
    ("precision", "accelerator", "cuda", "resolved"),
    [
        ("auto", "auto", True, "16-mixed"),
        ("auto", "gpu", True, "16-mixed"),
        ("auto", "cuda", True, "16-mixed"),
        ("auto", "cpu", True, "32-true"),
        ("auto", "auto", False, "32-true"),
        ("bf16-mixed", "auto", True, "bf16-mixed"),
        ("32-true", "auto", True, "32-true"),
    ],
)
def test_automatic_precision(monkeypatch, precision, accelerator, cuda, resolved):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    assert _resolve_precision(precision, accelerator) == resolved


def test_the_network_goes_back_to_the_device_it_was_trained_on(task):
    class MovedAway(SingleDeviceStrategy):
        """Stands for a GPU: where the network is after the training is not where this was."""

        def teardown(self):
            super().teardown()
            self._root_device = torch.device("meta")

    assert task.run(strategy=MovedAway(device="cpu")).n_steps == 12
    assert task.network.device.type == "meta"


@pytest.mark.parametrize("enabled", [True, False])
def test_cudnn_attention_is_off_while_training_only(task, enabled):
    seen = []
    note = AtBatch(3, lambda _: seen.append(torch.backends.cuda.cudnn_sdp_enabled()))
    before = torch.backends.cuda.cudnn_sdp_enabled()
    torch.backends.cuda.enable_cudnn_sdp(enabled)
    try:
        with pytest.raises(NonFiniteLossError):
            task.run(callbacks=[note, AtBatch(5, poison)])
        assert torch.backends.cuda.cudnn_sdp_enabled() == enabled
    finally:
        torch.backends.cuda.enable_cudnn_sdp(before)
    assert seen == [False]


@pytest.mark.parametrize("deterministic", [True, False])
def test_deterministic_algorithms_hold_while_training_only(task, deterministic, monkeypatch):
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":16:8")
    seen = []
    note = AtBatch(3, lambda _: seen.append(torch.are_deterministic_algorithms_enabled()))
    before = task.weights()
    task.run(callbacks=[note], deterministic=deterministic)
    assert seen == [deterministic]
    assert not torch.are_deterministic_algorithms_enabled()
    assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":16:8"
    assert not same(task.weights(), before)


def test_progress_is_shown_by_step(task, capfd):
    fit(
        task.network,
        task.dataset.loader(task.requests(8)),
        task.dataset.loader(task.held_out),
        TrainConfig(max_epochs=2),
        seed=0,
        accelerator="cpu",
    )
    shown = capfd.readouterr().err
    assert "12/12" in shown
    assert "validation=" in shown
    assert "epoch=2" in shown


def test_a_training_in_one_process_hears_nothing_of_srun(task, tmp_path, monkeypatch):
    (tmp_path / "srun").touch(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    assert task.run(max_epochs=1).n_steps == 6


def test_losses_fall_on_average(task):
    losses = list(task.run(max_epochs=6, lr=5e-3).train.values())
    means = [np.mean(losses[i : i + 12]) for i in range(0, 36, 12)]
    assert all(later < earlier for earlier, later in pairwise(means))
