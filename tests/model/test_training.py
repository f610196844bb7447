from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from lightning.pytorch import Callback

from scenc.model import Model
from scenc.train import NonFiniteLossError

VALIDATION = "reconstruction_loss_validation"


def curve(model, name=VALIDATION):
    return model.history[name][name]


class Modes(Callback):
    """Records whether all modules are in train mode at each batch."""

    def __init__(self):
        self.seen = []

    def on_train_batch_start(self, trainer, pl_module, *_):
        self.seen.append(all(module.training for module in pl_module.network.modules()))


class Poison(Callback):
    """Spoils a weight before a batch."""

    def __init__(self, batch):
        self.batch = batch

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        if batch_idx == self.batch:
            pl_module.network.mask_token.data.fill_(torch.nan)


class Spoil(Callback):
    """Moves all predictions far away before an epoch; small steps do not bring them back."""

    def __init__(self, epoch):
        self.epoch = epoch

    def on_train_epoch_start(self, trainer, pl_module):
        if trainer.current_epoch == self.epoch:
            pl_module.network.decoder[-1].bias.data.add_(50)


def test_equal_seeds_give_identical_weights(make_adata, make_model, train, weights_of, encoding):
    one, two, other = (
        weights_of(train(make_model(make_adata(), dropout=0.2, seed=seed, **encoding)))
        for seed in (1, 1, 2)
    )
    assert all(np.array_equal(one[name], two[name]) for name in one)
    assert not any(np.array_equal(one[name], other[name]) for name in one if one[name].ndim > 1)


@pytest.mark.slow
def test_worker_processes_do_not_change_the_weights(adata, make_model, train, weights_of):
    here = weights_of(train(make_model(adata)))
    there = weights_of(train(make_model(adata), num_workers=2))
    assert all(np.array_equal(here[name], there[name]) for name in here)


def test_history_holds_the_curves_by_step(adata, make_model, train):
    model = make_model(adata)
    assert model.history is None
    assert not model.is_trained
    train(model, max_epochs=3)
    assert model.is_trained
    # 108 cells to train on in batches of up to 32.
    assert list(curve(model, "train_loss").index) == list(range(12))
    assert list(curve(model, "learning_rate").index) == list(range(12))
    assert list(curve(model).index) == [3, 7, 11]
    assert all(np.isfinite(frame).all(axis=None) for frame in model.history.values())


def test_a_second_training_goes_on(adata, make_model, train, weights_of):
    model = train(make_model(adata, dropout=0.1))
    model.get_latent_representation()
    first, before = curve(model).copy(), weights_of(model)
    modes = Modes()
    train(model, max_epochs=1, callbacks=[modes])
    assert modes.seen == [True] * 4
    assert curve(model).iloc[:2].equals(first)
    assert list(curve(model).index) == [3, 7, 11]
    assert list(curve(model, "train_loss").index) == list(range(12))
    assert not any(np.array_equal(w, before[name]) for name, w in weights_of(model).items())


def test_training_goes_on_after_loading_as_without(adata, make_model, train, weights_of, tmp_path):
    model = train(make_model(adata, dropout=0.1))
    model.save(tmp_path / "model")
    loaded, modes = Model.load(tmp_path / "model", adata.copy()), Modes()
    train(loaded, callbacks=[modes])
    train(model)
    assert modes.seen == [True] * 8
    assert all(np.array_equal(w, weights_of(model)[name]) for name, w in weights_of(loaded).items())
    for name, frame in model.history.items():
        assert frame.equals(loaded.history[name])


def test_later_trainings_visit_cells_in_another_order(adata, make_model, train):
    model = train(make_model(adata), max_epochs=1, lr=0.0)
    train(model, max_epochs=1, lr=0.0)
    losses = curve(model, "train_loss")
    assert losses.iloc[0] != losses.iloc[4]
    assert curve(model).iloc[0] == curve(model).iloc[1]


def test_the_best_weights_are_in_place(adata, make_model, train):
    spoil = Spoil(epoch=2)
    model = train(make_model(adata), max_epochs=4, early_stopping=False, callbacks=[spoil])
    best = curve(model).min()
    assert (curve(model).iloc[2:] > 10 * best).all()
    held_out = model.validation_indices_
    errors = model.get_reconstruction_error(indices=held_out, seed=model.config.seed)
    tokens = np.minimum((adata.X[held_out] > 0).sum(axis=1).A1, model.config.context)
    weights = np.maximum(1, np.round(tokens * 0.5))
    assert np.average(errors, weights=weights) == pytest.approx(best, rel=1e-5)


def test_early_stopping_has_patience(adata, make_model, train):
    settings = {"max_epochs": 8, "lr": 0.0}
    assert len(curve(train(make_model(adata), patience=2, **settings))) == 3
    assert len(curve(train(make_model(adata), early_stopping=False, **settings))) == 8


@pytest.mark.parametrize(("validation", "test"), [(0.1, 0.0), (0.25, 0.25), (0.001, 0.001), (0, 0)])
def test_cells_are_split_once_and_for_all(adata, make_model, train, validation, test):
    settings = {"validation_size": validation, "test_size": test, "max_epochs": 1}
    model = train(make_model(adata), **settings)
    parts = [model.train_indices_, model.validation_indices_, model.test_indices_]
    assert sorted(np.concatenate(parts)) == list(range(120))
    for part, share in zip(parts[1:], (validation, test), strict=True):
        assert len(part) == (max(1, round(share * 120)) if share else 0)
    train(model, **settings)
    again = [model.train_indices_, model.validation_indices_, model.test_indices_]
    assert all(np.array_equal(a, b) for a, b in zip(parts, again, strict=True))


