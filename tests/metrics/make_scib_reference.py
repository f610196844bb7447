"""Write ``scib_reference.json``: what the scib package says of four real data sets.

Run by hand where scib is installed, with the folder of the data as the only argument. The values
in the repository come from scib 1.1.7 with scanpy 1.12.4, leidenalg 0.12.0, umap-learn 0.5.12,
scikit-learn 1.9.1 and numpy 2.5.5 on Linux x86_64, Python 3.12. scib's program for LISI was
compiled from the source in its wheel (``g++ -O3 -std=c++11 knn_graph.cpp -o knn_graph.o``).

Scanpy ships the cells of "pbmc68k" with their principal components, so that tests on them need no
other file, and no processor rounds their input differently; phases of the cell cycle stand in for
batches. The other data sets are files of that folder.

Every input has fewer than 4096 cells, so that scanpy's neighbours are exact. The cells are handed
to scib in the order, and in the centred single precision, in which scenc works on them: leidenalg
depends on both. The tests load the recipe, :func:`load`, from this file.
"""

from __future__ import annotations

import contextlib
import io
import json
import sys
import warnings
from importlib.metadata import version
from pathlib import Path
from typing import Any

import anndata as ad
import numpy as np
import pandas as pd
import scipy.sparse as sp

SHIPPED = "pbmc68k"
FILES = {  # file, every n-th cell
    "pbmc": ("pbmc_7batches_harmonised.h5ad", 2),
    "luad": ("luad_gse131907_58samples_2000genes.h5ad", 2),
    "heart": ("heart_atlas_14donors_1000genes.h5ad", 1),
}
SEEDS = range(5)


def load_shipped() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Read the cells that scanpy ships: 50 principal components, phase, label."""
    import scanpy as sc

    with warnings.catch_warnings():  # the file is of an old AnnData version
        warnings.simplefilter("ignore")
        adata = sc.datasets.pbmc68k_reduced()
    phase, labels = (adata.obs[key].astype(str).to_numpy() for key in ("phase", "bulk_labels"))
    return adata.obsm["X_pca"], phase, labels


def load(folder: Path, name: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Read every n-th cell: 30 principal components, batch, label."""
    file, step = FILES[name]
    adata = ad.read_h5ad(folder / file)
    obs = adata.obs.iloc[::step]
    rows = sp.csr_matrix(adata.X, dtype=np.float64)[::step]
    rows = sp.diags(1e4 / np.asarray(rows.sum(axis=1)).ravel()) @ rows
    rows.data = np.log1p(rows.data)
    mean = np.asarray(rows.mean(axis=0)).ravel()
    variance = np.asarray(rows.multiply(rows).mean(axis=0)).ravel() - mean**2
    kept = np.sort(np.argsort(-variance, kind="stable")[:1000])
    dense = rows[:, kept].toarray() - mean[kept]
    _, vectors = np.linalg.eigh(dense.T @ dense)
    components = vectors[:, ::-1][:, :30]
    components *= np.sign(components[np.abs(components).argmax(axis=0), np.arange(30)])
    labels = [obs[key].astype(str).to_numpy() for key in ("batch", "cell_type")]
    return (dense @ components, *labels)


def scib_scores(embedding: np.ndarray, batch: np.ndarray, labels: np.ndarray) -> dict[str, Any]:
    """Score with scib's own functions; what depends on clusters once for each seed."""
    import scanpy as sc
    import scib

    from scenc.metrics._embedded_cells import prepare

    if not hasattr(pd, "value_counts"):  # gone from pandas 3; graph_connectivity calls it
        pd.value_counts = lambda values: pd.Series(values).value_counts()
    cells = prepare(embedding, batch, labels)
    obs = pd.DataFrame(
        {
            "batch": pd.Categorical.from_codes(cells.batch.codes, cells.batch.names),
            "label": pd.Categorical.from_codes(cells.labels.codes, cells.labels.names),
        },
        index=np.arange(cells.n_cells).astype(str),
    )
    adata = ad.AnnData(np.zeros((len(obs), 1), dtype=np.float32), obs=obs)
    adata.obsm["X_emb"] = cells.embedding
    me = scib.metrics
    with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        sc.pp.neighbors(adata, use_rep="X_emb")
        scores: dict[str, Any] = {
            "ilisi": me.ilisi_graph(adata, "batch", "embed", use_rep="X_emb"),
            "graph_connectivity": me.graph_connectivity(adata, "label"),
            "batch_asw": me.silhouette_batch(adata, "batch", "label", "X_emb", verbose=False),
            "label_asw": me.silhouette(adata, "label", "X_emb"),
            "clisi": me.clisi_graph(adata, "label", "embed", use_rep="X_emb"),
            "isolated_labels_asw": me.isolated_labels_asw(
                adata, "label", "batch", "X_emb", verbose=False
            ),
        }
        for seed in SEEDS:
            clusters = f"cluster{seed}"
            best, _ = me.cluster_optimal_resolution(
                adata, "label", clusters, use_rep="X_emb", verbose=False, random_state=seed
            )
            per_seed = {
                "nmi": me.nmi(adata, clusters, "label"),
                "ari": me.ari(adata, clusters, "label"),
                # with this key, scib finds the clusterings it has just made
                "isolated_labels_f1": me.isolated_labels_f1(
                    adata, "label", "batch", "X_emb", cluster_key=clusters, verbose=False
                ),
                "resolution": best,
            }
            for key, value in per_seed.items():
                scores.setdefault(key, []).append(value)
    return json.loads(json.dumps(scores, default=float))


def main() -> None:
    folder = Path(sys.argv[1])
    reference: dict[str, Any] = {
        "versions": {
            package: version(package)
            for package in ("scib", "scanpy", "leidenalg", "umap-learn", "scikit-learn", "numpy")
        }
    }
    for name in (SHIPPED, *FILES):
        embedding, batch, labels = load_shipped() if name == SHIPPED else load(folder, name)
        reference[name] = {
            "n_cells": len(embedding),
            # to see at once if the recipe gives another embedding
            "norm": float(np.linalg.norm(embedding)),
            **scib_scores(embedding, batch, labels),
        }
        print(name, reference[name], flush=True)
    path = Path(__file__).with_name("scib_reference.json")
    path.write_text(json.dumps(reference, indent=1) + "\n")


if __name__ == "__main__":
    main()
