"""Measure how fast scenc trains and embeds on this machine.

    python benchmarks/bench_speed.py presets --presets small paper
    python benchmarks/bench_speed.py dropout --presets paper
    python benchmarks/bench_speed.py threads --busy 0 2

The cells are simulated: Poisson counts of as many expressed genes as each preset's context holds,
or more, so that every sequence is full.
"""

from __future__ import annotations

import argparse
import multiprocessing
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np
import scipy.sparse as sp
import torch

from scenc._torch_settings import without_cudnn_attention
from scenc.data import Tokenizer
from scenc.model import PRESETS
from scenc.nn import CellTransformer, ModelConfig

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

N_GENES, N_EXPRESSED = 20_000, 1_500
BATCH = {"small": 64, "base": 16, "paper": 4}
BATCH_ON_GPU = {"small": 512, "base": 128, "paper": 64}
# Of preset small, by which numbers of threads are compared.
N_VISITS = 3_000


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


def bench_presets(args: argparse.Namespace) -> None:
    """Time training steps and embedding at each preset's sizes."""
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


def bench_dropout(args: argparse.Namespace) -> None:
    """Time training steps on the CPU with dropout, and without, in turn."""
    # Time of the processor, where one thread works: other processes do not add to it.
    clock = time.process_time if torch.get_num_threads() == 1 else time.perf_counter
    for name in args.presets:
        n_cells = BATCH[name]
        steps = {}
        for dropout in (0.0, 0.1):
            config = ModelConfig.from_dict({**PRESETS[name].model, "dropout": dropout})
            steps[dropout] = training_step(config, n_cells)
            steps[dropout]()
        seconds = np.zeros((args.steps, 2))
        for row in seconds:
            for n, step in enumerate(steps.values()):
                start = clock()
                step()
                row[n] = clock() - start
        plain, dropped = np.median(seconds, axis=0)
        ratios = seconds[:, 1] / seconds[:, 0]
        print(
            f"{name}: {plain:.2f} s a step without dropout, {dropped:.2f} s with; ratio "
            f"{np.median(ratios):.3f} (min {ratios.min():.3f}, max {ratios.max():.3f}), "
            f"batch {n_cells}, {config.context} tokens, {torch.get_num_threads()} threads",
            flush=True,
        )


def training_step(config: ModelConfig, n_cells: int) -> Callable[[], None]:
    """Return a step of the masked objective on full cells, on the CPU."""
    network = CellTransformer(config, N_GENES).train()
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-4)
    tokenizer = Tokenizer(config.context, mask_fraction=0.5, totals=config.pooling == "expression")
    batch = tokenizer(simulate(n_cells), np.arange(n_cells), np.arange(N_GENES))

    def step() -> None:
        errors, n_masked = network.squared_errors(batch)
        (errors.sum() / n_masked.sum()).backward()
        optimizer.step()
        optimizer.zero_grad()

    return step


def bench_threads(args: argparse.Namespace) -> None:
    """Time whole trainings of preset small with numbers of threads, beside busy processes."""
    import anndata

    import scenc

    adata = anndata.AnnData(simulate(N_VISITS))
    scenc.Model.setup_anndata(adata)
    most = torch.get_num_threads()
    choices = {"chosen": None, "1": 1, **({str(most): most} if most > 1 else {})}
    for n_busy in args.busy:
        seconds: dict[str, list[float]] = {name: [] for name in choices}
        with busy_processes(n_busy):
            # In turn, so that what else the machine does meets all alike.
            for _ in range(args.steps):
                for name, n_threads in choices.items():
                    model = scenc.Model(adata, objective="masked")
                    start = time.perf_counter()
                    model.train(
                        max_epochs=1,
                        n_threads=n_threads,
                        validation_size=0,
                        enable_progress_bar=False,
                    )
                    seconds[name].append(time.perf_counter() - start)
        for name, times in seconds.items():
            print(
                f"{n_busy} busy processes, threads {name}: {np.median(times):.1f} s "
                f"(min {min(times):.1f}, max {max(times):.1f})",
                flush=True,
            )


@contextmanager
def busy_processes(n: int) -> Iterator[None]:
    """Keep cores busy with so many processes."""
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=keep_busy, daemon=True) for _ in range(n)]
    for process in processes:
        process.start()
    try:
        yield
    finally:
        for process in processes:
            process.terminate()


def keep_busy() -> None:
    while True:
        pass


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parts = parser.add_subparsers(required=True)
    part = parts.add_parser("presets", help=bench_presets.__doc__)
    part.add_argument("--presets", nargs="+", default=["small", "paper"], choices=list(PRESETS))
    part.add_argument("--steps", type=int, default=5)
    part.add_argument("--device", default="cpu", help="cuda: in FP16 mixed precision")
    part.set_defaults(run=bench_presets)
    part = parts.add_parser("dropout", help=bench_dropout.__doc__)
    part.add_argument("--presets", nargs="+", default=["base", "paper"], choices=list(PRESETS))
    part.add_argument("--steps", type=int, default=5)
    part.set_defaults(run=bench_dropout)
    part = parts.add_parser("threads", help=bench_threads.__doc__)
    part.add_argument("--busy", nargs="+", type=int, default=[0, 2])
    part.add_argument("--steps", type=int, default=3)
    part.set_defaults(run=bench_threads)
    args = parser.parse_args()
    # As in training and embedding.
    with without_cudnn_attention():
        args.run(args)


if __name__ == "__main__":
    main()
