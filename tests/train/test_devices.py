"""Steps on a device that is not there: PyTorch works out kinds and places, and no values."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from torch._subclasses import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from scenc.data import Neighborhoods, Request, TokenDataset, Tokenizer, ViewDataset, open_rows
from scenc.nn import CellTransformer, ModelConfig
from scenc.train import ContrastivePlan, MaskedExpressionPlan, TrainConfig, _run
from scenc.train._run import _compiling_pays, _resolve_accelerator

N_CELLS, N_GENES = 13, 30
SIZES = {"d_model": 16, "n_layers": 1, "n_heads": 2, "d_feedforward": 32, "expression_hidden": 16}


class DoubleOnDevice(TorchDispatchMode):
    """Collects operations that make doubles away from the CPU: Macs' GPUs have none."""

    def __init__(self):
        super().__init__()
        self.found, self.devices = [], set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        made = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(made):
            if isinstance(tensor, torch.Tensor):
                self.devices.add(tensor.device.type)
                if tensor.device.type != "cpu" and tensor.dtype == torch.float64:
                    self.found.append(func)
        return made


@pytest.fixture
def masked(make_counts):
    tokenizer = Tokenizer(context=15, mask_fraction=0.3)
    rows = open_rows(sp.csr_matrix(make_counts(N_CELLS, N_GENES)))
    return TokenDataset(rows, np.arange(N_GENES), tokenizer)


@pytest.fixture
def views(make_counts):
    rng = np.random.default_rng(0)
    known = Neighborhoods(
        anchors=rng.normal(size=(N_CELLS, 4)).astype(np.float32),
        neighbors=rng.integers(0, N_CELLS, (N_CELLS, 3)),
        odds=np.tile([0.3, 0.6, 1.0], (N_CELLS, 1)),
        batches=rng.integers(0, 3, N_CELLS),
    )
    tokenizer = Tokenizer(context=15, mask_fraction=0.3, totals=True)
    rows = open_rows(sp.csr_matrix(make_counts(N_CELLS, N_GENES)))
    return ViewDataset(rows, np.arange(N_GENES), tokenizer, known, (0.3, 0.9), 0.1)


@pytest.mark.parametrize(
    ("plan", "data", "pooling"),
    [(MaskedExpressionPlan, "masked", "mean"), (ContrastivePlan, "views", "expression")],
)
def test_a_device_needs_no_double_precision(plan, data, pooling, request):
    batch = request.getfixturevalue(data)[Request(np.arange(N_CELLS), 7)]
    config = ModelConfig(**SIZES, pooling=pooling, expression_encoder="soft")
    with FakeTensorMode(allow_non_fake_inputs=True), DoubleOnDevice() as seen:
        with torch.device("cuda"):
            training = plan(CellTransformer(config, N_GENES), TrainConfig())
        there = batch.to("cuda")
        training.training_step(there, 0)
        training.on_validation_epoch_start()
        training.validation_step(there, 0)
    assert seen.devices == {"cpu", "cuda"}
    assert seen.found == []


@pytest.mark.parametrize(
    ("asked", "mac", "taken"),
    [("auto", True, "cpu"), ("auto", False, "auto"), ("mps", True, "mps"), ("cuda", False, "cuda")],
)
def test_the_gpu_of_a_mac_is_taken_where_asked_for(monkeypatch, asked, mac, taken):
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mac)
    assert _resolve_accelerator(asked) == taken


@pytest.mark.parametrize(
    ("changes", "pays"),
    [
        ({}, True),
        ({"n_layers": 5}, False),
        ({"n_batches": 499}, False),
        ({"accelerator": "cpu"}, False),
        ({"compiler": None}, False),
    ],
)
def test_blocks_are_compiled_where_that_pays_and_works(monkeypatch, changes, pays):
    given = {"n_layers": 6, "n_batches": 500, "accelerator": "auto", "compiler": "/usr/bin/gcc"}
    given |= changes
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(_run, "find_spec", lambda name: name)
    monkeypatch.setattr(_run, "which", lambda name: given["compiler"] if name == "gcc" else None)
    network = CellTransformer(ModelConfig(**{**SIZES, "n_layers": given["n_layers"]}), N_GENES)
    batches, config = range(given["n_batches"]), TrainConfig(max_epochs=2)
    assert _compiling_pays(network, batches, config, given["accelerator"]) == pays
