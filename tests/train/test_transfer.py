"""Batches on their way to the device."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp
import torch

from scenc.data import Neighborhoods, Request, TokenDataset, Tokenizer, ViewDataset, open_rows
from scenc.nn import CellTransformer, ModelConfig
from scenc.train import ContrastivePlan, MaskedExpressionPlan, TrainConfig


def token_batch(counts):
    return TokenDataset(open_rows(counts), np.arange(30), Tokenizer())[Request(np.arange(9), 0)]


def view_batch(counts):
    known = Neighborhoods(
        np.zeros((9, 2), np.float32), np.zeros((9, 1), int), np.ones((9, 1)), np.zeros(9, int)
    )
    data = ViewDataset(open_rows(counts), np.arange(30), Tokenizer(), known, (0.5, 1.0), 0.5)
    return data[Request(np.arange(9), 0)]


@pytest.mark.parametrize(
    ("kind", "make"), [(MaskedExpressionPlan, token_batch), (ContrastivePlan, view_batch)]
)
@pytest.mark.parametrize("device", ["cuda", "cpu", "mps"])
def test_only_copies_to_a_gpu_are_not_waited_for(make_counts, monkeypatch, kind, make, device):
    plan = kind(CellTransformer(ModelConfig(d_model=8), 30), TrainConfig())
    batch, asked = make(sp.csr_matrix(make_counts(9, 30))), []

    def to(self, device, non_blocking=False):
        asked.append((device.type, non_blocking))
        return self

    monkeypatch.setattr(torch.Tensor, "to", to)
    # Lightning's way; it warns where a plan with a way of its own is given a datamodule.
    plan.transfer_batch_to_device(batch, torch.device(device), 0)
    assert len(asked) >= 7
    assert set(asked) == {(device, device == "cuda")}
