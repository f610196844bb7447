"""Embedding in other precisions than full FP32."""

from __future__ import annotations

import anndata
import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from scenc.model._inference import inference_precision


def embed(model, **options):
    return model.get_latent_representation(key_added=None, **options)


def apart(found, expected):
    """Return the largest distance of a cell's embeddings, relative to their length."""
    return (np.linalg.norm(found - expected, axis=1) / np.linalg.norm(expected, axis=1)).max()


def test_on_a_cpu_the_default_is_full_precision(trained):
    expected = embed(trained)
    for precision in ("auto", "32-true", "tf32"):
        np.testing.assert_array_equal(embed(trained, precision=precision), expected)


@pytest.mark.parametrize("precision", ["bf16-mixed", "16-mixed"])
def test_mixed_precision_is_near_full_precision(trained, precision):
    embedding = embed(trained, precision=precision)
    assert embedding.dtype == np.float32
    assert 0 < apart(embedding, embed(trained)) < 0.01
    errors = trained.get_reconstruction_error(precision=precision)
    exact = trained.get_reconstruction_error()
    assert 0 < np.abs(errors - exact).max() < 0.02 * exact.max()
    genes = list(trained.vocabulary[:3])
    predicted = trained.predict_expression(genes=genes, precision=precision)
    exact = trained.predict_expression(genes=genes)
    assert 0 < (predicted - exact).abs().to_numpy().max() < 0.02 * exact.abs().to_numpy().max()
    # Nothing of it stays.
    assert not torch.is_autocast_enabled("cpu")
    np.testing.assert_array_equal(embed(trained), embed(trained, precision="32-true"))


def test_files_are_embedded_in_the_precision_asked_for(trained, tmp_path):
    trained.adata.write_h5ad(tmp_path / "cells.h5ad")
    found = {}
    for precision in ("auto", "bf16-mixed"):
        (path,) = trained.embed_files(
            [tmp_path / "cells.h5ad"],
            tmp_path / precision,
            precision=precision,
            progress=False,
        )
        found[precision] = anndata.read_h5ad(path).obsm["X_scenc"]
    assert 0 < apart(found["bf16-mixed"], found["auto"]) < 0.01


def test_other_precisions_are_refused(trained, tmp_path):
    for ask in (
        embed,
        type(trained).get_reconstruction_error,
        lambda model, **options: model.predict_expression(genes=model.vocabulary[:1], **options),
        lambda model, **options: model.embed_files([], tmp_path, **options),
    ):
        with pytest.raises(ValueError, match="precision must be one of .* got 'bf16'"):
            ask(trained, precision="bf16")


@pytest.mark.parametrize(
    ("precision", "expected"), [("auto", True), ("tf32", True), ("32-true", False)]
)
def test_on_cuda_the_default_is_tf32(precision, expected):
    before = torch.backends.cuda.matmul.allow_tf32
    with inference_precision(precision, torch.device("cuda")):
        assert torch.backends.cuda.matmul.allow_tf32 is expected
        assert not torch.is_autocast_enabled("cuda")
    assert torch.backends.cuda.matmul.allow_tf32 == before


class RoundedFactors(TorchDispatchMode):
    """Round the factors of all products of matrices to TF32: ten bits after the point."""

    n = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        name = str(function)
        if any(product in name for product in ("mm", "linear", "einsum", "attention")):
            self.n += 1
            args = [self._rounded(a) if isinstance(a, torch.Tensor) else a for a in args]
        return function(*args, **(kwargs or {}))

    def _rounded(self, x):
        if x.dtype != torch.float32:
            return x
        bits = x.contiguous().view(torch.int32)
        return ((bits + 2**12) & ~(2**13 - 1)).view(torch.float32)


def test_embeddings_in_tf32_are_within_a_thousandth_of_full_precision(trained):
    expected = embed(trained)
    with RoundedFactors() as rounded:
        found = embed(trained)
    assert rounded.n > 0
    assert 0 < apart(found, expected) < 1e-3