def test_validation_may_start_in_a_later_training(adata, make_model, train):
    model = train(make_model(adata), validation_size=0)
    assert len(curve(model)) == 0
    train(model, validation_size=0.1)
    assert len(curve(model)) == 2
    assert list(curve(model, "train_loss").index) == list(range(16))


def test_a_second_training_that_only_worsens_the_weights_leaves_them(
    adata, make_model, train, weights_of
):
    model = train(make_model(adata))
    before = weights_of(model)
    train(model, callbacks=[Spoil(epoch=0)])
    assert curve(model).iloc[2:].min() > curve(model).iloc[:2].min()
    assert len(curve(model)) == 4
    assert all(np.array_equal(w, before[name]) for name, w in weights_of(model).items())


def test_a_second_training_without_validations_of_its_own_keeps_its_last_weights(
    adata, make_model, train, weights_of
):
    model = train(make_model(adata))
    before = weights_of(model)
    train(model, validate_every=100)
    assert len(curve(model)) == 2
    assert not any(np.array_equal(w, before[name]) for name, w in weights_of(model).items())


def test_preset_settings_are_used_unless_overridden(adata, make_model, train):
    model = train(make_model(adata), weight_decay=0.5)
    assert model.train_config.weight_decay == 0.5
    assert model.train_config.lr == 1e-3
    assert model.train_config.batch_size == 32


def test_empty_cells_are_left_out_of_training(make_adata, make_counts, make_model, train):
    counts = make_counts()
    counts[[3, 77]] = 0
    model = train(make_model(make_adata(sp.csr_matrix(counts))))
    used = np.concatenate([model.train_indices_, model.validation_indices_])
    assert sorted(set(range(120)) - set(used)) == [3, 77]


# scvi-tools says so of labels with few cells; these tests are of few cells.
few_cells = pytest.mark.filterwarnings("ignore:Category . in adata.obs.* has fewer than 3 cells")


@few_cells
@pytest.mark.parametrize(
    "counts", [np.ones((1, 60)), np.eye(4, 60) * [[0], [0], [1], [0]]], ids=["one", "one filled"]
)
def test_one_cell_is_too_few_to_train_on(make_adata, make_model, train, counts):
    model = make_model(make_adata(sp.csr_matrix(counts.astype("f4"))))
    with pytest.raises(ValueError, match="at least 2 cells with counts, the data have 1"):
        train(model)
    assert not model.is_trained


@few_cells
def test_two_cells_are_enough(make_adata, make_counts, make_model, train):
    model = train(make_model(make_adata(sp.csr_matrix(make_counts(2, 60)))), max_epochs=1)
    assert np.isfinite(model.get_latent_representation()).all()


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"learning_rate": 1e-3}, TypeError, "Unknown training argument 'learning_rate'"),
        ({"acumulate_grad_batches": 2}, TypeError, "Did you mean 'accumulate_grad_batches'"),
        ({"max_epoch": 2}, TypeError, "Did you mean 'max_epochs'"),
        ({"plan_kwargs": {}}, TypeError, "plan_kwargs"),
        ({"max_epochs": 0}, ValueError, "max_epochs"),
        ({"batch_size": 0}, ValueError, "batch_size"),
        ({"lr": -1}, ValueError, "lr"),
        ({"mask_fraction": 0}, ValueError, "mask_fraction"),
        ({"precision": "half"}, ValueError, "half"),
    ],
)
def test_bad_arguments_are_refused_before_training(adata, make_model, arguments, error, message):
    model = make_model(adata)
    with pytest.raises(error, match=message):
        model.train(**arguments)
    assert not model.is_trained


@pytest.mark.parametrize("already_trained", [False, True])
def test_a_loss_that_is_not_finite_leaves_good_weights(
    adata, make_model, train, weights_of, already_trained
):
    model = make_model(adata)
    first_step = 0
    if already_trained:
        train(model, max_epochs=1)
        first_step = 4
    before = weights_of(model)
    with pytest.raises(NonFiniteLossError) as caught:
        train(model, callbacks=[Poison(batch=2)])
    assert caught.value.step == first_step + 2
    assert all(np.array_equal(w, before[name]) for name, w in weights_of(model).items())
    assert model.is_trained == already_trained
    train(model, max_epochs=1)
    assert np.isfinite(model.get_latent_representation()).all()


def test_mixed_precision_on_the_cpu(adata, make_model, train):
    model = train(make_model(adata, gene_encoder="protein"), precision="bf16-mixed")
    assert np.isfinite(curve(model)).all()
    assert model.get_latent_representation().dtype == np.float32


def test_training_prints_nothing_but_its_bar(adata, make_model, capfd, recwarn):
    make_model(adata).train(max_epochs=1, accelerator="cpu")
    out, err = capfd.readouterr()
    assert out == ""
    assert all(line.lstrip().startswith("Training:") for line in err.split("\r") if line.strip())
    assert not recwarn.list


def test_cell_visits_asked_for_decide_how_many_epochs(adata, make_model):
    """The preset goes by epochs under this objective."""
    model = make_model(adata)
    visits = 4 * adata.n_obs
    model.train(
        cell_visits=visits, validation_size=0.0, accelerator="cpu",
        enable_progress_bar=False,
    )  # fmt: skip
    assert model.train_config.max_epochs == 4
