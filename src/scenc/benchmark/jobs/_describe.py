"""The description of a run, which is `Results.run`: versions, settings, data, seeds, machine."""

from __future__ import annotations

import os
import platform
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from scenc.benchmark.entries._sets import source_name

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from scenc.benchmark.entries._entries import Entry
    from scenc.benchmark.entries._sets import EvaluationSet, TrainingSet
    from scenc.benchmark.jobs._jobs import BenchmarkPlan, Job
    from scenc.benchmark.jobs._store import JobStore


def describe(
    plan: BenchmarkPlan,
    *,
    title: str,
    train: TrainingSet | None,
    evaluate: Mapping[str, EvaluationSet],
    gene_vectors: str | None,
    threads: int,
) -> dict[str, Any]:
    """Return title, versions, settings, data, seeds and machine, as plain values."""
    return {
        "title": title,
        "versions": {**plan.versions, "python": platform.python_version()},
        "settings": _settings(plan.entries, plan.seeds[0]),
        "training_data": _training(plan, train),
        "evaluation_sets": {
            name: {
                "source": source_name(evaluate[name].data),
                **plan.evaluation[name].facts,
                "batch_key": evaluate[name].batch_key,
                "label_key": evaluate[name].label_key,
                "min_cells": evaluate[name].min_cells,
            }
            for name in plan.evaluation
        },
        "gene_vectors": gene_vectors,
        "scoring": dict(plan.scoring),
        "seeds": list(plan.seeds),
        "budgets": list(plan.budgets),
        "negative_controls": list(plan.negative_controls),
        "threads_per_job": threads,
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": machine(),
    }


def machine() -> dict[str, Any]:
    """Return system, processor, cores, memory and GPUs of this machine."""
    import torch

    gpus = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return {
        "system": platform.platform(terse=True),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "memory_gb": _memory(),
        "gpus": gpus,
    }


def add_coverage(run: dict[str, Any], jobs: Sequence[Job], store: JobStore) -> None:
    """Add how many genes of each evaluation set the models know, from the records of embedding."""
    for job in jobs:
        if job.task != "embed" or job.dataset is None:
            continue
        facts = run["evaluation_sets"][job.dataset]
        if "genes_matched" in facts or not job.spec["scenc"]:
            continue
        record = store.record(job.key) or {}
        if "genes" in record:
            facts["genes_matched"] = record["genes"]["n_matched"]


def _settings(entries: Sequence[Entry], seed: int) -> dict[str, Any]:
    """Return the settings that all encodings share, and those in which each differs."""
    settings = {entry.name: _flat(entry.settings(seed)) for entry in entries}
    models = {entry.name: settings[entry.name] for entry in entries if entry.encoding is not None}
    shared = {
        key: value
        for key, value in next(iter(models.values()), {}).items()
        if all(other.get(key) == value for other in models.values()) and key != "model.seed"
    }
    each = {
        name: {key: value for key, value in of.items() if key not in shared and key != "model.seed"}
        if name in models
        else of
        for name, of in settings.items()
    }
    return {"shared": shared, "each": each}


def _flat(settings: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in settings.items():
        if isinstance(value, dict):
            flat |= _flat(value, f"{prefix}{key}.")
        elif key != "source" or prefix:
            flat[f"{prefix}{key}"] = list(value) if isinstance(value, tuple) else value
    return flat


def _training(plan: BenchmarkPlan, train: TrainingSet | None) -> dict[str, Any] | None:
    if plan.training is None or train is None:
        return None
    return {
        "sources": [source_name(source, i) for i, source in enumerate(train.sources)],
        "n_cells": plan.training.n_cells,
        "n_genes": plan.training.n_genes,
        "batch_key": train.batch_key,
    }


def _processor() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            for line in file:
                if line.startswith("model name"):
                    return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def _memory() -> float | None:
    try:
        return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1)
    except (AttributeError, ValueError, OSError):
        return None
