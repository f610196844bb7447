"""Global settings of PyTorch that hold for a while."""

from __future__ import annotations

import os
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def without_cudnn_attention() -> Iterator[None]:
    """Keep attention to its flash and memory-efficient kernels on CUDA; restored afterwards.

    Where PyTorch prefers cuDNN, as on an H100, it builds a graph for each new number and length of
    cells, which takes longer than a step, and gradients under an attention mask have been NaN.
    """
    enabled = torch.backends.cuda.cudnn_sdp_enabled()  # type: ignore[no-untyped-call]
    torch.backends.cuda.enable_cudnn_sdp(False)
    try:
        yield
    finally:
        torch.backends.cuda.enable_cudnn_sdp(enabled)


@contextmanager
def tf32_products(wanted: bool) -> Iterator[None]:
    """Let CUDA round the factors of FP32 matrix products to TF32, or not; restored afterwards."""
    products: Any = torch.backends.cuda.matmul
    # The older of two names sets both, and refuses to be read where a user has set the newer one,
    # which PyTorch up to 2.8 lacks.
    newer = getattr(products, "fp32_precision", None)
    before = products.allow_tf32 if newer is None else newer == "tf32"
    products.allow_tf32 = wanted
    try:
        yield
    finally:
        products.allow_tf32 = before
        if newer is not None:
            products.fp32_precision = newer


@contextmanager
def full_precision(device: torch.device) -> Iterator[None]:
    """Compute in FP32, whatever precision holds around it; FP32 is what must be put in."""
    kind = device.type
    mixed = torch.amp.is_autocast_available(kind) and torch.is_autocast_enabled(kind)
    with (
        torch.autocast(kind, enabled=False) if mixed else nullcontext(),
        tf32_products(False) if kind == "cuda" else nullcontext(),
    ):
        yield


@contextmanager
def deterministic_algorithms(wanted: bool) -> Iterator[None]:
    """Have PyTorch compute to the bit alike in every run, or refuse to; restored afterwards.

    Without `wanted`, what is set stays as it is.
    """
    if not wanted:
        yield
        return
    enabled = torch.are_deterministic_algorithms_enabled()
    warns = torch.is_deterministic_algorithms_warn_only_enabled()
    # cuBLAS reads it when it is first used.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(enabled, warn_only=warns)
