"""Measure how fast scenc prepares, trains and embeds on this machine, and what memory it takes.

    python benchmarks/bench_speed.py presets --cells pbmc3k.h5ad --json speed.json
    python benchmarks/bench_speed.py dropout --presets paper
    python benchmarks/bench_speed.py threads --busy 0 2
    python benchmarks/bench_speed.py training --device cuda
    python benchmarks/bench_speed.py preparation --sizes 10000 100000

Full cells are simulated and fill each preset's context; real ones are those of a file with counts
in X, or the ones that ship with scanpy. docs/performance.md says how to read the tables. With
OMP_NUM_THREADS=1, seconds are those of the processor: other processes do not add to them.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import multiprocessing
import platform
import time
from contextlib import contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anndata
import numpy as np
import pandas as pd
import scipy.sparse as sp
import torch
from lightning.pytorch import Callback
from torch import nn
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

import scenc
from scenc._torch_settings import tf32_products, without_cudnn_attention
from scenc.data import Tokenizer
from scenc.model._presets import get_preset
from scenc.nn import CellTransformer, ModelConfig

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from scenc.data import TokenBatch

N_GENES, N_EXPRESSED = 20_000, 1_500
BATCH = {"small": 64, "base": 16, "paper": 4}
BATCH_ON_GPU = {"small": 512, "base": 128, "paper": 64}
# Of preset small, by which numbers of threads are compared.
N_VISITS = 3_000


def clock() -> float:
    """Return seconds: of this process's work where one thread does it, else of the day."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.process_time() if torch.get_num_threads() == 1 else time.perf_counter()


def seconds_of(steps: dict[str, Callable[[], object]], n_times: int) -> dict[str, list[float]]:
    """Time steps in turn, after a first run of each: what else the machine does meets all alike."""
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    for time_number in range(n_times + 1):
        for name, step in steps.items():
            start = clock()
            step()
            if time_number:
                seconds[name].append(clock() - start)
    return seconds


def peak_memory(step: Callable[[], object]) -> float:
    """Return how much memory a step takes at its fullest, beyond what is there before, in GB.

    Of the CPU on Linux only.
    """
    if torch.cuda.is_available():
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        step()
        return (torch.cuda.max_memory_allocated() - before) / 1e9
    # Memory that was used before and is free by now would be taken again, and not be seen.
    ctypes.CDLL(None).malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")
    before = _status("VmRSS")
    step()
    return (_status("VmHWM") - before) / 1e6


