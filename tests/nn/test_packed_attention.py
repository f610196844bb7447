from __future__ import annotations

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from scenc.data import Packing
from scenc.nn._packed_attention import packed_attention


@pytest.fixture
def lengths():
    return torch.tensor([5, 0, 9, 1])


def test_each_cell_attends_to_itself(lengths):
    torch.manual_seed(0)
    heads = torch.randn(15, 3, 2, 4, dtype=torch.float64)
    packing = Packing.of(lengths, 15, 10)
    found = packed_attention(heads, packing, 0.0)
    start = 0
    for length in lengths.tolist():
        query, key, value = heads[start : start + length].permute(1, 2, 0, 3)
        weights = (query @ key.transpose(1, 2) / 2).softmax(dim=-1)
        expected = (weights @ value).transpose(0, 1)
        torch.testing.assert_close(found[start : start + length], expected)
        start += length


@pytest.mark.parametrize(
    ("dtype", "generation", "kernel"),
    [
        (torch.float16, (9, 0), "flash"),
        (torch.bfloat16, (8, 0), "flash"),
        (torch.float16, (7, 5), "efficient"),
        (torch.float32, (9, 0), "efficient"),
    ],
)
@pytest.mark.parametrize("d_head", [8, 12])
def test_kernels_of_a_gpu_get_what_they_take(
    lengths, monkeypatch, dtype, generation, kernel, d_head
):
    """With tensors that have a device and a shape, and no numbers."""
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: generation)
    monkeypatch.setattr(torch.backends.cuda, "is_flash_attention_available", lambda: True)
    names = []

    class Names(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            names.append(str(function))
            return function(*args, **(kwargs or {}))

    with FakeTensorMode(allow_non_fake_inputs=True):
        packing = Packing.of(lengths.to("cuda"), 15, 10)
        heads = torch.empty(15, 3, 2, d_head, device="cuda", dtype=dtype, requires_grad=True)
        with Names():
            mixed = packed_attention(heads, packing, 0.1)
            assert (mixed.shape, mixed.dtype) == ((15, 2, d_head), dtype)
    assert mixed.requires_grad
    assert any(f"_{kernel}_attention_forward" in name for name in names)
