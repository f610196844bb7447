"""What each option of the protein path does to the loss curve.

    python benchmarks/bench_protein_stability.py kang18.h5ad --protein vectors.npz

Two sets of vectors: those of the file, and random 2560-d ones (the width of ESM-2 3B) of which a
few dimensions are large, as protein language models have them. For each reading of eq. 12 the same
short training is run at the given learning rates; what is reported is the loss at the start, the
largest step-to-step loss after the first tenth (spikes), the last and the best validation loss, and
the step of divergence if there was one.
"""

from __future__ import annotations

import argparse
import warnings

import anndata
import numpy as np
import pandas as pd

import scenc
from scenc.genes import ProteinEmbeddings
from scenc.train import NonFiniteLossError

READINGS = {
    "plain eq. 12": {},
    "l2": {"protein_input": "l2"},
    "standardize": {"protein_input": "standardize"},
    "matched": {"protein_output": "matched"},
    "layer_norm": {"protein_output": "layer_norm"},
    "l2 + matched": {"protein_input": "l2", "protein_output": "matched"},
    "l2 + layer_norm": {"protein_input": "l2", "protein_output": "layer_norm"},
}


def random_vectors(genes: pd.Index, dim: int = 2560, n_large: int = 5) -> pd.DataFrame:
    """Random vectors with a few dimensions far larger than the rest, like those of ESM-2."""
    rng = np.random.default_rng(0)
    matrix = rng.normal(0, 0.2, (len(genes), dim)).astype(np.float32)
    matrix[:, :n_large] += rng.normal(0, 8, n_large).astype(np.float32)
    return pd.DataFrame(matrix, index=genes)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("h5ad")
    parser.add_argument("--protein", required=True)
    parser.add_argument("--cells", type=int, default=3000)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--vectors", nargs="+", default=["file", "random 2560-d"])
    parser.add_argument("--lr", type=float, nargs="+", default=[1e-3, 1e-2])
    args = parser.parse_args()
    warnings.simplefilter("ignore")

    adata = anndata.read_h5ad(args.h5ad)
    rng = np.random.default_rng(0)
    adata = adata[np.sort(rng.permutation(adata.n_obs)[: args.cells])].copy()
    scenc.Model.setup_anndata(adata)
    sets = {
        "file": ProteinEmbeddings.load(args.protein),
        "random 2560-d": random_vectors(adata.var_names),
    }
    rows = []
    for vectors, lr in ((name, lr) for name in args.vectors for lr in args.lr):
        for reading, options in READINGS.items():
            model = scenc.Model(
                adata,
                "protein",
                "soft",
                protein_embeddings=sets[vectors],
                objective="masked",
                context=128,
                **options,
            )
            row = {"vectors": vectors, "lr": lr, "reading": reading}
            try:
                model.train(args.epochs, 32, lr=lr, enable_progress_bar=False)
            except NonFiniteLossError as error:
                row["diverged at step"] = error.step
            else:
                train = model.history["train_loss"].iloc[:, 0]
                validation = model.history["reconstruction_loss_validation"].iloc[:, 0]
                row |= {
                    "first": train.iloc[0],
                    "after 10 steps": train.iloc[:10].max(),
                    "largest rise": train.diff().iloc[len(train) // 10 :].max(),
                    "last": train.iloc[-10:].mean(),
                    "validation": validation.min(),
                }
            rows.append(row)
            print(row, flush=True)
    print(pd.DataFrame(rows).round(3).to_string(index=False))


if __name__ == "__main__":
    main()
