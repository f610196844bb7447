"""Estimates of the time and memory of jobs, before any is done.

Each network is timed for a few training steps on this machine. Seconds per FLOP of its forward pass
then give the time of training and embedding on data of any size. A network that is too large to be
timed on a CPU is timed in a smaller version, with about the same seconds per FLOP. Scoring,
baselines and memory follow from constants.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from scenc.benchmark.entries._fingerprint import digest
from scenc.benchmark.entries._methods import PCA, SCVI
from scenc.benchmark.jobs._collect import job_states
from scenc.benchmark.jobs._work import limited

if TYPE_CHECKING:
    from scenc.benchmark.entries._entries import Entry
    from scenc.benchmark.jobs._jobs import BenchmarkPlan, Job
    from scenc.benchmark.jobs._prepare import Prepared
    from scenc.benchmark.jobs._store import JobStore

# Measured on one core of a 2-core virtual machine with `small`: seconds of any job, and seconds per
# cell of all scores (of sets of 175 to 12,261 cells, 23,064 in all) and of each baseline (scVI: per
# epoch).
_JOB_SECONDS = 1.0
_SCORE_SECONDS, _PCA_SECONDS, _SCVI_SECONDS = 6e-4, 5e-4, 1.2e-4
# MB of a process with all libraries loaded; bytes per value of counts while these are read.
_PROCESS_MB, _VALUE_BYTES = 1400.0, 32
# A network larger than this (FLOPs of a cell) is timed in a smaller version of itself.
_MOST_FLOPS = 5e8
# Cells in a timed step, and steps.
_CELLS, _STEPS = 32, 4


@dataclass(frozen=True)
class Rates:
    """Measured speed and size of a network.

    Attributes
    ----------
    train
        Seconds of a training step per FLOP of its forward pass.
    n_parameters
        Number of parameters of the network.
    """

    train: float
    n_parameters: int

    @property
    def embed(self) -> float:
        """Seconds of a forward pass per FLOP: the backward one takes twice as long."""
        return self.train / 3


def estimate(plan: BenchmarkPlan, store: JobStore, threads: int) -> pd.DataFrame:
    """Return all jobs with estimates; see `Benchmark.jobs`."""
    jobs = plan.jobs()
    entries = {entry.name: entry for entry in plan.entries}
    states = job_states(jobs, store)
    start = time.perf_counter()
    with limited(threads):
        rates = _all_rates(plan)
    spent = time.perf_counter() - start
    rows = [
        {
            "job": job.name,
            "task": job.task,
            "encoding": job.entry,
            "dataset": job.dataset,
            "seed": job.seed,
            "budget": job.budget,
            "status": states[job.key].status,
            **_one(job, entries[job.entry], plan, rates),
        }
        for job in jobs
    ]
    table = pd.DataFrame(rows).astype({"budget": "Int64"})
    table.attrs["basis"] = (
        f"Estimates: training and embedding from {_STEPS} steps of each network timed here in "
        f"{spent:.0f} s on {_device()} ({threads} thread{'s' if threads > 1 else ''} a job), "
        "scaled by its FLOPs; scoring and baselines, and all memory, from constants measured on "
        "another machine."
    )
    return table


def forward_flops(model: dict[str, Any], tokens: float) -> float:
    """Return the FLOPs of one cell's forward pass: the matrix products of the transformer."""
    d, feedforward = model["d_model"], model["d_feedforward"]
    per_token = model["n_layers"] * (8 * d * d + 4 * d * feedforward + 4 * d * tokens) + 2 * d * d
    return float(tokens * per_token)


def _all_rates(plan: BenchmarkPlan) -> dict[str, Rates]:
    """Time each network there is, seeds aside."""
    rates: dict[str, Rates] = {}
    by_shape: dict[str, Rates] = {}
    for entry in plan.entries:
        if entry.encoding is None:
            continue
        settings = entry.settings(0)
        shape = digest(settings["model"])
        if shape not in by_shape:
            by_shape[shape] = _time_network(entry, settings, plan)
        rates[entry.name] = by_shape[shape]
    return rates


def _time_network(entry: Entry, settings: dict[str, Any], plan: BenchmarkPlan) -> Rates:
    """Train a network on made-up cells of the size of the real ones, for a few steps."""
    import anndata
    import scipy.sparse as sp
    import torch

    from scenc.model import Model

    training = plan.training
    model = dict(settings["model"])
    tokens = round(_tokens(training, model))
    if forward_flops(model, tokens) > _MOST_FLOPS:
        model["n_layers"], tokens = 1, min(tokens, 256)
    n_genes = max((training.n_genes if training else None) or 20_000, tokens)
    rng = np.random.default_rng(0)
    columns = np.concatenate([rng.choice(n_genes, tokens, replace=False) for _ in range(_CELLS)])
    values = rng.geometric(0.5, len(columns)).astype(np.float32)
    pointers = np.arange(_CELLS + 1) * tokens
    counts = sp.csr_matrix((values, columns, pointers), (_CELLS, n_genes))
    names = pd.Index([f"gene {i}" for i in range(n_genes)])
    cells = anndata.AnnData(counts, var=pd.DataFrame(index=names))
    Model.setup_anndata(cells)
    vectors = None
    if entry.needs_vectors:
        vectors = rng.standard_normal((n_genes, 384), dtype=np.float32)
    network = Model(cells, preset=settings["preset"], protein_embeddings=vectors, **model)

    # Of this process alone, where that is all there is to it: other programs may be running.
    clock = time.perf_counter if torch.cuda.is_available() else time.process_time

    def train(n_steps: int) -> float:
        start = clock()
        network.train(
            max_epochs=n_steps, batch_size=_CELLS, accumulate_grad_batches=1, validation_size=0.0,
            test_size=0.0, early_stopping=False, enable_progress_bar=False,
        )  # fmt: skip
        return clock() - start

    train(1)  # compiles
    step = max(train(1 + _STEPS) - train(1), 1e-3) / _STEPS
    if clock is time.process_time:
        step /= torch.get_num_threads()
    full = settings["model"]
    n_parameters = sum(weight.numel() for weight in network.module.parameters())
    grown = (full["n_layers"] - model["n_layers"]) * _block_parameters(full)
    return Rates(step / (_CELLS * forward_flops(model, tokens)), n_parameters + grown)