def _status(name: str) -> int:
    """Return a figure of the process, in kB (Linux only)."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(name))


# Cells


def full_cells(n_cells: int) -> sp.csr_matrix:
    """Cells with a fixed number of expressed genes each, more than a context holds."""
    rng = np.random.default_rng(0)
    genes = np.concatenate(
        [np.sort(rng.choice(N_GENES, N_EXPRESSED, replace=False)) for _ in range(n_cells)]
    )
    counts = rng.geometric(0.5, len(genes)).astype(np.float32)
    starts = np.arange(0, len(genes) + 1, N_EXPRESSED)
    return sp.csr_matrix((counts, genes, starts), shape=(n_cells, N_GENES))


def many_cells(n_cells: int, n_expressed: int) -> anndata.AnnData:
    """Cells of eight kinds in ten batches, whose genes differ in frequency."""
    rng = np.random.default_rng(0)
    blocks = []
    for number in range(16):
        n = n_cells // 16
        genes = (N_GENES * rng.random((n, n_expressed)) ** 2).astype(np.int32)
        # Each kind has genes of its own among the frequent ones.
        genes[:, ::8] = (genes[:, ::8] % 500) * 8 + number % 8
        starts = np.arange(0, n * n_expressed + 1, n_expressed)
        ones = np.ones(n * n_expressed, np.float32)
        blocks.append(sp.csr_matrix((ones, genes.ravel(), starts), (n, N_GENES)))
        blocks[-1].sum_duplicates()
    counts = sp.vstack(blocks, format="csr")
    batch = pd.Categorical((np.arange(counts.shape[0]) % 10).astype(str))
    obs = pd.DataFrame({"batch": batch}, np.arange(counts.shape[0]).astype(str))
    return anndata.AnnData(counts, obs, pd.DataFrame(index=[f"GENE{n}" for n in range(N_GENES)]))


def real_cells(path: str | None) -> tuple[str, sp.csr_matrix]:
    """Return counts of real cells, and what they are called."""
    adata = anndata.read_h5ad(path) if path else scenc.datasets.pbmc68k()
    return Path(path).stem if path else "pbmc68k", sp.csr_matrix(adata.X, dtype=np.float32)


# The model written plainly


class Plain(nn.Module):
    """The same model as most would write it: a padded encoder, and an encoder of every token."""

    def __init__(self, config: ModelConfig, n_genes: int) -> None:
        super().__init__()
        d = config.d_model
        self.genes = nn.Embedding(n_genes, d)
        self.values = nn.Sequential(
            nn.Linear(1, config.expression_hidden),
            nn.GELU(),
            nn.Linear(config.expression_hidden, d),
        )
        self.mask = nn.Parameter(torch.randn(d))
        layer = nn.TransformerEncoderLayer(
            d,
            config.n_heads,
            config.d_feedforward,
            config.dropout,
            "gelu",
            batch_first=True,
            norm_first=True,
        )
        self.encoder = nn.TransformerEncoder(
            layer, config.n_layers, nn.LayerNorm(d), enable_nested_tensor=False
        )
        self.decoder = nn.Sequential(nn.Linear(d, d), nn.GELU(), nn.Linear(d, 1))

    def forward(self, batch: TokenBatch) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return hidden states, which tokens are masked, and all tokens' values."""
        values, valid = batch.values(), batch.valid
        masked = torch.arange(batch.n_tokens, device=values.device) < batch.n_masked[:, None]
        expression = torch.where(masked[..., None], self.mask, self.values(values[..., None]))
        hidden = self.encoder(self.genes(batch.genes) + expression, src_key_padding_mask=~valid)
        return hidden, masked, values

    def loss(self, batch: TokenBatch) -> torch.Tensor:
        """Return the mean squared error of masked tokens."""
        hidden, masked, values = self(batch)
        return (self.decoder(hidden[masked])[:, 0] - values[masked]).square().mean()

    def embed(self, batch: TokenBatch) -> torch.Tensor:
        """Return the mean of each cell's tokens."""
        hidden, _, _ = self(batch)
        shown = batch.valid[..., None]
        return (hidden * shown).sum(1) / shown.sum(1)


# What is measured


def flops(config: ModelConfig, lengths: np.ndarray, decoded: float) -> float:
    """Return the operations that a forward pass of cells of these lengths needs.

    Only what the mathematics needs: no padding. The expression encoder's share is left out: it runs
    on distinct values. `decoded` is the share of tokens that are decoded.
    """
    d, n_tokens = config.d_model, float(lengths.sum())
    linear = 2 * n_tokens * (4 * d * d + 2 * d * config.d_feedforward)
    attention = 4 * d * float(np.square(lengths.astype(float)).sum())
    return config.n_layers * (linear + attention) + 2 * decoded * n_tokens * d * (d + 1)


def flops_of_step(config: ModelConfig, lengths: np.ndarray, trains: bool) -> float:
    """Return the operations of a training step, half of whose tokens are decoded, or of embedding.

    A backward pass counts twice a forward pass.
    """
    return 3 * flops(config, lengths, 0.5) if trains else flops(config, lengths, 0.0)


def mixed_precision(device: torch.device) -> tuple[Any, Any]:
    """Return the context that steps run in, and what scales gradients: FP16 on CUDA, else FP32."""
    on_gpu = device.type == "cuda"
    half = torch.autocast(device.type, torch.float16, enabled=on_gpu)
    return half, torch.amp.GradScaler(device.type, enabled=on_gpu)


def peak_gflops(config: ModelConfig, n_tokens: int, device: torch.device, half: Any) -> float:
    """Return the machine's speed in the matrix products of a block, 10^9 operations a second."""
    d, n_times = config.d_model, 5
    shapes = [(d, 3 * d), (d, d), (d, config.d_feedforward), (config.d_feedforward, d)]
    factors = [
        (torch.randn(n_tokens, n, device=device), torch.randn(n, m, device=device))
        for n, m in shapes
    ]

    def multiply() -> None:
        with half, torch.inference_mode():
            for one, other in factors:
                one @ other

    times = seconds_of({"": multiply}, n_times)[""]
    return sum(2 * n_tokens * n * m for n, m in shapes) / min(times) / 1e9


