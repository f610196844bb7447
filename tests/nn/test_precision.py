"""What stays in FP32 under mixed precision and under TF32."""

from __future__ import annotations

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn import functional as F

from scenc._torch_settings import full_precision, tf32_products
from scenc.nn import CellTransformer, ModelConfig, ProteinGeneEncoder
from scenc.train._view_plans import contrast_loss

N_GENES = 30
SIZES = {"d_model": 16, "n_heads": 2, "n_layers": 2, "expression_hidden": 10}


def build(**settings):
    torch.manual_seed(0)
    return CellTransformer(ModelConfig(**SIZES, **settings), N_GENES).eval()


@pytest.fixture
def mixed():
    with torch.autocast("cpu", torch.bfloat16):
        yield


@pytest.mark.parametrize("expression_encoder", ["raw", "hard", "log", "soft"])
@torch.no_grad()
def test_tokens_are_made_in_fp32(make_batch, expression_encoder):
    network = build(expression_encoder=expression_encoder)
    batch = make_batch(mask_fraction=0.2, quantile_bins=network.config.quantile_bins)
    expected = network.embed_tokens(batch)
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(network.embed_tokens(batch), expected, rtol=0, atol=0)


@torch.no_grad()
def test_pooling_is_in_fp32(make_batch, monkeypatch):
    network = build(pooling="expression")
    monkeypatch.setattr(network.transformer, "hidden_states", lambda tokens, mask: tokens)
    batch = make_batch(totals=True)
    expected = network.embed_cells(batch)
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(network.embed_cells(batch), expected, rtol=0, atol=0)


@torch.no_grad()
def test_the_decoders_last_layer_is_in_fp32(make_batch, mixed):
    network, seen = build(), []
    last = network.decoder[-1]
    last.register_forward_hook(lambda _, inputs, output: seen.append((*inputs, output)))
    batch = make_batch(mask_fraction=0.5)
    decoded = network.reconstruct(batch)
    predicted = network.predict(batch, torch.tensor([1]), torch.tensor([1]))
    for hidden, values in seen:
        assert (hidden.dtype, values.dtype) == (torch.bfloat16, torch.float32)
        with torch.autocast("cpu", enabled=False):
            exact = F.linear(hidden.float(), last.weight, last.bias)
        assert torch.equal(values, exact)
    assert decoded.dtype == predicted.dtype == torch.float32


def test_gradients_under_mixed_precision_are_near_those_in_fp32(make_batch, encoding):
    settings = {k: v for k, v in encoding.items() if k == "expression_encoder"}
    network = build(**settings).train()
    batch = make_batch(mask_fraction=0.5, quantile_bins=network.config.quantile_bins)

    def gradients():
        network.zero_grad()
        errors, n_masked = network.squared_errors(batch)
        (errors.sum() / n_masked.sum()).backward()
        return torch.cat([w.grad.flatten() for w in network.parameters() if w.grad is not None])

    expected = gradients()
    with torch.autocast("cpu", torch.bfloat16):
        found = gradients()
    assert found.dtype == torch.float32
    assert (found - expected).norm() < 0.03 * expected.norm()


def test_similarities_are_in_fp32():
    torch.manual_seed(0)
    first, second = torch.randn(2, 20, 16)
    batches = torch.arange(20).remainder(2).expand(2, -1)
    expected = contrast_loss(first, second, batches, 0.2, within_batch=True)
    with torch.autocast("cpu", torch.bfloat16):
        found = contrast_loss(first, second, batches, 0.2, within_batch=True)
    assert torch.equal(found, expected)


@torch.no_grad()
def test_a_kept_table_of_proteins_does_not_depend_on_who_asked_first(mixed):
    torch.manual_seed(0)
    encoder = ProteinGeneEncoder.from_vectors(torch.randn(N_GENES, 8), 16, hidden=9).eval()
    under_mixed = encoder(torch.arange(N_GENES))
    with torch.autocast("cpu", enabled=False):
        encoder.train().eval()
        assert torch.equal(encoder(torch.arange(N_GENES)), under_mixed)


def products():
    """Return what CUDA multiplies FP32 matrices in, by both of PyTorch's names for it."""
    products = torch.backends.cuda.matmul
    # PyTorch up to 2.8 has one only.
    names = {True: "tf32", False: "ieee"}
    return products.allow_tf32, getattr(products, "fp32_precision", names[products.allow_tf32])


def test_tf32_holds_for_a_while_and_not_where_fp32_is_wanted():
    before = products()
    with tf32_products(True):
        assert products() == (True, "tf32")
        with full_precision(torch.device("cuda")):
            assert products() == (False, "ieee")
        assert products() == (True, "tf32")
    assert products() == before


@pytest.mark.parametrize("pooling", ["mean", "expression"])
def test_kept_in_fp32_on_cuda_too(make_batch, monkeypatch, pooling):
    # Without a CUDA device autocast would switch itself off; fake tensors need none.
    monkeypatch.setattr(torch.cuda.amp.common, "amp_definitely_not_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (9, 0))
    network, batch = build(pooling=pooling), make_batch(mask_fraction=0.5, totals=True)
    seen = []
    with FakeTensorMode(allow_non_fake_inputs=True):
        network, batch = network.to("cuda"), batch.to("cuda")
        network.expression_encoder.register_forward_hook(lambda *call: seen.append(call[-1].dtype))
        network.decoder[-1].register_forward_hook(lambda *call: seen.append(call[-1].dtype))
        network.decoder[0].register_forward_hook(lambda *call: seen.append(call[-1].dtype))
        with torch.autocast("cuda", torch.float16):
            embedded, decoded = network.embed_and_reconstruct(batch)
    assert seen == [torch.float32, torch.float16, torch.float32]
    assert embedded.dtype == decoded.dtype == torch.float32
    assert embedded.device.type == decoded.device.type == "cuda"
