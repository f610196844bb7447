"""Batches, buckets and precisions on a CUDA device."""

from __future__ import annotations

import os

import numpy as np
import pytest
import scipy.sparse as sp
import torch

from scenc.data import Request, TokenDataset, Tokenizer, open_rows
from scenc.nn import CellTransformer, ModelConfig, ProteinGeneEncoder

# All at once: one line of skips, not one for each test.
if not torch.cuda.is_available() and "SCENC_GPU_TESTS_ON" not in os.environ:
    pytest.skip("needs a CUDA device", allow_module_level=True)

N_GENES = 600
# Of an embedding's length; TF32 is the default that is said to keep within it.
MOST = {"auto": 1e-3, "tf32": 1e-3, "bf16-mixed": 1e-2, "16-mixed": 3e-3, "32-true": 2e-5}


@pytest.fixture(scope="module")
def batch():
    """Cells with 20 to 500 genes and a context of 300."""
    rng = np.random.default_rng(0)
    lengths = rng.integers(20, 500, 900)
    shown = rng.random((900, N_GENES)).argsort(axis=1) < lengths[:, None]
    counts = sp.csr_matrix(shown * rng.integers(1, 20, shown.shape), dtype=np.float32)
    tokenizer = Tokenizer(context=300, mask_fraction=0.3, totals=True)
    rows = open_rows(counts)
    dataset = TokenDataset(rows, np.arange(N_GENES), tokenizer, by_length=True)
    return dataset[Request(np.arange(900), 0)]


def build(**settings):
    torch.manual_seed(0)
    config = ModelConfig(d_model=64, n_heads=4, n_layers=3, expression_hidden=64, **settings)
    return CellTransformer(config, N_GENES).eval()


def relative(found, expected):
    return ((found - expected).norm(dim=-1) / expected.norm(dim=-1).clamp(min=1e-12)).max().item()


@pytest.mark.parametrize("pooling", ["mean", "expression"])
@torch.inference_mode()
def test_packed_cells_give_what_padded_ones_of_a_cpu_give(gpu, batch, pooling):
    network = build(pooling=pooling)
    embedded, decoded = network.embed_and_reconstruct(batch)
    there = batch.pin_memory() if gpu == "cuda" else batch
    there = there.to(gpu, non_blocking=True) if gpu == "cuda" else batch.packed()
    assert there.packing is not None
    found, found_decoded = network.to(gpu).embed_and_reconstruct(there)
    assert relative(found.cpu(), embedded) < MOST["32-true"]
    shown = batch.masked
    torch.testing.assert_close(found_decoded.cpu()[shown], decoded[shown], rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("precision", MOST)
def test_embeddings_in_each_precision_are_near_those_of_a_cpu(gpu, trained, precision):
    trained.to_device("cpu")
    expected = trained.get_latent_representation(key_added=None)
    try:
        trained.to_device("cuda:0" if gpu == "cuda" else "cpu")
        found = trained.get_latent_representation(key_added=None, precision=precision)
    finally:
        trained.to_device("cpu")
    apart = np.linalg.norm(found - expected, axis=1) / np.linalg.norm(expected, axis=1)
    assert apart.max() < MOST[precision]


def test_copies_of_page_locked_batches_are_not_waited_for(cuda, batch):
    pinned = batch.pin_memory()
    torch.cuda.set_sync_debug_mode("error")
    try:
        there = pinned.to(cuda, non_blocking=True)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    for name in ("genes", "value_index"):
        torch.testing.assert_close(
            getattr(there, name).cpu()[:, : batch.n_tokens], getattr(batch, name)
        )


def test_a_step_with_the_protein_encoder_does_not_wait_for_the_gpu(cuda, batch):
    torch.manual_seed(0)
    encoder = ProteinGeneEncoder.from_vectors(torch.randn(N_GENES, 32), 64)
    config = ModelConfig(d_model=64, n_heads=4, gene_encoder="protein", expression_hidden=64)
    network = CellTransformer(config, N_GENES, encoder).to(cuda).train()
    there = batch.to(cuda)

    def step():
        with torch.autocast(cuda, torch.float16):
            errors, n_masked = network.squared_errors(there)
        (errors.sum() / n_masked.sum()).backward()

    step()  # libraries are loaded at their first use
    torch.cuda.set_sync_debug_mode("error")
    try:
        step()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert network.gene_encoder.mlp[0].weight.grad.isfinite().all()


def test_compiled_blocks_give_the_gradients_of_others(cuda, batch):
    network, there = build().to(cuda).train(), batch.to(cuda)

    def gradients(compile_blocks):
        network.zero_grad()
        network.transformer.compile_blocks = compile_blocks
        with torch.autocast(cuda, torch.bfloat16):
            errors, _ = network.squared_errors(there)
        errors.sum().backward()
        return [p.grad.flatten() for p in network.parameters() if p.grad is not None]

    for found, expected in zip(gradients(True), gradients(False), strict=True):
        assert relative(found, expected) < 0.05