def bench_presets(args: argparse.Namespace) -> None:
    """Time training steps and embedding at each preset's sizes, beside the plain model."""
    device = torch.device(args.device)
    half, scaler = mixed_precision(device)
    rows = []
    name_of_real, counts_of_real = real_cells(args.cells)
    for preset in args.presets:
        n_cells = args.batch or (BATCH_ON_GPU if device.type == "cuda" else BATCH)[preset]
        found = {"full": ("full", full_cells(n_cells)), "real": (name_of_real, counts_of_real)}
        for cells, counts in (found[kind] for kind in args.kinds):
            config = ModelConfig.from_dict(get_preset(preset, "masked").model)
            n_genes = counts.shape[1]
            some = np.random.default_rng(0).permutation(counts.shape[0])[:n_cells]
            networks = {"scenc": CellTransformer(config, n_genes), "plain": Plain(config, n_genes)}
            if args.compile:
                networks["compiled"] = CellTransformer(config, n_genes)
                networks["compiled"].transformer.compile_blocks = True
            tokens = {
                share: Tokenizer(config.context, mask_fraction=share)(
                    counts, some, np.arange(n_genes)
                ).to(device)
                for share in (0.5, 0.0)
            }
            lengths = tokens[0.0].lengths.cpu().numpy()
            peak = peak_gflops(config, int(lengths.sum()), device, half)
            steps: dict[str, Callable[[], object]] = {}
            for which, network in networks.items():
                optimizer = torch.optim.AdamW(network.to(device).parameters(), lr=1e-4)
                steps[f"{which} train"] = _training(network, optimizer, scaler, half, tokens[0.5])
                if which != "compiled":  # only training is
                    steps[f"{which} embed"] = _embedding(network, half, tokens[0.0])
            if device.type == "cuda":
                steps["scenc embed tf32"] = _embedding(
                    networks["scenc"], nullcontext(), tokens[0.0]
                )
            for what, seconds in seconds_of(steps, args.steps).items():
                needed = flops_of_step(config, lengths, "train" in what)
                middle = float(np.median(seconds))
                row = {
                    "preset": preset,
                    "objective": "masked",
                    "cells": cells,
                    "what": what,
                    "cells_per_s": n_cells / middle,
                    "cells_per_s_most": n_cells / min(seconds),
                    "tokens_per_s": int(lengths.sum()) / middle,
                    "peak_gflops": peak,
                    "share_of_peak": needed / middle / 1e9 / peak,
                    "memory_gb": peak_memory(steps[what]),
                    "batch": n_cells,
                    "mean_tokens": float(lengths.mean()),
                }
                rows.append(row)
                print(json.dumps({k: _short(v) for k, v in row.items()}), flush=True)
    _write(args, rows)


def _training(
    network: Any, optimizer: torch.optim.Optimizer, scaler: Any, half: Any, batch: TokenBatch
) -> Callable[[], None]:
    """Return a training step of either network."""

    def step() -> None:
        network.train()
        with half:
            if isinstance(network, Plain):
                loss = network.loss(batch)
            else:
                errors, n_masked = network.squared_errors(batch)
                loss = errors.sum() / n_masked.sum()
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
        optimizer.zero_grad()

    return step


def _embedding(network: Any, half: Any, batch: TokenBatch) -> Callable[[], None]:
    """Return the embedding of a batch by either network."""

    def step() -> None:
        network.eval()
        with torch.inference_mode(), half:
            network.embed(batch) if isinstance(network, Plain) else network.embed_cells(batch)

    return step


