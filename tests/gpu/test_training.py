from __future__ import annotations

import os

import anndata
import numpy as np
import pytest
import torch
from lightning.pytorch import Callback

from scenc.data import CellFiles
from scenc.model import Model
from scenc.train import NonFiniteGradientError, NonFiniteLossError

# All at once: one line of skips, not one for each test.
if not torch.cuda.is_available() and "SCENC_GPU_TESTS_ON" not in os.environ:
    pytest.skip("needs a CUDA device", allow_module_level=True)

OBJECTIVES = {
    "masked": {"objective": "masked"},
    **{
        objective: {
            "objective": objective,
            "pooling": "expression",
            "gene_init": "spectral",
            "residual_init": "zero",
        }
        for objective in ("contrastive", "generative")
    },
}
VIEWS = {"view_genes": 15, "n_neighbors": 5}


class AtStep(Callback):
    """Does something to the network before an optimizer step, counted in this training."""

    def __init__(self, step, action):
        self.step, self.action = step, action

    def on_train_batch_start(self, trainer, pl_module, *_):
        if trainer.global_step == self.step:
            self.action(pl_module.network)


class Failure(Exception):
    """What ends a training before its time."""


def fail(_):
    raise Failure


def poison(network):
    torch.nn.init.constant_(network.mask_token, torch.nan)


def spoil_gradients(network):
    network.mask_token.register_hook(lambda gradient: gradient * torch.nan)


def embed(model, device):
    """Embed the model's cells on a device."""
    model.to_device(device)
    return model.get_latent_representation(key_added=None)


def weights(model):
    return {name: weight.detach().cpu() for name, weight in model.module.state_dict().items()}


def same(one, other):
    return all(torch.equal(weight, other[name]) for name, weight in one.items())


def assert_close(found, expected, share):
    """Compare by the norm of each cell's embedding."""
    apart = np.linalg.norm(found - expected, axis=1)
    assert (apart <= share * np.linalg.norm(expected, axis=1)).all(), apart.max()


def curve(model, name="reconstruction_loss_validation"):
    return model.history[name][name]


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_every_encoding_trains_and_embeds_as_on_a_cpu(
    gpu, adata, make_model, train, encoding, objective
):
    setup = {"batch_key": "batch"}
    model = make_model(adata, setup, dropout=0.1, **OBJECTIVES[objective], **encoding)
    views = VIEWS if objective != "masked" else {}
    train(model, accelerator=gpu, max_epochs=8, lr=5e-3, **views)
    assert model.module.device.type == gpu
    losses = curve(model, "train_loss").to_numpy()
    assert np.isfinite(losses).all()
    assert losses[-8:].mean() < losses[:8].mean()
    there = model.get_latent_representation(key_added=None)
    assert np.isfinite(there).all()
    assert_close(there, embed(model, "cpu"), 1e-3)


@pytest.mark.parametrize("precision", ["32-true", "tf32", "16-mixed", "bf16-mixed"])
@pytest.mark.parametrize("objective", OBJECTIVES)
def test_every_precision_trains_as_full_precision_on_a_cpu(
    gpu, adata, make_model, train, objective, precision
):
    views = VIEWS if objective != "masked" else {}
    setup, settings = {"batch_key": "batch"}, {**OBJECTIVES[objective], "dropout": 0.0}
    expected = train(make_model(adata, setup, **settings), **views)
    model = make_model(adata, setup, **settings)
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high" if precision == "tf32" else "highest")
    if gpu == "cpu" and precision == "16-mixed":
        precision = "bf16-mixed"  # Lightning has no other on CPUs
    precision = "32-true" if precision == "tf32" else precision
    try:
        train(model, accelerator=gpu, precision=precision, **views)
    finally:
        torch.set_float32_matmul_precision(before)
    for name in ("train_loss", "reconstruction_loss_validation"):
        np.testing.assert_allclose(curve(model, name), curve(expected, name), rtol=0.05)
    assert {weight.dtype for weight in model.module.parameters()} == {torch.float32}


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_compiled_blocks_train_as_others_do(cuda, adata, make_model, train, objective):
    views = VIEWS if objective != "masked" else {}
    plain, compiled = (
        train(
            make_model(adata, {"batch_key": "batch"}, dropout=0.0, **OBJECTIVES[objective]),
            accelerator=cuda,
            compile_blocks=compile_blocks,
            **views,
        )
        for compile_blocks in (False, True)
    )
    for name in ("train_loss", "reconstruction_loss_validation"):
        np.testing.assert_allclose(curve(compiled, name), curve(plain, name), rtol=0.02)
    assert not compiled.module.transformer.compile_blocks


