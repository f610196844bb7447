"""Batches that fit into a GPU: what autograd keeps is counted on fake CUDA tensors."""

from __future__ import annotations

import logging

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from scenc.data import Tokenizer
from scenc.model import _memory
from scenc.model._memory import fit_batch, gpu_memory, training_bytes
from scenc.model._presets import get_preset
from scenc.nn import CellTransformer, ModelConfig
from scenc.train import TrainConfig

N_GENES = 2000
GB = 10**9


def preset(name, objective="masked", **changes):
    chosen = get_preset(name, objective)
    with torch.device("meta"):
        network = CellTransformer(ModelConfig(**chosen.model), N_GENES)
    return network, TrainConfig(**{**chosen.train, **changes})


def kept(n_cells, settings, config, precision):
    """Return the bytes that autograd keeps of so many full cells, weights aside."""
    counts = sp.csr_matrix(np.ones((n_cells, N_GENES), np.float32))
    tokenizer = Tokenizer(context=settings.context, mask_fraction=0.5)
    batch = tokenizer(counts, np.arange(n_cells), np.arange(N_GENES))
    storages = {}

    def keep(tensor):
        storage = tensor.untyped_storage()
        storages[storage._cdata] = storage.nbytes()
        return tensor

    network = CellTransformer(settings, N_GENES).train()
    with FakeTensorMode(allow_non_fake_inputs=True):
        network = network.to("cuda")
        network.transformer.checkpoint_blocks = config.checkpoint_blocks
        batch = batch.to("cuda")
        with (
            torch.autocast("cuda", torch.float16, enabled=precision == "16-mixed"),
            torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor),
        ):
            errors, _ = network.squared_errors(batch)
            errors.sum()
    return sum(storages.values())


@pytest.mark.parametrize("precision", ["16-mixed", "32-true"])
@pytest.mark.parametrize("dropout", [0.0, 0.1])
@pytest.mark.parametrize("name", ["base", "paper"])
def test_the_estimate_is_what_autograd_keeps(monkeypatch, name, dropout, precision):
    # Without a CUDA device autocast would switch itself off; fake tensors need none.
    monkeypatch.setattr(torch.cuda.amp.common, "amp_definitely_not_available", lambda: False)
    # Nor can attention's kernel be chosen: by an old device's generation it is not flash attention.
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (7, 5))
    settings = ModelConfig(**{**get_preset(name, "masked").model, "dropout": dropout})
    config = TrainConfig()
    four, eight = (kept(n, settings, config, precision) for n in (4, 8))
    with torch.device("meta"):
        network = CellTransformer(settings, N_GENES)
    estimated = [
        training_bytes(network, config, N_GENES, mixed=precision == "16-mixed", batch_size=n)
        for n in (4, 8)
    ]
    # Of four cells more, so that weights do not matter.
    assert estimated[1] - estimated[0] == pytest.approx(eight - four, rel=0.1)


@pytest.mark.parametrize(
    ("memory", "size"), [(150, 512), (80, 256), (40, 128), (24, 64), (16, 32), (11, 32), (8, 16)]
)
def test_preset_papers_batches_fit_and_make_a_step_of_16384_cells(memory, size, caplog):
    network, config = preset("paper")
    with caplog.at_level(logging.INFO, "scenc"):
        fitted = fit_batch(network, config, N_GENES, mixed=True, memory=memory * GB, may_cut=True)
    assert fitted.batch_size == size
    assert fitted.batch_size * fitted.accumulate_grad_batches == 16_384
    used = training_bytes(network, fitted, N_GENES, mixed=True, batch_size=size)
    assert used <= 0.8 * memory * GB
    if size < 512:
        twice = training_bytes(network, fitted, N_GENES, mixed=True, batch_size=2 * size)
        assert twice > 0.8 * memory * GB
        assert f"batches of {size} are taken" in caplog.text
        assert "16384 cells a step" in caplog.text
    else:
        assert fitted == config
        assert not caplog.text