def bench_attention(args: argparse.Namespace) -> None:
    """Time the attention of preset paper's full cells by the kernels that a CUDA device has."""
    config = ModelConfig.from_dict(get_preset("paper", "masked").model)
    n_cells, n_tokens = args.batch or BATCH_ON_GPU["paper"], config.context
    d_head = config.d_model // config.n_heads
    shape = (3, n_cells, config.n_heads, n_tokens, d_head)
    heads = torch.randn(shape, device="cuda", dtype=torch.float16, requires_grad=True)
    seen = torch.arange(n_tokens, device="cuda") < n_tokens - 10
    masks = {"no mask": None, "mask": seen.expand(n_cells, 1, 1, n_tokens)}
    kernels = {
        "flash": SDPBackend.FLASH_ATTENTION,
        "memory-efficient": SDPBackend.EFFICIENT_ATTENTION,
        "cuDNN": SDPBackend.CUDNN_ATTENTION,
    }

    def attend(kernel: Any, mask: Any, dropout: float, backward: bool) -> None:
        with sdpa_kernel(kernel), torch.set_grad_enabled(backward):
            mixed = F.scaled_dot_product_attention(*heads, attn_mask=mask, dropout_p=dropout)
            if backward:
                mixed.sum().backward()

    rows = []
    for name, kernel in kernels.items():
        for mask in ("no mask",) if name == "flash" else masks:
            for dropout in (0.0, 0.1):
                steps = {
                    way: partial(attend, kernel, masks[mask], dropout, way == "both")
                    for way in ("forward", "both")
                }
                seconds = {
                    f"{way}_ms": 1e3 * float(np.median(times))
                    for way, times in seconds_of(steps, args.steps).items()
                }
                rows.append({"kernel": name, "mask": mask, "dropout": dropout, **seconds})
                print(json.dumps({k: _short(v) for k, v in rows[-1].items()}), flush=True)
    _write(args, rows)


def bench_dropout(args: argparse.Namespace) -> None:
    """Time training steps on the CPU with dropout, and without, in turn."""
    rows = []
    for preset in args.presets:
        n_cells = args.batch or BATCH[preset]
        steps: dict[str, Callable[[], object]] = {}
        for dropout in (0.0, 0.1):
            settings = {**get_preset(preset, "masked").model, "dropout": dropout}
            config = ModelConfig.from_dict(settings)
            network = CellTransformer(config, N_GENES)
            batch = Tokenizer(config.context, mask_fraction=0.5)(
                full_cells(n_cells), np.arange(n_cells), np.arange(N_GENES)
            )
            optimizer = torch.optim.AdamW(network.parameters(), lr=1e-4)
            scaler = torch.amp.GradScaler("cpu", enabled=False)
            half = torch.autocast("cpu", enabled=False)
            steps[str(dropout)] = _training(network, optimizer, scaler, half, batch)
        seconds = np.array(list(seconds_of(steps, args.steps).values()))
        ratios = seconds[1] / seconds[0]
        row = {
            "preset": preset,
            "seconds_without": float(np.median(seconds[0])),
            "seconds_with": float(np.median(seconds[1])),
            "ratio": float(np.median(ratios)),
            "ratio_least": float(ratios.min()),
            "ratio_most": float(ratios.max()),
            "batch": n_cells,
            "context": config.context,
        }
        rows.append(row)
        print(json.dumps({k: _short(v) for k, v in row.items()}), flush=True)
    _write(args, rows)


def bench_threads(args: argparse.Namespace) -> None:
    """Time whole trainings of preset small with numbers of threads, beside busy processes."""
    adata = anndata.AnnData(full_cells(N_VISITS))
    scenc.Model.setup_anndata(adata)
    most = torch.get_num_threads()
    choices = {"chosen": None, "1": 1, **({str(most): most} if most > 1 else {})}
    rows = []
    for n_busy in args.busy:
        seconds: dict[str, list[float]] = {name: [] for name in choices}
        with busy_processes(n_busy):
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
            row = {
                "busy_processes": n_busy,
                "n_threads": name,
                "seconds": float(np.median(times)),
                "seconds_least": min(times),
            }
            rows.append(row)
            print(json.dumps({k: _short(v) for k, v in row.items()}), flush=True)
    _write(args, rows)


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


# What is varied, from preset small: genes a cell, width, blocks, and cells a batch.
SCALES: dict[str, tuple[int, ...]] = {
    "context": (64, 128, 256, 512, 1024),
    "d_model": (32, 64, 128, 256, 512),
    "n_layers": (1, 2, 4, 8),
    "batch": (2, 4, 8, 16, 32, 64),
}
SCALE_NAMES = {
    "context": "genes a cell",
    "d_model": "width",
    "n_layers": "blocks",
    "batch": "cells a batch",
}


def bench_scaling(args: argparse.Namespace) -> None:
    """Time steps as one of preset small's sizes changes, and draw them."""
    rows = []
    for scale, sizes in SCALES.items():
        for size in sizes:
            for row in time_sizes({"batch": args.batch or 16, scale: size}, args):
                rows.append({"scale": scale, "size": size, **row})
                print(json.dumps({k: _short(v) for k, v in rows[-1].items()}), flush=True)
    _write(args, rows)
    if args.figure is not None:
        draw_scaling(pd.DataFrame(rows), args.figure)


