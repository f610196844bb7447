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

from scenc.data import Tokenizer
from scenc.model import PRESETS
from scenc.nn import CellTransformer, ModelConfig

if TYPE_CHECKING:
    from collections.abc import Callable

N_GENES, N_EXPRESSED = 20_000, 1_500
BATCH = {"small": 64, "base": 16, "paper": 4}


def simulate(n_cells: int) -> sp.csr_matrix:
    """Cells with a fixed number of expressed genes each."""
    rng = np.random.default_rng(0)
    genes = np.concatenate(
        [np.sort(rng.choice(N_GENES, N_EXPRESSED, replace=False)) for _ in range(n_cells)]
    )
    counts = rng.geometric(0.5, len(genes)).astype(np.float32)
    starts = np.arange(0, len(genes) + 1, N_EXPRESSED)
    return sp.csr_matrix((counts, genes, starts), shape=(n_cells, N_GENES))


def cells_per_second(step: Callable[[], None], n_cells: int, n_steps: int) -> list[float]:
    """Time some steps after a first one; minimum, median and maximum."""
    step()
    speeds = []
    for _ in range(n_steps):
        start = time.perf_counter()
        step()
        speeds.append(n_cells / (time.perf_counter() - start))
    return [float(np.quantile(speeds, q)) for q in (0, 0.5, 1)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--presets", nargs="+", default=["small", "paper"], choices=list(PRESETS))
    parser.add_argument("--steps", type=int, default=5)
    args = parser.parse_args()
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads")
    for name in args.presets:
        config = ModelConfig.from_dict(PRESETS[name].model)
        network = CellTransformer(config, N_GENES)
        optimizer = torch.optim.AdamW(network.parameters(), lr=1e-4)
        n_cells = BATCH[name]
        counts, rows = simulate(n_cells), np.arange(n_cells)

        def tokens(mask_fraction: float) -> object:
            tokenizer = Tokenizer(
                config.context,  # noqa: B023
                mask_fraction=mask_fraction,
                totals=config.pooling == "expression",  # noqa: B023
            )
            return tokenizer(counts, rows, np.arange(N_GENES))  # noqa: B023

        def train() -> None:
            network.train()  # noqa: B023
            errors, n_masked = network.squared_errors(tokens(0.5))  # noqa: B023
            (errors.sum() / n_masked.sum()).backward()
            optimizer.step()  # noqa: B023
            optimizer.zero_grad()  # noqa: B023

        def embed() -> None:
            network.eval()  # noqa: B023
            with torch.inference_mode():
                network.embed_cells(tokens(0.0))  # noqa: B023

        for what, step in (("train", train), ("embed", embed)):
            low, middle, high = cells_per_second(step, n_cells, args.steps)
            print(
                f"{name}: {what} {middle:.1f} cells/s (min {low:.1f}, max {high:.1f}), "
                f"batch {n_cells}, {config.context} tokens",
                flush=True,
            )


if __name__ == "__main__":
    main()