def test_checkpointed_blocks_take_a_fraction_of_the_memory():
    network, config = preset("paper", checkpoint_blocks=True)
    little = training_bytes(network, config, N_GENES, mixed=True, batch_size=512)
    _, config = preset("paper")
    much = training_bytes(network, config, N_GENES, mixed=True, batch_size=512)
    assert 90 * GB < much < 120 * GB
    assert little < much / 3


@pytest.mark.parametrize(
    ("objective", "memory", "may_cut"),
    [("masked", 40, False), ("masked", 0.1, True), ("contrastive", 1, True)],
    ids=["a size that was asked for", "not one cell fits", "contrastive"],
)
def test_what_cannot_be_cut_is_left_with_a_warning(objective, memory, may_cut, caplog):
    network, config = preset("paper", objective)
    fitted = fit_batch(
        network, config, N_GENES, mixed=True, memory=int(memory * GB), may_cut=may_cut
    )
    assert fitted == config
    assert "checkpoint_blocks=True" in caplog.text


def test_only_cuda_devices_are_looked_at(monkeypatch):
    assert gpu_memory("cpu", "auto") is None
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert gpu_memory("cpu", "auto") is None
    assert gpu_memory("auto", "ddp_notebook") is None
    assert gpu_memory("gpu", "ddp_fork") is None


def test_a_model_trains_with_the_batches_that_fit(adata, make_model, monkeypatch, train):
    monkeypatch.setattr("scenc.model._training.gpu_memory", lambda accelerator, strategy: 10**6)
    monkeypatch.setattr(
        _memory, "training_bytes", lambda *_, batch_size, **__: batch_size * 10**6 // 20
    )
    model = make_model(adata)
    model.train(max_epochs=1, accelerator="cpu", enable_progress_bar=False)
    config = model.train_config
    assert (config.batch_size, config.accumulate_grad_batches) == (16, 4)
    model.train(max_epochs=1, batch_size=64, accelerator="cpu", enable_progress_bar=False)
    config = model.train_config
    assert (config.batch_size, config.accumulate_grad_batches) == (64, 1)


def test_a_model_tells_what_training_keeps_on_a_cpu(adata, make_model):
    sizes = {"d_model": 64, "d_feedforward": 128, "n_layers": 3, "n_heads": 2, "context": None}
    model = make_model(adata, **sizes, objective="masked")
    # Every gene in every cell: all contexts are full.
    n_genes = len(model.vocabulary)
    counts = sp.csr_matrix(np.ones((8, n_genes), np.float32))
    storages = {}

    def keep(tensor):
        storage = tensor.untyped_storage()
        storages[storage._cdata] = (storage.nbytes(), storage)
        return tensor

    def kept(n_cells):
        storages.clear()
        batch = Tokenizer(mask_fraction=0.5)(counts, np.arange(n_cells), np.arange(n_genes))
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            model.module.train().squared_errors(batch)[0].sum()
        return sum(n_bytes for n_bytes, _ in storages.values())

    estimated = model.memory_estimate(8) - model.memory_estimate(4)
    assert estimated == pytest.approx(kept(8) - kept(4), rel=0.2)


def test_a_models_estimate_follows_its_arguments(adata, make_model, monkeypatch):
    model = make_model(adata, objective="masked", n_layers=4)
    n_weights = sum(weight.numel() for weight in model.module.parameters())
    one, two, three = (model.memory_estimate(n) for n in (1, 2, 3))
    assert two - one == three - two > 0
    # Weights, their gradients, and AdamW's two means.
    assert 2 * one - two == 16 * n_weights
    preset = get_preset("small", "masked").train["batch_size"]
    assert model.memory_estimate() == model.memory_estimate(preset)
    assert model.memory_estimate(64, precision="bf16-mixed") < model.memory_estimate(64)
    assert model.memory_estimate(64, checkpoint_blocks=True) <= model.memory_estimate(64)
    whole = model.memory_estimate(64, precision="32-true")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert model.memory_estimate(64) < whole
    with pytest.raises(TypeError, match="checkpoint_blocks"):
        model.memory_estimate(64, checkpoint_block=True)
