"""How long explanations of scenc's default model take, and what they are worth.

    OMP_NUM_THREADS=2 python benchmarks/bench_explanations.py DATA_DIR --sets pbmc3k
    python benchmarks/bench_explanations.py DATA_DIR --sets pbmc3k luad --parts attributions

**Deletions.** `delete_genes` for 50 genes that are drawn from the vocabulary, in 1,000 cells, with
the default number of matched genes: seconds. ``as_components`` is Spearman's correlation of the
genes' shifts with what linear components would say without any network: a gene's mean x~ in the
cells that express it times the length of its loading in 50 principal components.

**Attributions.** Completeness error and agreement with the Wilcoxon test, in the mean over types.
``drop``: by how much a type's score falls, in cells of the type, when its 20 genes with the largest
contributions are deleted together; with 20 genes of the largest z scores (``drop_wilcoxon``), and
with 20 genes that are expressed like the first (``drop_matched``).

**Attention.** Spearman's correlation of mean attention with plain co-expression, 200 genes.

**Programmes.** Their number, and how many are co-expressed beyond random genes of like expression
(adjusted p below 0.05), in the cells that the model was trained on.

One line of JSON per data set and part goes to ``--out``.
"""

from __future__ import annotations

import argparse
import json
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anndata as ad
import numpy as np
import scanpy as sc
from bench_quality import SETS, Stopwatch, chosen_sets, fit_scenc, log_normalised, source_version
from scipy.stats import spearmanr

import scenc
from scenc.tasks import fit_directions, gene_levels, genes_of_like_expression

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

N_GENES, N_CELLS, N_TOP, N_PCS = 50, 1000, 20, 50
LABELS = "cell_type"


def deletions(model: scenc.Model, adata: ad.AnnData, seed: int) -> dict[str, float]:
    """Time the deletion of genes, and compare shifts with those of principal components."""
    rng = np.random.default_rng(seed)
    cells = adata[np.sort(rng.permutation(adata.n_obs)[:N_CELLS])].copy()
    genes = rng.choice(model.vocabulary, N_GENES, replace=False).tolist()
    watch = Stopwatch()
    table = model.delete_genes(genes, cells, max_cells=N_CELLS, progress=False)
    watch.stop("deletions")
    loadings = component_lengths(adata, model.vocabulary.tolist(), seed)
    at = model.vocabulary.get_indexer(table.index)
    linear = table["expression"].to_numpy() * loadings[at]
    return {
        "n_cells": cells.n_obs,
        "n_genes": len(genes),
        "n_embedded": float(table["n_cells"].sum()),
        **watch.seconds,
        "as_components": float(spearmanr(table["shift"], linear, nan_policy="omit").statistic),
    }


def component_lengths(adata: ad.AnnData, genes: list[str], seed: int) -> NDArray[np.float64]:
    """Return the length of each gene's loading in principal components of log values."""
    logged = log_normalised(adata)[:, genes].copy()
    sc.pp.pca(logged, n_comps=min(N_PCS, *(n - 1 for n in logged.shape)), random_state=seed)
    return np.linalg.norm(logged.varm["PCs"], axis=1)


def attributions(model: scenc.Model, adata: ad.AnnData, seed: int) -> dict[str, float]:
    """Score attributions: whether they add up, agree with a test, and name genes that matter."""
    watch = Stopwatch()
    found = model.attributions(adata, LABELS, seed=seed, progress=False)
    watch.stop("attributions")
    agreement = found.agreement(N_TOP)
    return {
        "completeness_error": float(found.completeness_error.mean()),
        "spearman": float(agreement["spearman"].mean()),
        "shared_top": float(agreement["shared_top"].mean()),
        **watch.seconds,
        **drops(model, adata, found, seed),
    }


