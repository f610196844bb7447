"""Time the scores of ``scenc.metrics`` on a data set, beside scib's own if it is installed.

    python benchmarks/bench_metrics.py DATA.h5ad --batch batch --labels cell_type

scores 50 principal components of the log-normalised counts, or ``--embedding KEY`` of ``obsm``.
``--scib`` computes the same scores with the ``scib`` package in the same run, each by scib's own
function with its defaults; ``--seeds N`` repeats scenc's with N seeds of the clustering.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import logging
import os
import warnings
from importlib.metadata import version
from time import perf_counter
from typing import TYPE_CHECKING, Any

import anndata as ad
import numpy as np
import pandas as pd
import scipy.sparse as sp

from scenc.metrics import BATCH_CORRECTION, BIO_PRESERVATION, integration, knn_classification

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray


def principal_components(counts: Any, n_components: int, n_genes: int = 2000) -> NDArray[Any]:
    """Project log1p of counts per ten thousand, most variable genes, on its components."""
    rows = sp.csr_matrix(counts, dtype=np.float64)
    rows = sp.diags(1e4 / np.asarray(rows.sum(axis=1)).ravel()) @ rows
    rows.data = np.log1p(rows.data)
    mean = np.asarray(rows.mean(axis=0)).ravel()
    variance = np.asarray(rows.multiply(rows).mean(axis=0)).ravel() - mean**2
    kept = np.sort(np.argsort(-variance, kind="stable")[:n_genes])
    dense = rows[:, kept].toarray() - mean[kept]
    _, vectors = np.linalg.eigh(dense.T @ dense)
    return (dense @ vectors[:, ::-1][:, :n_components]).astype(np.float32)


def time_scib(
    embedding: NDArray[Any], batch: pd.Series, labels: pd.Series
) -> tuple[dict[str, float], dict[str, float]]:
    """Score with scib; return values and seconds by name, NaN where scib failed."""
    import scanpy as sc
    import scib

    if not hasattr(pd, "value_counts"):  # gone from pandas 3; graph_connectivity calls it
        pd.value_counts = lambda values: pd.Series(values).value_counts()  # type: ignore[attr-defined]
    obs = pd.DataFrame(
        {"batch": pd.Categorical(batch), "label": pd.Categorical(labels)},
        index=np.arange(len(batch)).astype(str),
    )
    adata = ad.AnnData(np.zeros((len(obs), 1), dtype=np.float32), obs=obs)
    adata.obsm["X_emb"] = embedding
    me = scib.metrics
    steps: dict[str, Callable[[], Any]] = {
        "neighbors": lambda: sc.pp.neighbors(adata, use_rep="X_emb"),
        "ilisi": lambda: me.ilisi_graph(adata, "batch", "embed", use_rep="X_emb"),
        "graph_connectivity": lambda: me.graph_connectivity(adata, "label"),
        "batch_asw": lambda: me.silhouette_batch(adata, "batch", "label", "X_emb", verbose=False),
        "label_asw": lambda: me.silhouette(adata, "label", "X_emb"),
        "clisi": lambda: me.clisi_graph(adata, "label", "embed", use_rep="X_emb"),
        "clusterings": lambda: me.cluster_optimal_resolution(
            adata, "label", "cluster", use_rep="X_emb", verbose=False
        ),
        "nmi": lambda: me.nmi(adata, "cluster", "label"),
        "ari": lambda: me.ari(adata, "cluster", "label"),
        "isolated_labels_f1": lambda: me.isolated_labels_f1(
            adata, "label", "batch", "X_emb", verbose=False
        ),
        "isolated_labels_asw": lambda: me.isolated_labels_asw(
            adata, "label", "batch", "X_emb", verbose=False
        ),
    }
    values, seconds = {}, {}
    for name, step in steps.items():
        start = perf_counter()
        try:
            with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
                warnings.simplefilter("ignore")
                result = step()
        except Exception as error:  # noqa: BLE001 - whatever fails in scib is reported
            print(f"scib, {name}: {type(error).__name__}: {error}")
            result = np.nan
        seconds[name] = perf_counter() - start
        if isinstance(result, int | float | np.floating):
            values[name] = float(result)
    return values, seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", help="h5ad file; X holds counts unless --embedding is given")
    parser.add_argument("--batch", default="batch", help="obs column (default: batch)")
    parser.add_argument("--labels", default="cell_type", help="obs column (default: cell_type)")
    parser.add_argument("--embedding", help="obsm key (default: principal components of X)")
    parser.add_argument("--components", type=int, default=50)
    parser.add_argument("--leiden", default="igraph", choices=["igraph", "leidenalg"])
    parser.add_argument("--min-cells", type=int, default=250)
    parser.add_argument("--seeds", type=int, default=1, help="seeds of the clustering")
    parser.add_argument("--scib", action="store_true", help="score with scib as well")
    args = parser.parse_args()
    logging.getLogger("jax").setLevel(logging.ERROR)

    adata = ad.read_h5ad(args.data)
    if args.embedding:
        embedding = np.asarray(adata.obsm[args.embedding])
    else:
        embedding = principal_components(adata.X, args.components)
    batch, labels = adata.obs[args.batch], adata.obs[args.labels]
    print(f"{args.data}: {embedding.shape[0]:,} cells, {embedding.shape[1]} dimensions")
    print(f"{os.cpu_count()} cores; scib-metrics {version('scib-metrics')}")

    start = perf_counter()
    scores = integration(embedding, batch, labels, leiden=args.leiden)
    total = perf_counter() - start
    print(scores)

    names = [*BATCH_CORRECTION, *BIO_PRESERVATION]
    shared = [name for name in scores.seconds if name not in names]
    table = pd.DataFrame(index=[*names, *shared, "total"])
    table["scenc"] = pd.Series(scores.to_dict())
    table["seconds"] = pd.Series({**scores.seconds, "total": total})
    if args.seeds > 1:
        runs = pd.DataFrame(
            integration(
                embedding,
                batch,
                labels,
                metrics=["nmi", "ari", "isolated_labels_f1"],
                leiden=args.leiden,
                seed=seed,
            ).to_dict()
            for seed in range(args.seeds)
        )
        table["lowest"], table["highest"] = runs.min(), runs.max()
    if args.scib:
        start = perf_counter()
        values, seconds = time_scib(embedding, batch, labels)
        table["scib"] = pd.Series(values)
        table["scib seconds"] = pd.Series({**seconds, "total": perf_counter() - start})
        print(f"scib {version('scib')}")
    print(table.to_string(float_format="{:.4f}".format, na_rep=""))

    start = perf_counter()
    classified = knn_classification(embedding, labels, min_cells=args.min_cells, n_repeats=5)
    print(f"\nkNN classification, {perf_counter() - start:.2f} s\n{classified}")


if __name__ == "__main__":
    main()
