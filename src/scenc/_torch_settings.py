"""Global settings of PyTorch that hold for a while."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

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