def drops(model: scenc.Model, adata: ad.AnnData, found: Any, seed: int) -> dict[str, float]:
    """Return by how much scores fall when genes are deleted, in the mean over types."""
    embedding = model.get_latent_representation(adata, key_added=None)
    types = adata.obs[LABELS].astype(str).to_numpy()
    directions = fit_directions(embedding, types, seed)
    levels = gene_levels(log_normalised(adata)[:, model.vocabulary.tolist()].X.tocsr())
    expressed = np.flatnonzero(levels.n_cells)
    falls: dict[str, list[float]] = {"drop": [], "drop_wilcoxon": [], "drop_matched": []}
    for name in found.table:
        number = directions.types.get_loc(name)
        rows = np.flatnonzero(types == name)[:N_CELLS]
        first = found.table[name].nlargest(N_TOP).index
        at = model.vocabulary.get_indexer(first)
        like = genes_of_like_expression(levels, at, np.setdiff1d(expressed, at), 5)
        picked = like[np.arange(len(at)), np.random.default_rng(seed).integers(5, size=len(at))]
        chosen = {
            "drop": first,
            "drop_wilcoxon": found.wilcoxon[name].nlargest(N_TOP).index,
            "drop_matched": model.vocabulary[np.unique(picked)],
        }
        before = directions.scores(embedding[rows])[:, number]
        for kind, genes in chosen.items():
            without = without_genes(adata[rows], list(genes))
            after = model.get_latent_representation(without, key_added=None)
            falls[kind].append(float((before - directions.scores(after)[:, number]).mean()))
    return {kind: float(np.mean(values)) for kind, values in falls.items()}


def without_genes(adata: ad.AnnData, genes: list[str]) -> ad.AnnData:
    """Return a copy in which some genes have no counts."""
    changed = adata.copy()
    kept = (~changed.var_names.isin(genes)).astype(np.float32)
    changed.X = changed.X.multiply(kept).tocsr()
    changed.X.eliminate_zeros()
    return changed


def attention(model: scenc.Model, adata: ad.AnnData, seed: int) -> dict[str, float]:
    """Compare attention with co-expression."""
    watch = Stopwatch()
    found = model.get_attention(200, adata, seed=seed, progress=False)
    watch.stop("attention")
    return {"with_coexpression": found.uns["spearman_with_coexpression"], **watch.seconds}


def programmes(model: scenc.Model, adata: ad.AnnData, seed: int) -> dict[str, float]:
    """Count programmes that are co-expressed beyond genes of like expression."""
    watch = Stopwatch()
    genes = model.embed_genes(adata, progress=False)
    watch.stop("genes")
    table = model.gene_programmes(genes, adata, seed=seed, progress=False)
    watch.stop("programmes")
    passed = int((table["p_adjusted"] < 0.05).sum())
    return {"n_programmes": len(table), "n_passed": passed, **watch.seconds}


PARTS: dict[str, Callable[[scenc.Model, ad.AnnData, int], dict[str, float]]] = {
    "deletions": deletions,
    "attributions": attributions,
    "attention": attention,
    "programmes": programmes,
}


def trained(adata: ad.AnnData, batch_key: str | None, seed: int, folder: Path | None) -> Any:
    """Return the default model, from a folder where it was saved before, or trained and saved."""
    if folder is not None and folder.exists():
        return scenc.Model.load(folder, adata)
    model = fit_scenc(adata, batch_key, seed)
    if folder is not None:
        model.save(folder)
    return model


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--sets", nargs="+", default=["pbmc3k"], metavar="SET")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--models", type=Path, help="folder where trained models are kept")
    parser.add_argument("--out", type=Path, default=Path("explanations.jsonl"))
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    for name in chosen_sets(args.sets):
        adata = ad.read_h5ad(args.folder / SETS[name].file)
        kept = None if args.models is None else args.models / f"{name}_{args.seed}"
        model = trained(adata, SETS[name].batch_key, args.seed, kept)
        for part in args.parts:
            row = {"data": name, "part": part, "seed": args.seed, "version": source_version()}
            row |= PARTS[part](model, adata, args.seed)
            with args.out.open("a") as file:
                file.write(json.dumps(row) + "\n")
            print(
                {k: round(v, 3) if isinstance(v, float) else v for k, v in row.items()}, flush=True
            )


if __name__ == "__main__":
    main()