def _block_parameters(model: dict[str, Any]) -> int:
    d = int(model["d_model"])
    return 4 * d * d + 2 * d * int(model["d_feedforward"])


def _one(job: Job, entry: Entry, plan: BenchmarkPlan, rates: dict[str, Rates]) -> dict[str, float]:
    """Return seconds and memory of a job; NaN where the size of the data is not known."""
    cells = plan.training if job.dataset is None else plan.evaluation[job.dataset]
    assert cells is not None
    n = math.nan if cells.n_cells is None else float(cells.n_cells)
    memory = _PROCESS_MB + _VALUE_BYTES * _n_values(cells) / 1e6
    if job.task == "score":
        return {"seconds": _JOB_SECONDS + _SCORE_SECONDS * n, "memory_mb": memory}
    if entry.encoding is None:
        return {"seconds": _JOB_SECONDS + n * _method_seconds(entry, n), "memory_mb": memory}
    rate, settings = rates[entry.name], entry.settings(job.seed)
    flops = forward_flops(settings["model"], _tokens(cells, settings["model"]))
    training = settings["training"]
    batch = training["batch_size"] if training and job.task == "train" else 128
    memory += (rate.n_parameters * 16 + batch * _activation_bytes(settings["model"], cells)) / 1e6
    if job.task == "embed":  # once for the embedding, once for the reconstruction
        return {"seconds": _JOB_SECONDS + 2 * n * flops * rate.embed, "memory_mb": memory}
    seconds = _training_seconds(job, plan, training, n, flops, rate) if training else 0.0
    return {"seconds": _JOB_SECONDS + seconds, "memory_mb": memory}


def _training_seconds(
    job: Job, plan: BenchmarkPlan, training: dict[str, Any], n: float, flops: float, rate: Rates
) -> float:
    """Return the seconds of a training, or of the part of it between two budgets."""
    from scenc.train import TrainConfig

    if math.isnan(n):
        return math.nan
    n_validation = n * training["validation_size"]
    n_train = n - n_validation - n * training["test_size"]
    if job.budget is None:
        names = [field.name for field in fields(TrainConfig) if field.name in training]
        config = {name: training[name] for name in names}
        visits = TrainConfig(**config).epochs(math.ceil(n_train)) * n_train
    else:
        visits = job.budget - max((b for b in plan.budgets if b < job.budget), default=0)
    n_checks = visits / n_train
    if training["validate_every"] is not None:
        per_step = training["batch_size"] * training["accumulate_grad_batches"]
        n_checks = visits / per_step / training["validate_every"]
    return float(flops * (visits * rate.train + n_checks * n_validation * rate.embed))


def _method_seconds(entry: Entry, n: float) -> float:
    """Seconds a cell, for the baselines; other methods are unknown."""
    if isinstance(entry.method, PCA):
        return _PCA_SECONDS
    if isinstance(entry.method, SCVI) and not math.isnan(n):
        usual = max(1, min(400, round(20_000 / n * 400)))
        return _SCVI_SECONDS * (entry.method.max_epochs or usual)
    return math.nan


def _tokens(cells: Prepared | None, model: dict[str, Any]) -> float:
    """Return the mean number of tokens of a cell; the context where cells are not known."""
    if cells is None or not len(cells.genes_per_cell):
        return float(model["context"] or 2000)
    most = model["context"] or np.inf
    return max(1.0, float(np.minimum(cells.genes_per_cell, most).mean()))


def _n_values(cells: Prepared) -> float:
    if len(cells.genes_per_cell):
        return float(cells.genes_per_cell.sum())
    return math.nan if cells.n_cells is None else 1500.0 * cells.n_cells


def _activation_bytes(model: dict[str, Any], cells: Prepared) -> float:
    """Return what one cell's forward pass keeps for the backward one."""
    tokens = _tokens(cells, model)
    d = model["d_model"]
    per_token = model["n_layers"] * (12 * d + 2 * model["d_feedforward"]) + 8 * d
    return float(4 * tokens * per_token)


def _device() -> str:
    import torch

    return torch.cuda.get_device_name() if torch.cuda.is_available() else "the CPU"
