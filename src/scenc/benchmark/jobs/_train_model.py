"""Training of a scenc model for a job: model, curves, and whether it diverged."""

from __future__ import annotations

import math
import shutil
from typing import TYPE_CHECKING, Any

import numpy as np

from scenc._distributed import rank
from scenc.benchmark.jobs._divergence import find_divergence
from scenc.benchmark.jobs._prepare import BATCH
from scenc.benchmark.jobs._store import write_json
from scenc.io import atomic_path

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from scenc.benchmark.jobs._store import JobStore
    from scenc.model import Model

_VALIDATION = ("validation_loss", "reconstruction_loss_validation")
MODEL, CURVES, CHECKPOINT = "model", "curves.json", "checkpoint"


def train_model(spec: dict[str, Any], store: JobStore, folder: Path) -> dict[str, Any]:
    """Train a scenc model and save it with its curves.

    With a budget, training goes on from where the job before it has paused, or from a checkpoint of
    its own, if it was killed.

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
    from scenc.train import NonFiniteLossError

    settings = spec["settings"]
    paused = spec["where"].get("paused")
    if paused is not None and not (store.folder(paused) / CHECKPOINT).exists():
        return _repeat_ended(store, paused, folder)
    model = _make_model(spec, store)
    record: dict[str, Any] = {"n_parameters": _n_parameters(model)}
    stopped = None
    if settings["training"] is not None:
        try:
            model.train(**_training_arguments(spec, store, model))
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
    if "budget" in spec and stopped is None:
        record["n_steps"] = len(curves["curves"]["train_loss"]["step"])
        _keep_checkpoint(spec, store, folder)
    return record


def _training_arguments(spec: dict[str, Any], store: JobStore, model: Model) -> dict[str, Any]:
    """Return the arguments of `Model.train`: those of the settings, and up to the budget."""
    import torch

    from scenc.model._training_data import split_cells
    from scenc.train import Budget, TrainConfig

    training = spec["settings"]["training"]
    arguments = {
        # Scores compare the embedding with principal components.
        "check": False,
        **training,
        # The job's own number, whatever is fastest: a repeated job must find the same.
        "n_threads": torch.get_num_threads(),
        "enable_progress_bar": False,
    }
    if model.config.objective == "generative":
        # No score reads decoded counts, and embeddings are the same.
        arguments["decoder_steps"] = 0
    if "budget" not in spec:
        return arguments
    checkpoints = store.checkpoint_folder(spec["where"]["checkpoint"])
    _take_up_checkpoint(spec, store, checkpoints)
    held_out = {name: training[name] for name in ("validation_size", "test_size")}
    n_genes = np.diff(model.adata.X.indptr)
    n_cells = len(split_cells(n_genes, TrainConfig(**held_out), model.config.seed).train)
    visits, most = (n_steps(spec["budget"][name], n_cells, training) for name in ("visits", "of"))
    per_epoch = n_steps(n_cells, n_cells, training)
    return {
        **arguments,
        "max_epochs": math.ceil(most / per_epoch),
        "callbacks": [Budget(most, visits)],
        "checkpoint_dir": checkpoints,
        "resume": True,
    }


def n_steps(visits: float, n_cells: float, training: Mapping[str, Any]) -> int:
    """Return after how many optimizer steps so many cells have been visited, rounded up.

    Parameters
    ----------
    visits
        Visits of cells.
    n_cells
        Cells to train on: the last batch of each pass over them may be smaller.
    training
        Settings: ``batch_size``, ``accumulate_grad_batches`` and ``devices``.

    Examples
    --------
    >>> from scenc.benchmark.jobs._train_model import n_steps
    >>> n_steps(25_000, 8_251, {"batch_size": 64, "accumulate_grad_batches": 1})
    391
    """
    epochs, rest = divmod(visits, n_cells)
    return int(epochs) * _steps_of(n_cells, training) + _steps_of(rest, training)


def _steps_of(n_cells: float, training: Mapping[str, Any]) -> int:
    """Return the steps of a pass, or part of one, over so many cells."""
    per_batch = int(training["batch_size"]) * int(training.get("devices", 1))
    n_batches: int = math.ceil(n_cells / per_batch)
    return math.ceil(n_batches / int(training["accumulate_grad_batches"]))


def _take_up_checkpoint(spec: dict[str, Any], store: JobStore, folder: Path) -> None:
    """Put the checkpoint where the training has paused into a folder, unless it has a later one."""
    paused = spec["where"]["paused"]
    if paused is None or rank() != 0 or any(folder.glob("*.ckpt")):
        return
    for file in (store.folder(paused) / CHECKPOINT).iterdir():
        with atomic_path(folder / file.name) as draft:
            shutil.copyfile(file, draft)


def _keep_checkpoint(spec: dict[str, Any], store: JobStore, folder: Path) -> None:
    """Keep the checkpoint of a training that has paused for the job that goes on from it."""
    if spec["budget"]["visits"] < spec["budget"]["of"]:
        source = store.checkpoint_folder(spec["where"]["checkpoint"])
        shutil.copytree(source, folder / CHECKPOINT)


def _repeat_ended(store: JobStore, paused: str, folder: Path) -> dict[str, Any]:
    """Return the result of a training that has ended before: it diverged at a smaller budget."""
    before, record = store.folder(paused), store.record(paused)
    assert record is not None
    shutil.copyfile(before / CURVES, folder / CURVES)
    if (before / MODEL).exists():
        shutil.copytree(before / MODEL, folder / MODEL)
    return {name: record[name] for name in ("n_parameters", "status", "reason", "diverged_step")}


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
