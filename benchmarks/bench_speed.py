"""Measure training and embedding speed of the presets on this machine, in cells per second.

    python benchmarks/bench_speed.py --presets small paper

The cells are simulated: Poisson counts of as many expressed genes as each preset's context holds,
or more, so that every sequence is full.
"""

from __future__ import annotations

import argparse
import time
from typing import TYPE_CHECKING

import numpy as np
import scipy.sparse as sp
import torch

from scenc._torch_settings import without_cudnn_attention
from scenc.data import Tokenizer
from scenc.model import PRESETS
from scenc.nn import CellTransformer, ModelConfig

if TYPE_CHECKING:
    from collections.abc import Callable

N_GENES, N_EXPRESSED = 20_000, 1_500
BATCH = {"small": 64, "base": 16, "paper": 4}
BATCH_ON_GPU = {"small": 512, "base": 128, "paper": 64}


def simulate(n_cells: int) -> sp.csr_matrix:
    """Cells with a fixed number of expressed genes each."""
    rng = np.random.default_rng(0)
    genes = np.concatenate(
        [np.sort(rng.choice(N_GENES, N_EXPRESSED, replace=False)) for _ in range(n_cells)]
    )
    counts = rng.geometric(0.5, len(genes)).astype(np.float32)
    starts = np.arange(0, len(genes) + 1, N_EXPRESSED)
    return sp.csr_matrix((counts, genes, starts), shape=(n_cells, N_GENES))


def finish() -> None:
    """Wait until the GPU has done what it was given."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def cells_per_second(step: Callable[[], None], n_cells: int, n_steps: int) -> list[float]:
    """Time some steps after a first one; minimum, median and maximum."""
    step()
    finish()
    speeds = []
    for _ in range(n_steps):
        start = time.perf_counter()
        step()
        finish()
        speeds.append(n_cells / (time.perf_counter() - start))
    return [float(np.quantile(speeds, q)) for q in (0, 0.5, 1)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--presets", nargs="+", default=["small", "paper"], choices=list(PRESETS))
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--device", default="cpu", help="cuda: in FP16 mixed precision")
    args = parser.parse_args()
    device = torch.device(args.device)
    on_gpu = device.type == "cuda"
    where = torch.cuda.get_device_name(device) if on_gpu else "the CPU"
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, on {where}")
    half = torch.autocast(device.type, torch.float16, enabled=on_gpu)
    scaler = torch.amp.GradScaler(device.type, enabled=on_gpu)
    sizes = BATCH_ON_GPU if on_gpu else BATCH
    for name in args.presets:
        config = ModelConfig.from_dict(PRESETS[name].model)
        network = CellTransformer(config, N_GENES).to(device)
        optimizer = torch.optim.AdamW(network.parameters(), lr=1e-4)
        n_cells = sizes[name]
        counts, rows = simulate(n_cells), np.arange(n_cells)

        def tokens(mask_fraction: float) -> object:
            tokenizer = Tokenizer(
                config.context,  # noqa: B023
                mask_fraction=mask_fraction,
                totals=config.pooling == "expression",  # noqa: B023
            )
            return tokenizer(counts, rows, np.arange(N_GENES)).to(device)  # noqa: B023

        def train() -> None:
            network.train()  # noqa: B023
            with half:
                errors, n_masked = network.squared_errors(tokens(0.5))  # noqa: B023
            scaler.scale(errors.sum() / n_masked.sum()).backward()
            scaler.step(optimizer)  # noqa: B023
            scaler.update()
            optimizer.zero_grad()  # noqa: B023

        def embed() -> None:
            network.eval()  # noqa: B023
            with torch.inference_mode(), half:
                network.embed_cells(tokens(0.0))  # noqa: B023

        for what, step in (("train", train), ("embed", embed)):
            low, middle, high = cells_per_second(step, n_cells, args.steps)
            print(
                f"{name}: {what} {middle:.1f} cells/s (min {low:.1f}, max {high:.1f}), "
                f"batch {n_cells}, {config.context} tokens",
                flush=True,
            )


if __name__ == "__main__":
    # As in training and embedding.
    with without_cudnn_attention():
        main()
