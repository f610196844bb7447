"""The three tasks: train, embed, score. They run in the process that a job is sent to."""

from __future__ import annotations

import copy
import math
from typing import TYPE_CHECKING, Any

import numpy as np

from scenc.benchmark.jobs._prepare import BATCH, LABEL
from scenc.benchmark.jobs._shuffle import permute_labels, shuffle_expression, shuffle_genes
from scenc.benchmark.jobs._train_model import MODEL, train_model
from scenc.benchmark.jobs._train_processes import train_in_processes

if TYPE_CHECKING:
    from pathlib import Path

    from anndata import AnnData
    from numpy.typing import NDArray

    from scenc.benchmark.jobs._jobs import Job
    from scenc.benchmark.jobs._store import JobStore
    from scenc.model import Model

EMBEDDING = "embedding.npy"
_SHUFFLES = {"genes": shuffle_genes, "expression": shuffle_expression}


def perform(job: Job, store: JobStore, folder: Path) -> dict[str, Any]:
    """Do a job, write its files into a folder, and return the rest of its record."""
    if job.task == "train":
        return _train(job, store, folder)
    return _embed(job, store, folder) if job.task == "embed" else _score(job, store)


def _train(job: Job, store: JobStore, folder: Path) -> dict[str, Any]:
    settings = job.spec["settings"]
    if not job.spec["scenc"]:
        return _train_method(job, store, folder)
    if settings["training"] is not None and settings["training"].get("devices", 1) != 1:
        return train_in_processes(job.spec, store, folder)
    return train_model(job.spec, store, folder)


def _train_method(job: Job, store: JobStore, folder: Path) -> dict[str, Any]:
    fitted = _fit(job, store.read_data(job.spec["where"]["file"]))
    if "embeds" not in job.spec:
        fitted.save(folder / MODEL)
        return {}
    for content in job.spec["embeds"]:
        embedding = _embed_with(fitted, store.read_data(content), job.entry)
        np.save(folder / f"{content}.npy", embedding, allow_pickle=False)
    return {}


def _fit(job: Job, adata: AnnData) -> Any:
    method = copy.deepcopy(job.method)
    fitted = method.fit(adata, batch_key=BATCH if BATCH in adata.obs else None, seed=job.seed)
    return method if fitted is None else fitted


def _embed_with(fitted: Any, adata: AnnData, name: str) -> NDArray[np.float32]:
    embedding = np.asarray(fitted.embed(adata))
    if embedding.ndim != 2 or len(embedding) != adata.n_obs or embedding.dtype.kind not in "fiu":
        raise ValueError(
            f"embed() of {name!r} returned {embedding.dtype} values of shape {embedding.shape}; "
            f"expected numbers, one row for each of the {adata.n_obs} cells."
        )
    return embedding.astype(np.float32)


def _embed(job: Job, store: JobStore, folder: Path) -> dict[str, Any]:
    adata = store.read_data(job.spec["where"]["file"])
    record: dict[str, Any] = {}
    if job.needs and job.spec["scenc"]:
        embedding, record = _embed_with_model(job, store, adata)
    elif job.needs:
        kept = store.folder(job.needs[0])
        if (kept / MODEL).exists():
            loaded = copy.deepcopy(job.method)
            found = loaded.load(kept / MODEL)
            embedding = _embed_with(loaded if found is None else found, adata, job.entry)
        else:
            embedding = np.load(kept / f"{job.spec['data']}.npy", allow_pickle=False)
    else:
        embedding = _embed_with(_fit(job, adata), adata, job.entry)
    np.save(folder / EMBEDDING, embedding, allow_pickle=False)
    return record


def _embed_with_model(
    job: Job, store: JobStore, adata: AnnData
) -> tuple[NDArray[np.float32], dict[str, Any]]:
    import torch

    from scenc.model import Model

    path = store.folder(job.needs[0]) / MODEL
    if not path.exists():
        raise RuntimeError("there is no model: training diverged before any validation")
    model = Model.load(path)
    if torch.cuda.is_available():
        # Where it was trained, too. A CPU embeds the same, up to rounding, and far more slowly.
        model.module.to("cuda")
    if (shuffle := _SHUFFLES.get(job.spec.get("shuffled", ""))) is not None:
        adata.X = shuffle(adata.X, job.seed)
    embedding = model.get_latent_representation(adata, key_added=None)
    match = model.gene_coverage(adata)
    genes = {"n_matched": match.n_matched, "n_query": len(match.query)}
    return embedding, {"reconstruction_mse": _masked_error(model, adata, job.seed), "genes": genes}


def _masked_error(model: Model, adata: AnnData, seed: int) -> float | None:
    """Return the mean masked error over cells; None where no masked genes were trained."""
    if not model.predicts_masked_genes:
        return None
    errors = model.get_reconstruction_error(adata, seed=seed)
    known = errors[np.isfinite(errors)]  # a cell without counts has none
    return float(known.mean()) if len(known) else None


def _score(job: Job, store: JobStore) -> dict[str, Any]:
    from scenc.metrics import integration, knn_classification

    obs = store.read_data(job.spec["where"]["file"]).obs
    embedding = np.load(store.folder(job.needs[0]) / EMBEDDING, allow_pickle=False)
    if job.spec.get("shuffled") == "labels" and LABEL in obs:
        obs[LABEL] = permute_labels(obs[LABEL], job.seed)
    scoring = job.spec["scoring"]
    mixed = integration(
        embedding,
        obs.get(BATCH),
        obs.get(LABEL),
        metrics=scoring["metrics"],
        seed=job.seed,
    )
    typed = knn_classification(
        embedding, obs[LABEL], min_cells=scoring["min_cells"], k=scoring["k"], seed=job.seed
    )
    scores = {**mixed.to_dict(), "accuracy": typed.accuracy, "macro_f1": typed.macro_f1}
    reasons = {**mixed.reasons, **typed.reasons}
    for name, parts in (("batch_correction", "batches"), ("bio_preservation", "labels")):
        if math.isnan(scores[name]):
            reasons.setdefault(name, f"no score of {parts} is defined")
    return {
        "scores": {name: None if math.isnan(value) else value for name, value in scores.items()},
        "reasons": reasons,
        "notes": list(mixed.notes),
        "n_averaged": {
            "batch_correction": mixed.n_batch_correction,
            "bio_preservation": mixed.n_bio_preservation,
        },
        "classification": {
            "n_cells": typed.n_cells,
            "n_classes": typed.n_classes,
            "dropped": dict(typed.dropped),
        },
    }
