"""``scenc demo``: train, embed, draw and score, on cells that need no download."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

if TYPE_CHECKING:
    import numpy as np
    from anndata import AnnData
    from numpy.typing import NDArray

    from scenc.model import Model

# Fewer than the preset's, so that all is done within three minutes.
_CELL_VISITS = 30_000
# Types with fewer cells cannot be split into training and test cells five times over.
_MIN_CELLS = 10


def run_demo(
    out: Path, gene_encoder: str, expression_encoder: str, max_epochs: int | None, seed: int
) -> None:
    """Train, embed, draw, write and score, on data that scanpy ships.

    Parameters
    ----------
    out
        Folder to write into.
    gene_encoder, expression_encoder, max_epochs, seed
        Passed to the model and its training.
    """
    # Names of files are printed as they are, brackets and colons too.
    console = Console(markup=False, emoji=False)
    start = time.perf_counter()
    with console.status("Loading scenc (torch, scvi-tools)"):
        import scenc

    out.mkdir(parents=True, exist_ok=True)
    adata = scenc.datasets.pbmc68k()
    scenc.Model.setup_anndata(adata, labels_key="cell_type")
    model = scenc.Model(adata, gene_encoder, expression_encoder, preset="small", seed=seed)
    console.print(
        f"{adata.n_obs} cells x {adata.n_vars} genes, {gene_encoder} genes + {expression_encoder} "
        f"expression ({time.perf_counter() - start:.0f} s to load)"
    )
    model.is_trained = True
    untrained = model.get_latent_representation(key_added=None)

    began = time.perf_counter()
    length: dict[str, Any] = (
        {"cell_visits": _CELL_VISITS} if max_epochs is None else {"max_epochs": max_epochs}
    )
    model.train(**length)
    trained_in = time.perf_counter() - began
    embedding = model.get_latent_representation()
    console.print(f"trained in {trained_in:.0f} s")

    with console.status("Scoring and drawing"):
        adata.obsm["X_pca"] = principal_components(adata)
        rows = {
            "scenc": _score(embedding, adata),
            "scenc, untrained": _score(untrained, adata),
            f"{adata.obsm['X_pca'].shape[1]} PCs": _score(adata.obsm["X_pca"], adata),
        }
        written = _write(out, adata, model, seed)
    console.print(_table(rows))
    for path in written:
        console.print(f"wrote {path}", soft_wrap=True)
    console.print(f"{time.perf_counter() - start:.0f} s in all")


def principal_components(adata: AnnData, n_comps: int = 50) -> NDArray[np.float32]:
    """Return principal components of log-normalised counts, the embedding to compare with."""
    import scanpy as sc

    copy = adata.copy()
    sc.pp.normalize_total(copy, target_sum=1e4)
    sc.pp.log1p(copy)
    sc.pp.pca(copy, n_comps=n_comps)
    components: NDArray[np.float32] = copy.obsm["X_pca"]
    return components


def _score(embedding: NDArray[np.float32], adata: AnnData) -> dict[str, str]:
    from scenc.metrics import knn_classification, label_asw

    labels = adata.obs["cell_type"]
    scores = knn_classification(embedding, labels, min_cells=_MIN_CELLS, n_repeats=5)
    return {
        "kNN accuracy": f"{scores.accuracy:.3f} ± {scores.accuracy_std:.3f}",
        "macro F1": f"{scores.macro_f1:.3f} ± {scores.macro_f1_std:.3f}",
        "label silhouette": f"{float(label_asw(embedding, labels)):.3f}",
    }


def _table(rows: dict[str, dict[str, str]]) -> Table:
    table = Table(
        title="10 nearest neighbours, 5 x stratified 80/20; silhouette scaled to 0..1",
        title_justify="left",
    )
    columns = next(iter(rows.values()))
    table.add_column("embedding")
    for column in columns:
        table.add_column(column, justify="right")
    for name, scores in rows.items():
        table.add_row(name, *scores.values())
    return table


def _write(out: Path, adata: AnnData, model: Model, seed: int) -> list[Path]:
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt
    import scanpy as sc

    import scenc

    paths = [out / "umap.png", out / "training.png", out / "pbmc68k_scenc.h5ad"]
    sc.pp.neighbors(adata, use_rep="X_scenc", random_state=seed)
    sc.tl.umap(adata, random_state=seed)
    figure: Any = sc.pl.umap(adata, color="cell_type", title="", show=False, return_fig=True)
    figure.savefig(paths[0], dpi=150, bbox_inches="tight")
    curves = scenc.pl.training(model).get_figure(root=True)
    assert curves is not None
    curves.savefig(paths[1], dpi=150)
    plt.close(figure)
    plt.close(curves)
    adata.write_h5ad(paths[2])
    return paths
