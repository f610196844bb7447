"""Tests on a CUDA device; elsewhere they are skipped.

SCENC_GPU_TESTS_ON=cpu runs them on the CPU, to try the tests themselves.
"""

from __future__ import annotations

import os

import pytest


@pytest.fixture(scope="session")
def gpu():
    """Name of the accelerator, and of the kind of its devices: cuda."""
    import torch

    chosen = os.environ.get("SCENC_GPU_TESTS_ON", "cuda")
    if chosen not in ("cpu", "cuda"):
        raise pytest.UsageError(f"SCENC_GPU_TESTS_ON={chosen}: it may be cpu, or cuda.")
    if chosen == "cuda":
        if not torch.cuda.is_available():
            pytest.skip("needs a CUDA device")
        # For deterministic algorithms; cuBLAS reads it when it is first used.
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    return chosen


@pytest.fixture(scope="session")
def cuda(gpu):
    """Skip what a CPU cannot stand for."""
    if gpu != "cuda":
        pytest.skip("needs a CUDA device")
    return gpu