def time_sizes(sizes: dict[str, int], args: argparse.Namespace) -> list[dict[str, Any]]:
    """Time a training step and embedding at preset small's sizes, some of them changed."""
    n_cells, settings = sizes["batch"], {**get_preset("small", "masked").model, **sizes}
    del settings["batch"]
    if "d_model" in sizes:
        width = sizes["d_model"]
        settings |= {"n_heads": max(1, width // 32), "d_feedforward": 2 * width}
    config, device = ModelConfig.from_dict(settings), torch.device(args.device)
    half, scaler = mixed_precision(device)
    tokens = {
        what: Tokenizer(config.context, mask_fraction=share)(
            full_cells(n_cells), np.arange(n_cells), np.arange(N_GENES)
        ).to(device)
        for what, share in (("train", 0.5), ("embed", 0.0))
    }
    network = CellTransformer(config, N_GENES).to(device)
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-4)
    steps: dict[str, Callable[[], object]] = {
        "train": _training(network, optimizer, scaler, half, tokens["train"]),
        "embed": _embedding(network, half, tokens["embed"]),
    }
    lengths = tokens["embed"].lengths.cpu().numpy()
    peak = peak_gflops(config, int(lengths.sum()), device, half)
    return [
        {
            "what": what,
            "ms_per_cell": 1e3 * float(np.median(seconds)) / n_cells,
            "ms_of_products": flops_of_step(config, lengths, what == "train")
            / n_cells
            / peak
            / 1e6,
        }
        for what, seconds in seconds_of(steps, args.steps).items()
    ]


def draw_scaling(rows: pd.DataFrame, path: Path) -> None:
    """Draw the time of a cell by each size, beside that of its matrix products alone."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, len(SCALES), figsize=(11, 3), layout="constrained", sharey=True)
    for ax, (scale, sizes) in zip(axes, SCALES.items(), strict=True):
        for what, color in (("train", "C0"), ("embed", "C1")):
            own = rows[(rows["scale"] == scale) & (rows["what"] == what)]
            ax.plot(own["size"], own["ms_per_cell"], "o-", color=color, label=what)
            products = f"{what}, matrix products alone"
            ax.plot(own["size"], own["ms_of_products"], ":", color=color, label=products)
        ax.set(xscale="log", yscale="log", xlabel=SCALE_NAMES[scale])
        ax.set_xticks(sizes, [str(size) for size in sizes])
        ax.minorticks_off()
    axes[0].set_ylabel("milliseconds a cell")
    handles = axes[0].get_legend_handles_labels()
    figure.legend(*handles, loc="outside lower center", ncols=4, frameon=False)
    scenc.pl.save(axes[0], path)
    plt.close(figure)


class Waiting(Callback):
    """Measures what passes from one batch's end to the next one's start: waiting for data, mostly.

    An epoch's first batch is left out: nothing is made before an epoch begins.

    Attributes
    ----------
    seconds
        Seconds of the day so far.
    """

    def __init__(self) -> None:
        self.seconds = 0.0
        self._end: float | None = None

    def on_train_batch_end(self, *_: Any) -> None:
        """Start the clock."""
        self._end = time.perf_counter()

    def on_train_batch_start(self, trainer: Any, *_: Any) -> None:
        """Stop it, unless the batch is an epoch's first."""
        if self._end is not None and trainer.fit_loop.epoch_loop.batch_idx:
            self.seconds += time.perf_counter() - self._end

    def on_train_epoch_end(self, *_: Any) -> None:
        """Leave out what is not training."""
        self._end = None

    on_validation_start = on_train_epoch_end


def bench_training(args: argparse.Namespace) -> None:
    """Time whole trainings, from counts to the embedding, and what they wait for data."""
    adata = many_cells(args.n_cells, 1_500)
    rows = []
    for preset in args.presets:
        for objective in args.objectives:
            scenc.Model.setup_anndata(adata, batch_key="batch")
            start, waiting = clock(), Waiting()
            model = scenc.Model(adata, preset=preset, objective=objective)
            made = clock()
            visits = {} if args.visits is None else {"cell_visits": args.visits}
            model.train(
                accelerator=args.device,
                callbacks=[waiting],
                enable_progress_bar=False,
                check=False,
                **visits,
            )
            trained = clock()
            model.get_latent_representation()
            embedded = clock()
            losses, config = model.history["train_loss"], model.train_config
            row = {
                "preset": preset,
                "objective": objective,
                "cells": adata.n_obs,
                "visits": len(losses) * config.batch_size * config.accumulate_grad_batches,
                "start_s": made - start,
                "train_s": trained - made,
                "waiting_s": waiting.seconds,
                "embed_s": embedded - trained,
                "seconds": embedded - start,
            }
            rows.append(row)
            print(json.dumps({k: _short(v) for k, v in row.items()}), flush=True)
    _write(args, rows)


def bench_views(args: argparse.Namespace) -> None:
    """Time how pairs of views are made, which the default objective trains on."""
    adata = many_cells(4096, N_EXPRESSED)
    # The 2,000 most frequent genes are the vocabulary; the others are counted.
    gene_map = np.where(np.arange(N_GENES) < 2000, np.arange(N_GENES), scenc.data.COUNTED)
    preset = get_preset("small", "generative")
    train = scenc.train.TrainConfig(**preset.train)
    batches = adata.obs["batch"].cat.codes.to_numpy().astype(np.int64)
    views = scenc.data.ViewDataset(
        scenc.data.open_rows(adata.X),
        gene_map,
        Tokenizer(train.view_genes, totals=True),
        scenc.data.Neighborhoods.alone(batches),
        depth=train.view_depth,
        same_cell=1.0,
        covariates=batches[:, None],
    )
    everything = np.arange(adata.n_obs)
    requests = [
        scenc.data.Request(rows, 0)
        for rows in np.split(everything, everything[train.batch_size :: train.batch_size])
    ]
    seconds = seconds_of({"pairs": lambda: [views[of] for of in requests]}, args.steps)["pairs"]
    row = {
        "cells": adata.n_obs,
        "genes a cell": float(np.diff(adata.X.indptr).mean()),
        "us_a_pair": 1e6 * float(np.median(seconds)) / adata.n_obs,
        "us_least": 1e6 * min(seconds) / adata.n_obs,
        "us_most": 1e6 * max(seconds) / adata.n_obs,
    }
    _write(args, [row])


def bench_preparation(args: argparse.Namespace) -> None:
    """Time what objectives with partners need before it trains, and its memory."""
    from scenc.model._aligned_counts import align_anndata
    from scenc.model._components import find_components, sample, variable_genes
    from scenc.model._neighborhoods import find_neighborhoods

    rows = [bench_neighbors(n_cells) for n_cells in args.places]
    for n_cells in args.sizes:
        adata = many_cells(n_cells, args.genes)
        batches = adata.obs["batch"].cat.codes.to_numpy().astype(np.int64)
        found: dict[str, Any] = {}

        def align(adata: Any = adata, found: dict[str, Any] = found) -> None:
            found["cells"] = align_anndata(adata, {}, adata.var_names, adata.var_names[:0])

        def choose(batches: Any = batches, found: dict[str, Any] = found) -> None:
            kept = variable_genes(found["cells"], N_GENES, 2000, 1e4, batches, 0)
            found["cells"] = found["cells"].with_genes(kept, scenc.data.COUNTED)

        def components(found: dict[str, Any] = found) -> None:
            values = sample(found["cells"], 2000, 1e4, 0)
            found["places"] = find_components(values, 64, 0).project(found["cells"], 1e4)

        def neighbours(batches: Any = batches, found: dict[str, Any] = found) -> None:
            find_neighborhoods(found["places"], batches, 20, 0)

        for stage in (align, choose, components, components, neighbours):
            start, day = time.process_time(), time.perf_counter()
            memory = peak_memory(stage)
            row = {
                "cells": n_cells,
                "stage": stage.__name__,
                "processor_s": time.process_time() - start,
                "seconds": time.perf_counter() - day,
                "memory_gb": memory,
                "data_gb": (adata.X.data.nbytes + adata.X.indices.nbytes) / 1e9,
            }
            rows.append(row)
            print(json.dumps({k: _short(v) for k, v in row.items()}), flush=True)
    _write(args, rows)


def bench_neighbors(n_cells: int) -> dict[str, Any]:
    """Time Harmony and neighbours of cells of 30 types in ten batches, given their components."""
    from scenc.model._neighborhoods import find_neighborhoods

    rng = np.random.default_rng(0)
    types, batches = rng.integers(0, 30, n_cells), rng.integers(0, 10, n_cells)
    centres = 3 * rng.normal(size=(30, 64)).astype(np.float32)
    shifts = 0.7 * rng.normal(size=(10, 64)).astype(np.float32)
    places = rng.standard_normal((n_cells, 64), dtype=np.float32)
    places += centres[types] + shifts[batches]
    find_neighborhoods(places[:3000], batches[:3000], 20, 0)
    start, day = time.process_time(), time.perf_counter()
    memory = peak_memory(lambda: find_neighborhoods(places, batches, 20, 0))
    row = {
        "cells": n_cells,
        "stage": "neighbours of given places",
        "processor_s": time.process_time() - start,
        "seconds": time.perf_counter() - day,
        "memory_gb": memory,
        "data_gb": places.nbytes / 1e9,
    }
    print(json.dumps({k: _short(v) for k, v in row.items()}), flush=True)
    return row


def _short(value: Any) -> Any:
    return float(f"{value:.3g}") if isinstance(value, float) else value


def _write(args: argparse.Namespace, rows: list[dict[str, Any]]) -> None:
    """Write rows as JSON with what the machine is, and print them as a table."""
    frame = pd.DataFrame([{k: _short(v) for k, v in row.items()} for row in rows])
    print(frame.to_string(index=False))
    if args.json is None:
        return
    on_gpu = getattr(args, "device", "cpu") == "cuda"
    machine = {
        "device": torch.cuda.get_device_name() if on_gpu else _processor(),
        "threads": torch.get_num_threads(),
        "seconds": "of the processor" if torch.get_num_threads() == 1 else "of the day",
        "torch": torch.__version__,
        "python": platform.python_version(),
    }
    args.json.write_text(json.dumps({"machine": machine, "rows": rows}, indent=1) + "\n")


def _processor() -> str:
    """Return the processor's name."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parts = parser.add_subparsers(required=True)
    benches = {
        "presets": bench_presets,
        "attention": bench_attention,
        "dropout": bench_dropout,
        "threads": bench_threads,
        "training": bench_training,
        "views": bench_views,
        "scaling": bench_scaling,
        "preparation": bench_preparation,
    }
    of = {}
    for name, run in benches.items():
        of[name] = part = parts.add_parser(name, help=run.__doc__)
        part.set_defaults(run=run)
        part.add_argument("--json", type=Path, help="file for the results")
        part.add_argument("--steps", type=int, default=5, help="times that each is measured")
    for name in ("presets", "dropout"):
        of[name].add_argument("--presets", nargs="+", default=["small", "paper"], choices=BATCH)
    of["attention"].set_defaults(device="cuda")
    of["scaling"].add_argument("--device", default="cpu")
    of["scaling"].add_argument("--figure", type=Path, help="file for the curves")
    for name in ("presets", "attention", "dropout", "scaling"):
        of[name].add_argument("--batch", type=int, help="cells a step")
    of["presets"].add_argument("--device", default="cpu", help="cuda: in FP16 mixed precision")
    of["presets"].add_argument(
        "--compile", action="store_true", help="train with compiled blocks as well"
    )
    of["presets"].add_argument("--cells", help="h5ad file with counts of real cells in X")
    kinds = ["full", "real"]
    of["presets"].add_argument("--kinds", nargs="+", default=kinds, choices=kinds, help="of cells")
    of["training"].add_argument("--device", default="cpu")
    of["training"].add_argument("--presets", nargs="+", default=["small"], choices=BATCH)
    of["training"].add_argument("--objectives", nargs="+", default=["generative"])
    of["training"].add_argument("--n-cells", type=int, default=12_000)
    of["training"].add_argument("--visits", type=int, help="the preset's by default")
    of["threads"].add_argument("--busy", nargs="+", type=int, default=[0, 2])
    of["preparation"].add_argument("--sizes", nargs="*", type=int, default=[10_000, 100_000])
    of["preparation"].add_argument(
        "--places", nargs="*", type=int, default=[], help="cells whose components are given"
    )
    of["preparation"].add_argument("--genes", type=int, default=1_000, help="drawn for each cell")
    args = parser.parse_args()
    # As in training and embedding; products of 16 bits are not concerned.
    with without_cudnn_attention(), tf32_products(True):
        args.run(args)


if __name__ == "__main__":
    main()
