from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest

from scenc.data import CellFiles
from scenc.model import Model

SCRIPT = """
import os, sys
import anndata, numpy as np
from scenc import Model

folder = sys.argv[1]
adata = anndata.read_h5ad(f"{folder}/counts.h5ad")
Model.setup_anndata(adata)
vectors = np.load(f"{folder}/vectors.npy")
model = Model(adata, protein_embeddings=vectors, **SETTINGS)
if __name__ == "__main__":
    model.train(**TRAINING, devices=2, strategy="ddp")
    curve = model.history["reconstruction_loss_validation"].iloc[:, 0].to_numpy()
    weights = {name: w.detach().numpy() for name, w in model.module.named_parameters()}
    np.savez(f"{folder}/rank{os.environ['LOCAL_RANK']}.npz", _curve=curve, **weights)
    embedding = model.get_latent_representation()
    assert embedding.shape == (adata.n_obs, 16)
    streamed(folder)
"""
STREAMED = """
import os, signal
from scenc import Model
import numpy as np
from lightning.pytorch import Callback
from scenc.data import CellFiles

class Terminate(Callback):
    # A cluster's SIGTERM, which here reaches the second process only.
    def on_train_batch_end(self, trainer, *_):
        if trainer.global_step == 4 and trainer.global_rank == 1:
            os.kill(os.getpid(), signal.SIGTERM)

def make(folder):
    cells = CellFiles([f"{folder}/counts.h5ad"], buffer_size=32, progress=False)
    return Model(datamodule=cells, **{**SETTINGS, "gene_encoder": "learned"})

def streamed(folder):
    training = {**TRAINING, "devices": 2, "strategy": "ddp"}
    whole, broken, resumed = (make(folder) for _ in range(3))
    whole.train(**training)
    run = {"checkpoint_dir": f"{folder}/run", "checkpoint_every": 100}
    try:
        broken.train(**training, **run, callbacks=[Terminate()])
    except SystemExit as left:
        assert left.code == 143, left.code
    else:
        raise AssertionError("not left")
    resumed.train(**training, **run, resume=True)
    curve = whole.history["reconstruction_loss_validation"].iloc[:, 0].to_numpy()
    saved = {
        f"{name}/{part}": weight.detach().numpy()
        for name, model in {"whole": whole, "resumed": resumed}.items()
        for part, weight in model.module.named_parameters()
    }
    np.savez(f"{folder}/streamed{os.environ['LOCAL_RANK']}.npz", _curve=curve, **saved)
"""
# Every gene has a vector: the weights of genes without one are empty, and never used.
SETTINGS = {
    "objective": "masked",
    "gene_encoder": "protein",
    "protein_hidden": 16,
    "d_model": 16,
    "n_layers": 1,
    "n_heads": 2,
    "d_feedforward": 32,
    "context": 12,
    "expression_hidden": 16,
}
TRAINING = {"max_epochs": 3, "lr": 5e-3, "accelerator": "cpu", "enable_progress_bar": False}


@pytest.mark.slow
def test_two_processes_train_as_one_with_twice_the_batch(tmp_path, make_adata, make_model):
    # Cells of equal length, so that the mean of two means is the mean of all.
    counts = 1 + np.random.default_rng(0).poisson(2.0, (71, 20)).astype(np.float32)
    adata = make_adata(counts)
    adata.write_h5ad(tmp_path / "counts.h5ad")
    vectors = np.random.default_rng(1).normal(size=(20, 8))
    np.save(tmp_path / "vectors.npy", vectors)
    script = tmp_path / "run.py"
    training = {**TRAINING, "batch_size": 8}
    script.write_text(
        (STREAMED + SCRIPT).replace("SETTINGS", repr(SETTINGS)).replace("TRAINING", repr(training))
    )

    done = subprocess.run(
        [sys.executable, script, tmp_path],
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "default"},
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    assert "sync_dist" not in done.stderr
    assert "scenc" not in "".join(line for line in done.stderr.splitlines() if "Warning" in line)
    first, second = (np.load(tmp_path / f"rank{rank}.npz") for rank in range(2))
    for name in first.files:
        np.testing.assert_array_equal(first[name], second[name], err_msg=name)

    model = make_model(adata, protein_embeddings=vectors, **SETTINGS)
    model.train(**TRAINING, batch_size=16)
    curve = model.history["reconstruction_loss_validation"].iloc[:, 0]
    np.testing.assert_allclose(first["_curve"], curve, rtol=1e-3)
    for name, weight in model.module.named_parameters():
        np.testing.assert_allclose(first[name], weight.detach(), rtol=1e-2, atol=2e-3)

    # The same from files, and left at one process's SIGTERM by both.
    first, second = (np.load(tmp_path / f"streamed{rank}.npz") for rank in range(2))
    for name in first.files:
        np.testing.assert_array_equal(first[name], second[name], err_msg=name)
    names = [name.removeprefix("whole/") for name in first.files if name.startswith("whole/")]
    for name in names:
        np.testing.assert_array_equal(first[f"whole/{name}"], first[f"resumed/{name}"])
    cells = CellFiles([tmp_path / "counts.h5ad"], buffer_size=32, progress=False)
    model = Model(datamodule=cells, **{**SETTINGS, "gene_encoder": "learned"})
    model.train(**TRAINING, batch_size=16)
    curve = model.history["reconstruction_loss_validation"].iloc[:, 0]
    np.testing.assert_allclose(first["_curve"], curve, rtol=1e-3)
    for name, weight in model.module.named_parameters():
        np.testing.assert_allclose(first[f"whole/{name}"], weight.detach(), rtol=1e-2, atol=2e-3)