def test_a_model_saved_on_a_gpu_loads_on_a_cpu_and_back(gpu, adata, make_model, train, tmp_path):
    model = train(make_model(adata), accelerator=gpu)
    model.save(tmp_path / "model")
    there = model.get_latent_representation(key_added=None)
    loaded = Model.load(tmp_path / "model", adata)
    assert loaded.module.device.type == "cpu"
    assert same(weights(loaded), weights(model))
    assert_close(loaded.get_latent_representation(key_added=None), there, 1e-3)
    assert_close(embed(loaded, gpu), there, 1e-5)
    train(loaded, accelerator=gpu)
    assert loaded.module.device.type == gpu
    assert len(curve(loaded)) == 4
    train(loaded, accelerator="cpu")
    assert loaded.module.device.type == "cpu"
    assert len(curve(loaded)) == 6


def test_equal_seeds_give_equal_weights_with_deterministic_algorithms(
    gpu, adata, make_model, train
):
    one, two, other = (
        train(make_model(adata, dropout=0.2, seed=seed), accelerator=gpu, deterministic=True)
        for seed in (1, 1, 2)
    )
    assert same(weights(one), weights(two))
    assert not same(weights(one), weights(other))


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_deterministic_algorithms_know_every_operation(
    gpu, adata, make_model, train, encoding, objective
):
    """PyTorch refuses those that it cannot repeat."""
    model = make_model(adata, {"batch_key": "batch"}, **OBJECTIVES[objective], **encoding)
    views = VIEWS if objective != "masked" else {}
    train(model, accelerator=gpu, max_epochs=1, deterministic=True, **views)
    assert np.isfinite(curve(model)).all()


def test_a_training_that_was_broken_off_goes_on_to_the_bit(gpu, adata, make_model, train, tmp_path):
    settings = {"accelerator": gpu, "max_epochs": 3, "deterministic": True}
    whole = train(make_model(adata, dropout=0.2), **settings)
    where = {"checkpoint_dir": tmp_path, "checkpoint_every": 1}
    with pytest.raises(Failure):
        train(make_model(adata, dropout=0.2), callbacks=[AtStep(6, fail)], **where, **settings)
    resumed = train(make_model(adata, dropout=0.2), resume=True, **where, **settings)
    assert same(weights(resumed), weights(whole))
    for name in whole.history:
        np.testing.assert_array_equal(curve(resumed, name), curve(whole, name))


def test_the_random_state_of_the_session_is_left_alone(gpu, adata, make_model, train):
    states = [torch.get_rng_state()]
    if gpu == "cuda":
        torch.cuda.manual_seed(5)
        states.append(torch.cuda.get_rng_state())
    train(make_model(adata, dropout=0.2), accelerator=gpu)
    assert torch.equal(torch.get_rng_state(), states[0])
    if gpu == "cuda":
        assert torch.equal(torch.cuda.get_rng_state(), states[1])


def test_a_loss_that_is_not_finite_stops_training_at_its_step(gpu, adata, make_model, train):
    model = train(make_model(adata), accelerator=gpu)
    before = weights(model)
    with pytest.raises(NonFiniteLossError) as caught:
        train(model, accelerator=gpu, max_epochs=4, callbacks=[AtStep(2, poison)])
    assert caught.value.step == 10
    assert model.module.device.type == gpu
    assert same(weights(model), before)


def test_a_loss_found_not_finite_at_a_checkpoint_is_reported_as_that(
    gpu, adata, make_model, train, tmp_path
):
    with pytest.raises(NonFiniteLossError) as caught:
        train(
            make_model(adata),
            accelerator=gpu,
            callbacks=[AtStep(4, poison)],
            validation_size=0.0,
            checkpoint_dir=tmp_path,
            checkpoint_every=3,
        )
    assert caught.value.step == 4
    kept = torch.load(tmp_path / "last.ckpt", weights_only=True, map_location="cpu")
    assert kept["global_step"] == 3


def test_skipped_steps_of_fp16_end_training_if_they_do_not_end(cuda, adata, make_model, train):
    model = make_model(adata)
    with pytest.raises(NonFiniteGradientError, match="bf16-mixed"):
        train(
            model,
            accelerator=cuda,
            precision="16-mixed",
            max_epochs=20,
            validation_size=0.0,
            callbacks=[AtStep(0, spoil_gradients)],
        )
    assert not model.is_trained


def test_files_are_streamed_to_the_device(gpu, atlas, train, tmp_path):
    cells = CellFiles(atlas[0], batch_size=16, buffer_size=64, progress=False, batch_key="donor")
    sizes = {"d_model": 16, "n_layers": 1, "n_heads": 2, "d_feedforward": 32}
    model = Model(datamodule=cells, objective="masked", context=20, **sizes)
    train(model, accelerator=gpu)
    assert model.module.device.type == gpu
    (there,) = model.embed_files(atlas[0][:1], tmp_path / "there", progress=False)
    model.to_device("cpu")
    (here,) = model.embed_files(atlas[0][:1], tmp_path / "here", progress=False)
    found, expected = (anndata.read_h5ad(path).obsm["X_scenc"] for path in (there, here))
    assert_close(found, expected, 1e-3)
