"""Run the quick start of the first page, print its time and scores, and draw its figure.

Writes ``_static/landing-light.png`` and ``_static/landing-dark.png``.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import matplotlib as mpl

mpl.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import scanpy as sc

import scenc

if TYPE_CHECKING:
    from anndata import AnnData

STATIC = Path(__file__).parent / "_static"
MARKER = "CD8B"
MODES = {
    "light": {"ink": "#1f2937", "faint": "#c3c9d2"},
    "dark": {"ink": "#e5e7eb", "faint": "#4b5563"},
}
# Distinct on white and on near-black alike; the order puts unlike colours on touching clusters.
COLORS = ["#4c8dd6", "#e58a2e", "#3fa66b", "#d9534f", "#9a77cf", "#b08968", "#e377c2", "#7f98a8",
          "#c0b030", "#2fb5c4"]  # fmt: skip


def main() -> None:
    """Run and draw."""
    adata, model = quick_start()
    score(adata)
    for mode, colors in MODES.items():
        figure = draw(adata, model, **colors)
        figure.savefig(STATIC / f"landing-{mode}.png", dpi=160, transparent=True)
        plt.close(figure)


def quick_start() -> tuple[AnnData, scenc.Model]:
    """Do what the first page shows."""
    start = time.perf_counter()
    adata = scenc.datasets.pbmc68k()
    scenc.Model.setup_anndata(adata, labels_key="cell_type")
    model = scenc.Model(adata)
    model.train(enable_progress_bar=False)
    model.get_latent_representation()
    sc.pp.neighbors(adata, use_rep="X_scenc")
    sc.tl.umap(adata)
    print(f"{time.perf_counter() - start:.0f} s, {time.process_time():.0f} s of processor time")
    return adata, model


def score(adata: AnnData) -> None:
    """Print how often a cell's neighbours tell its type, for the embedding and for PCs."""
    logged = adata.copy()
    sc.pp.normalize_total(logged, target_sum=1e4)
    sc.pp.log1p(logged)
    sc.pp.pca(logged, n_comps=50)
    for name, embedding in [("scenc", adata.obsm["X_scenc"]), ("50 PCs", logged.obsm["X_pca"])]:
        scores = scenc.metrics.knn_classification(
            embedding, adata.obs["cell_type"], min_cells=10, n_repeats=5
        )
        print(f"{name}: accuracy {scores.accuracy:.3f}, macro F1 {scores.macro_f1:.3f}")


def draw(adata: AnnData, model: scenc.Model, ink: str, faint: str) -> Any:
    """Draw cell types, and one marker as counted and as decoded."""
    with mpl.rc_context({"text.color": ink, "axes.titlecolor": ink, "font.size": 11}):
        figure, axes = plt.subplots(1, 3, figsize=(8.6, 4), layout="constrained")
        umap = adata.obsm["X_umap"]
        labels = adata.obs["cell_type"]
        for name, color in zip(labels.value_counts().index, COLORS, strict=True):
            axes[0].scatter(*umap[labels == name].T, s=7, color=color, linewidths=0, label=name)
        axes[0].set_title("700 blood cells by type")
        figure.legend(
            loc="outside lower center", ncols=4, frameon=False, fontsize=8.5,
            markerscale=2, labelcolor=ink, handletextpad=0.1, columnspacing=1.2,
        )  # fmt: skip
        counted = (
            np.asarray(adata[:, MARKER].X.todense()).ravel()
            / np.asarray(adata.X.sum(axis=1)).ravel()
        )
        decoded = model.get_normalized_expression(gene_list=[MARKER])[MARKER].to_numpy()
        ramp = mpl.colors.LinearSegmentedColormap.from_list("ramp", [faint, "#f28e2b", "#d62728"])
        for ax, values, title in (
            (axes[1], counted, f"{MARKER} as counted"),
            (axes[2], decoded, f"{MARKER} as expected"),
        ):
            order = np.argsort(values)
            top = max(np.quantile(values, 0.99), 1e-9)
            ax.scatter(*umap[order].T, c=values[order], s=7, cmap=ramp, vmin=0, vmax=top,
                       linewidths=0)  # fmt: skip
            ax.set_title(title)
        for ax in axes:
            ax.set_axis_off()
    return figure


if __name__ == "__main__":
    main()
