"""Trainings by two processes, for `test_distributed.py`: all in one start of Python.

Run as a script with a folder, it leaves there what each process has trained.
"""

from __future__ import annotations

import os
import signal
import sys
import warnings
from pathlib import Path

import anndata
import numpy as np
import pytest
import torch
from lightning.pytorch import Callback

from scenc.data import CellFiles
from scenc.model import Model

SIZES = {
    "d_model": 16,
    "n_layers": 1,
    "n_heads": 2,
    "d_feedforward": 32,
    "context": 12,
    "expression_hidden": 16,
}
MASKED = {"objective": "masked", **SIZES}
PAIRS = {"objective": "contrastive", **SIZES}
DECODED = {"objective": "generative", "decoder_hidden": 16, **SIZES}
TRAINING = {"max_epochs": 3, "lr": 5e-3, "accelerator": "cpu", "enable_progress_bar": False}
VIEWS = {"view_genes": 10, "n_neighbors": 5}
BATCH_SIZE = 8
# What is trained, and on what: settings of the model, of its training.
CASES = {
    # Every gene has a vector: the weights of genes without one are empty, and never used.
    "masked": ({**MASKED, "gene_encoder": "protein", "protein_hidden": 16}, {}),
    "masked files": (MASKED, {}),
    "pairs": (PAIRS, VIEWS),
    "pairs of files": (PAIRS, {**VIEWS, "negatives": "all"}),
    # No token is masked, so that one weight is of no use.
    "pairs unmasked": (PAIRS, {**VIEWS, "masked_weight": 0.0, "accumulate_grad_batches": 2}),
    "pairs stopped": (PAIRS, {**VIEWS, "max_epochs": 9, "lr": 0.0, "patience": 2}),
}
# Each process draws its own dropout and its own z: alone there is no equal.
DRAWN = {
    "masked dropout": ({**MASKED, "dropout": 0.2}, {}),
    "pairs decoded": (DECODED, VIEWS),
    "pairs validated": (DECODED, {**VIEWS, "lr": 0.0, "max_epochs": 1, "masked_weight": 1.0}),
}
INTERRUPTED = ("masked files", "pairs", "masked dropout", "pairs decoded")


class Inspect(Callback):
    """What Lightning and PyTorch have been told in this process."""

    def on_train_start(self, trainer, pl_module):
        self.seed = torch.initial_seed()
        self.broadcasts = trainer.strategy.model.broadcast_buffers


class Terminate(Callback):
    """A cluster's SIGTERM, which here reaches the second process only."""

    def on_train_batch_end(self, trainer, *_):
        if trainer.global_step == 4 and trainer.global_rank == 1:
            os.kill(os.getpid(), signal.SIGTERM)


def make(folder, case):
    """Make the model of a case."""
    settings = (CASES | DRAWN)[case][0]
    if case.endswith("files"):
        paths = (
            [folder / "masked.h5ad"] if case.startswith("masked") else folder.glob("pairs*.h5ad")
        )
        key = None if case.startswith("masked") else "batch"
        cells = CellFiles(sorted(paths), batch_key=key, buffer_size=32, progress=False)
        return Model(datamodule=cells, **settings)
    adata = anndata.read_h5ad(folder / f"{case.split()[0]}.h5ad")
    Model.setup_anndata(adata, batch_key="batch")
    if settings.get("gene_encoder") == "protein":
        settings = {**settings, "protein_embeddings": np.load(folder / "vectors.npy")}
    return Model(adata, **settings)


def train(model, case, n_processes, **options):
    """Train a model; two processes halve the batch."""
    size = BATCH_SIZE * 2 // n_processes
    model.train(**{**TRAINING, **(CASES | DRAWN)[case][1], "batch_size": size, **options})
    return model


def outcome(model):
    """Return a model's weights and history, by name."""
    weights = {name: w.detach().numpy() for name, w in model.module.named_parameters()}
    curves = {f"history {name}": curve.to_numpy() for name, curve in model.history.items()}
    return {**weights, **curves}


def left_and_resumed(folder, case, **both):
    """Train, leave at a SIGTERM, go on; return the model that went on."""
    where = {"checkpoint_dir": folder / f"checkpoints {case}", "checkpoint_every": 100}
    with pytest.raises(SystemExit) as left:
        train(make(folder, case), case, 2, **both, **where, callbacks=[Terminate()])
    assert left.value.code == 143
    return train(make(folder, case), case, 2, **both, **where, resume=True)


def main(folder):
    """Train all cases on each rank."""
    # As pytest does in the process of the tests: a warning ends the training of its rank.
    warnings.simplefilter("error")
    # anndata asks pandas for an option that pandas 3 has deprecated.
    warnings.filterwarnings("ignore", "The 'future.infer_string' option is deprecated")
    # Lightning, on a cluster; here it starts the second process itself.
    warnings.filterwarnings("ignore", "The `srun` command is available")
    both = {"devices": 2, "strategy": "ddp"}
    found = {}
    for case in CASES | DRAWN:
        found[case] = train(make(folder, case), case, 2, **both)
    for case in INTERRUPTED:
        found[f"{case} resumed"] = left_and_resumed(folder, case, **both)
    rank = os.environ["LOCAL_RANK"]
    for name, model in found.items():
        np.savez(folder / f"{name} {rank}.npz", **outcome(model))
    embedding = found["pairs"].get_latent_representation(key_added=None)
    assert embedding.shape == (found["pairs"].adata.n_obs, SIZES["d_model"])
    inspect = Inspect()
    # Which strategy that is, is left to scenc.
    train(make(folder, "masked"), "masked", 2, **{**both, "strategy": "auto"}, callbacks=[inspect])
    np.savez(folder / f"inspected {rank}.npz", seed=inspect.seed, broadcasts=inspect.broadcasts)
    other = make(folder, "masked files")
    other.config = type(other.config).from_dict({**MASKED, "seed": int(rank)})
    with pytest.raises(RuntimeError, match="would not train the same model: seed is 0"):
        train(other, "masked files", 2, **both)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
