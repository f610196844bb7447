"""What training at the paper's size takes: parameters, FLOPs a cell, memory, checkpoint, steps.

    python benchmarks/plan_paper.py --genes 60000 --gpus 8 --batch-size 128

PyTorch counts the FLOPs of a forward and backward pass over cells of full contexts, and the bytes
that the pass keeps for its backward half, under mixed precision; nothing is computed for it. Time
follows from the throughput that is assumed of a GPU (``--tflops``: sustained, not that of a sheet).
"""

from __future__ import annotations

import argparse
import json
from dataclasses import fields, replace

import numpy as np
import scipy.sparse as sp
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils.flop_counter import FlopCounterMode

from scenc.data import Tokenizer
from scenc.model import get_preset
from scenc.nn import CellTransformer, ModelConfig

N_CELLS, EFFECTIVE_BATCH = 10_010_835, 16_384
_MEASURED = 2


def measure(config: ModelConfig, n_genes: int) -> dict[str, float]:
    """Follow two cells of full contexts forward and back; return what each takes."""
    context = config.context or n_genes
    rng = np.random.default_rng(0)
    genes = np.concatenate([rng.choice(n_genes, context, replace=False) for _ in range(_MEASURED)])
    values = rng.geometric(0.5, len(genes)).astype(np.float32)
    starts = np.arange(_MEASURED + 1) * context
    counts = sp.csr_matrix((values, genes, starts), (_MEASURED, n_genes))
    tokenizer = Tokenizer(context=context, mask_fraction=0.5)
    real = tokenizer(counts, np.arange(_MEASURED), np.arange(n_genes))
    kept: dict[int, int] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        if not isinstance(tensor, torch.nn.Parameter):
            storage = tensor.untyped_storage()
            kept[storage._cdata] = storage.nbytes()
        return tensor

    # Shapes only: nothing is computed.
    with FakeTensorMode(allow_non_fake_inputs=True) as mode:
        network = CellTransformer(config, n_genes)
        tensors = {
            field.name: mode.from_tensor(value)
            for field in fields(real)
            if isinstance(value := getattr(real, field.name), torch.Tensor)
        }
        batch = replace(real, **tensors)
        with FlopCounterMode(display=False) as counter:
            with (
                torch.autocast("cpu", torch.bfloat16),
                torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor),
            ):
                errors, n_masked = network.squared_errors(batch)
                loss = errors.sum() / n_masked.sum()
            loss.backward()
        weights = sum(w.numel() for w in network.parameters())
    blocks = sum(w.numel() for w in network.transformer.parameters())
    # Autocast keeps half-precision copies of the blocks' weights, once for the batch.
    activations = sum(kept.values()) - 2 * blocks
    return {
        "parameters": weights,
        "tflop_per_cell": counter.get_total_flops() / _MEASURED / 1e12,
        "activation_mb_per_cell": activations / _MEASURED / 1e6,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--genes", type=int, default=60_000)
    parser.add_argument("--gpus", type=int, default=8)
    parser.add_argument("--batch-size", type=int, default=128, help="cells a GPU and pass")
    parser.add_argument("--tflops", type=float, default=90.0, help="sustained, of one GPU")
    args = parser.parse_args()
    preset = get_preset("paper")
    config = ModelConfig.from_dict({**preset.model, "dropout": 0.0})
    found = measure(config, args.genes)
    weights = found["parameters"]
    visits = N_CELLS * (1 - 2 * preset.train["validation_size"]) * preset.train["max_epochs"]
    cells_per_second = args.gpus * args.tflops / found["tflop_per_cell"]
    plan = {
        **found,
        "accumulate_grad_batches": EFFECTIVE_BATCH // (args.gpus * args.batch_size),
        "optimizer_steps": round(visits / EFFECTIVE_BATCH),
        "hours": visits / cells_per_second / 3600,
        "cells_per_second": cells_per_second,
        "activations_gb_per_gpu": found["activation_mb_per_cell"] * args.batch_size / 1e3,
        # FP32 weights, gradients, two moments of Adam, and half-precision copies.
        "weights_gb_per_gpu": weights * (4 + 4 + 8 + 2) / 1e9,
        # Weights, the best weights so far, two moments.
        "checkpoint_gb": weights * (4 + 4 + 8) / 1e9,
    }
    print(json.dumps({name: round(value, 3) for name, value in plan.items()}, indent=1))


if __name__ == "__main__":
    main()
