"""Training of a scenc model for a job: model, curves, and whether it diverged."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from scenc._distributed import rank
from scenc.benchmark.jobs._divergence import find_divergence
from scenc.benchmark.jobs._prepare import BATCH
from scenc.benchmark.jobs._store import write_json

if TYPE_CHECKING:
    from pathlib import Path

    from scenc.benchmark.jobs._store import JobStore
    from scenc.model import Model

_VALIDATION = ("validation_loss", "reconstruction_loss_validation")
MODEL, CURVES = "model", "curves.json"


def train_model(spec: dict[str, Any], store: JobStore, folder: Path) -> dict[str, Any]:
    """Train a scenc model and save it with its curves.

    Parameters
    ----------
    spec
        The specification of a training job.
    store
        The store that holds the data.
    folder
        Folder to write model and curves into.

    Returns
    -------
    The record: number of parameters, status, reason and step of divergence.
    """
    import torch

    from scenc.train import NonFiniteLossError

    settings = spec["settings"]
    model = _make_model(spec, store)
    record: dict[str, Any] = {"n_parameters": _n_parameters(model)}
    stopped = None
    if settings["training"] is not None:
        try:
            model.train(
                **settings["training"],
                # The job's own number, whatever is fastest: a repeated job must find the same.
                n_threads=torch.get_num_threads(),
                enable_progress_bar=False,
            )
        except NonFiniteLossError as error:
            stopped = error.step
    else:
        model.is_trained = True
    if rank() != 0:
        return record
    curves = _curves(model)
    write_json(folder / CURVES, curves)
    record |= _say_divergence(curves, stopped, bool(model.is_trained))
    if model.is_trained:
        model.save(folder / MODEL)
    return record


def _make_model(spec: dict[str, Any], store: JobStore) -> Model:
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
    """Return the training curves: for each name, steps and values."""
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
    # The loss by which `BestWeights` chooses.
    names = [name for name in _VALIDATION if name in curves["curves"]]
    curve = curves["curves"][names[0]] if names else {"step": [], "value": []}
    found = find_divergence(curve["step"], curve["value"])
    if found is None:
        return {"status": "done", "reason": "", "diverged_step": None}
    return {"status": "diverged", "reason": str(found), "diverged_step": found.step}
