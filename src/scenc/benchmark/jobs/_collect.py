"""The results of jobs, collected from the store into tidy tables."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from scenc.benchmark.jobs._train_model import CURVES as CURVES_FILE
from scenc.results import CHECKS, CURVES, JOBS, METRICS, SCORES, Results

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from scenc.benchmark.entries._entries import Entry
    from scenc.benchmark.jobs._jobs import Job
    from scenc.benchmark.jobs._store import JobStore

_CURVE_NAMES = {"train_loss": "reconstruction_loss_train"}


@dataclass(frozen=True)
class State:
    """Status of a job.

    Attributes
    ----------
    status
        ``"done"``, ``"diverged"``, ``"failed"`` or ``"pending"``.
    reason
        Why it failed or diverged.
    record
        Its record in the store; empty if it has not finished.
    """

    status: str
    reason: str
    record: Mapping[str, Any]


def job_states(jobs: Sequence[Job], store: JobStore) -> dict[str, State]:
    """Return the state of each job, by key; a job that needs a failed one has failed too."""
    states: dict[str, State] = {}
    names: dict[str, str] = {}
    for job in jobs:
        names.setdefault(job.key, job.name)
        if (record := store.record(job.key)) is not None:
            states[job.key] = State(record["status"], record["reason"], record)
        elif failed := [key for key in job.needs if states[key].status == "failed"]:
            reason = f"{names[failed[0]]} failed: {states[failed[0]].reason}"
            states[job.key] = State("failed", reason, {})
        elif failure := store.failure(job.key):
            states[job.key] = State("failed", str(failure.get("reason", "unknown")), {})
        else:
            states[job.key] = State("pending", "", {})
    return states


def collect(
    jobs: Sequence[Job], entries: Sequence[Entry], store: JobStore, run: dict[str, Any]
) -> Results:
    """Return the results of all jobs that have finished so far."""
    states = job_states(jobs, store)
    of = {entry.name: entry for entry in entries}
    scores: list[dict[str, Any]] = []
    checks: list[dict[str, Any]] = []
    trained: dict[tuple[str, int], Job] = {}
    for job in jobs:
        if job.task == "score":
            rows = _scores(job, of[job.entry], states)
            if job.shuffled is None:
                scores += rows
            else:
                checks += [{**row, "shuffled": job.shuffled} for row in rows]
        elif job.task == "train" and "spec" in states[job.key].record:
            # Budgets grow: the curves of the largest so far hold those of the others.
            trained[job.entry, job.seed] = job
    curves = [row for job in trained.values() for row in _curves(job, store)]
    return Results.from_tables(
        pd.DataFrame(scores, columns=list(SCORES)),
        pd.DataFrame(curves, columns=list(CURVES)),
        pd.DataFrame([_job(job, states[job.key]) for job in jobs], columns=list(JOBS)),
        run,
        checks=_beside_intact(checks, scores),
    )


def _beside_intact(
    checks: Sequence[Mapping[str, Any]], scores: Sequence[Mapping[str, Any]]
) -> pd.DataFrame:
    """Return the scores of negative controls beside those of the same models left as they are."""
    keys = ("encoding", "dataset", "metric", "seed", "budget")
    intact = {tuple(row[key] for key in keys): row["value"] for row in scores}
    rows = [{**row, "intact": intact.get(tuple(row[key] for key in keys))} for row in checks]
    return pd.DataFrame(rows, columns=list(CHECKS))


def _scores(job: Job, entry: Entry, states: Mapping[str, State]) -> list[dict[str, Any]]:
    """Return one row per metric; none for a job that is still to be done."""
    state, embedded = states[job.key], states[job.needs[0]].record
    if state.status == "pending":
        return []
    row = {
        "encoding": entry.name,
        "kind": entry.kind,
        "gene_encoder": entry.gene_encoder,
        "expression_encoder": entry.expression_encoder,
        "dataset": job.dataset,
        "seed": job.seed,
        "budget": job.budget,
    }
    values = dict(state.record.get("scores", {}))
    reasons = dict(state.record.get("reasons", {}))
    if entry.gene_encoder is None:
        reasons["reconstruction_mse"] = _no_reconstruction(entry)
    else:
        values["reconstruction_mse"] = embedded.get("reconstruction_mse")
        if "reconstruction_mse" in embedded:
            reasons["reconstruction_mse"] = "no masked genes were trained"
    rows = []
    for metric in METRICS:
        value = values.get(metric)
        reason = reasons.get(metric, state.reason) if value is None else ""
        rows.append(
            {**row, "metric": metric, "value": np.nan if value is None else value, "reason": reason}
        )
    return rows


def _no_reconstruction(entry: Entry) -> str:
    if entry.encoding is not None:
        return "an untrained model has not learned to predict expression"
    return f"{entry.name} does not predict masked expression"


def _curves(job: Job, store: JobStore) -> list[dict[str, Any]]:
    path = store.folder(job.key) / CURVES_FILE
    if not path.is_file():
        return []
    history = json.loads(path.read_text(encoding="utf-8"))
    per_epoch = history["steps_per_epoch"]
    return [
        {
            "encoding": job.entry,
            "seed": job.seed,
            "metric": _CURVE_NAMES.get(name, name),
            "epoch": (step + 1) / per_epoch if per_epoch else np.nan,
            "step": step,
            "value": np.nan if value is None else value,
        }
        for name, curve in history["curves"].items()
        for step, value in zip(curve["step"], curve["value"], strict=True)
    ]


def _job(job: Job, state: State) -> dict[str, Any]:
    return {
        "job": job.name,
        "task": job.task,
        "encoding": job.entry,
        "dataset": job.dataset,
        "seed": job.seed,
        "budget": job.budget,
        "status": state.status,
        "reason": state.reason,
        "diverged_step": state.record.get("diverged_step"),
        "n_steps": state.record.get("n_steps"),
        "seconds": state.record.get("seconds", np.nan),
        "peak_memory_mb": state.record.get("peak_memory_mb") or np.nan,
    }
