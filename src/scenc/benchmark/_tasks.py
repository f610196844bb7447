"""What jobs do: train, embed, score. Runs in whatever process the job is sent to."""

from __future__ import annotations

import copy
import math
from typing import TYPE_CHECKING, Any

import numpy as np

from scenc.benchmark._divergence import find_divergence
from scenc.benchmark._prepare import BATCH, LABEL
from scenc.benchmark._store import write_json

if TYPE_CHECKING:
    from pathlib import Path

    from anndata import AnnData
    from numpy.typing import NDArray

    from scenc.benchmark._jobs import Job
    from scenc.benchmark._store import Store
    from scenc.model import Model

_VALIDATION = ("validation_loss", "reconstruction_loss_validation")
MODEL, EMBEDDING, CURVES = "model", "embedding.npy", "curves.json"


def perform(job: Job, store: Store, folder: Path) -> dict[str, Any]:
    """Do a job, leaving files in a folder; return what is to be recorded of it."""
    if job.task == "train":
        return _train(job, store, folder)
    return _embed(job, store, folder) if job.task == "embed" else _score(job, store)


def _train(job: Job, store: Store, folder: Path) -> dict[str, Any]:
    settings = job.spec["settings"]
    if not job.spec["scenc"]:
        return _train_method(job, store, folder)
    if settings["training"] is not None and settings["training"].get("devices", 1) != 1:
        from scenc.benchmark._distributed import train_in_processes

        return train_in_processes(job.spec, store, folder)
    return train_model(job.spec, store, folder)


def train_model(spec: dict[str, Any], store: Store, folder: Path) -> dict[str, Any]:
    """Train a scenc model and save it with its curves.

    Parameters
    ----------
    spec
        Of a training job.
    store
        Where the data are.
    folder
        Where to leave the model.
    """
    from scenc.train import NonFiniteLossError

    settings = spec["settings"]
    model = _make_model(spec, store)
    record: dict[str, Any] = {"n_parameters": _n_parameters(model)}
    stopped = None
    if settings["training"] is not None:
        try:
            model.train(**settings["training"], enable_progress_bar=False)
        except NonFiniteLossError as error:
            stopped = error.step
    else:
        model.is_trained = True
    if not is_first_process():
        return record
    curves = _curves(model)
    write_json(folder / CURVES, curves)
    record |= _say_divergence(curves, stopped, bool(model.is_trained))
    if model.is_trained:
        model.save(folder / MODEL)
    return record


def is_first_process() -> bool:
    """Whether this is rank 0, or the only one."""
    import torch.distributed as dist

    return not (dist.is_available() and dist.is_initialized()) or dist.get_rank() == 0


def _make_model(spec: dict[str, Any], store: Store) -> Model:
    from scenc.genes import ProteinEmbeddings
    from scenc.model import Model

    settings = spec["settings"]
    adata = store.read_data(spec["where"]["file"])
    Model.setup_anndata(adata, batch_key=BATCH if BATCH in adata.obs else None)
    vectors = None
    if "vectors" in spec:
        vectors = ProteinEmbeddings.load(store.data / f"vectors-{spec['vectors']}.safetensors")
    return Model(adata, preset=settings["preset"], protein_embeddings=vectors, **settings["model"])


def _n_parameters(model: Model) -> int:
    return sum(weight.numel() for weight in model.module.parameters() if weight.requires_grad)


def _curves(model: Model) -> dict[str, Any]:
    """Return what was recorded in training: for each name, steps and values."""
    curves: dict[str, Any] = {}
    for name, frame in (model.history or {}).items():
        values = frame.iloc[:, 0].astype(float)
        curves[name] = {
            "step": values.index.astype(int).tolist(),
            "value": [value if math.isfinite(value) else None for value in values.tolist()],
        }
    if model.train_indices is not None and model.train_config is not None:
        config = model.train_config
        batches = math.ceil(len(model.train_indices) / config.batch_size)
        steps = math.ceil(batches / config.accumulate_grad_batches)
        return {"steps_per_epoch": steps, "curves": curves}
    return {"steps_per_epoch": None, "curves": curves}


def _say_divergence(
    curves: dict[str, Any], stopped: int | None, has_weights: bool
) -> dict[str, Any]:
    """Return status, reason and step of a training."""
    if stopped is not None:
        kept = "the best weights before it" if has_weights else "nothing: no validation came first"
        reason = f"the training loss was NaN or infinite at step {stopped}; kept: {kept}"
        return {"status": "diverged", "reason": reason, "diverged_step": stopped}
    # The one that chooses the best weights.
    names = [name for name in _VALIDATION if name in curves["curves"]]
    curve = curves["curves"][names[0]] if names else {"step": [], "value": []}
    found = find_divergence(curve["step"], curve["value"])
    if found is None:
        return {"status": "done", "reason": "", "diverged_step": None}
    return {"status": "diverged", "reason": str(found), "diverged_step": found.step}


def _train_method(job: Job, store: Store, folder: Path) -> dict[str, Any]:
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


def _embed(job: Job, store: Store, folder: Path) -> dict[str, Any]:
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
    job: Job, store: Store, adata: AnnData
) -> tuple[NDArray[np.float32], dict[str, Any]]:
    from scenc.model import Model

    path = store.folder(job.needs[0]) / MODEL
    if not path.exists():
        raise RuntimeError("there is no model: training diverged before any validation")
    model = Model.load(path)
    embedding = model.get_latent_representation(adata, key_added=None)
    errors = model.get_reconstruction_error(adata, seed=job.seed)
    match = model.gene_coverage(adata)
    genes = {"n_matched": match.n_matched, "n_query": len(match.query)}
    known = errors[np.isfinite(errors)]  # a cell without counts has none
    error = float(known.mean()) if len(known) else None
    return embedding, {"reconstruction_mse": error, "genes": genes}


def _score(job: Job, store: Store) -> dict[str, Any]:
    from scenc.metrics import integration, knn_classification

    obs = store.read_data(job.spec["where"]["file"]).obs
    embedding = np.load(store.folder(job.needs[0]) / EMBEDDING, allow_pickle=False)
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
