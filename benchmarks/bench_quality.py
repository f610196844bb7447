"""Compare embeddings of people's own data: scenc, its parts left out, and the usual baselines.

    python benchmarks/bench_quality.py DATA_DIR --sets choose --methods pca scvi scenc --seeds 0 1 2

Settings were chosen on the sets of ``choose``; those of ``report`` were not looked at before the
recipe was fixed. Every method gets the raw counts, the batch key where there is one, and a seed;
labels are for scoring only. One line of JSON per data set, method and seed goes to ``--out``; lines
that are there already are not computed again. ``--table`` prints what the file holds.
"""

from __future__ import annotations

import argparse
import json
import time
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anndata as ad
import numpy as np
import pandas as pd
import scanpy as sc

from scenc.metrics import integration, knn_classification

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    Embedded = tuple[NDArray[Any], float, float]

N_GENES, N_PCS = 2000, 50


@dataclass(frozen=True)
class DataSet:
    """A file of counts with ``obs['cell_type']`` and ``obs['batch']``."""

    file: str
    batches: bool = True


CHOOSE = {
    "kang18": DataSet("kang18_ctrl_8donors_1287genes.h5ad"),
    "pbmc7": DataSet("pbmc_7batches_harmonised.h5ad"),
    "luad": DataSet("luad_gse131907_58samples_2000genes.h5ad"),
    "pbmc3k": DataSet("pbmc3k.h5ad", batches=False),
}
REPORT = {
    "heart": DataSet("heart_atlas_14donors_1000genes.h5ad"),
    "dlpfc": DataSet("dlpfc_2donors_500cells.h5ad"),
    "baron": DataSet("baron16_human_pancreas_175cells.h5ad"),
    "pbmc4k": DataSet("pbmc4k_4060genes.h5ad", batches=False),
    "breast": DataSet("breast_cell_lines_31x30.h5ad", batches=False),
    "onek1k": DataSet("onek1k_bcells_817genes.h5ad"),
}
SETS = {**CHOOSE, **REPORT}


def variable_genes(adata: ad.AnnData, batch_key: str | None) -> ad.AnnData:
    """Return the counts of the most variable genes, of all genes if there are no more."""
    if adata.n_vars <= N_GENES:
        return adata.copy()
    logged = log_normalised(adata)
    sc.pp.highly_variable_genes(logged, n_top_genes=N_GENES, batch_key=batch_key)
    return adata[:, logged.var["highly_variable"].to_numpy()].copy()


def log_normalised(adata: ad.AnnData) -> ad.AnnData:
    """Return log(1 + counts per ten thousand)."""
    logged = adata.copy()
    sc.pp.normalize_total(logged, target_sum=1e4)
    sc.pp.log1p(logged)
    return logged


def pca(adata: ad.AnnData, batch_key: str | None, seed: int) -> Embedded:
    """50 principal components of log-normalised, most variable genes."""
    start = time.process_time()
    genes = variable_genes(adata, batch_key).var_names
    logged = log_normalised(adata)[:, genes].copy()
    sc.pp.pca(logged, n_comps=min(N_PCS, *(n - 1 for n in logged.shape)), random_state=seed)
    return logged.obsm["X_pca"], time.process_time() - start, 0.0


def harmony(adata: ad.AnnData, batch_key: str | None, seed: int) -> Embedded:
    """Harmony on the principal components; the components where there are no batches."""
    import harmonypy

    components, seconds, _ = pca(adata, batch_key, seed)
    if batch_key is None:
        return components, seconds, 0.0
    start = time.process_time()
    result = harmonypy.run_harmony(
        components, adata.obs, batch_key, random_state=seed, verbose=False, ncores=1
    )
    corrected = np.asarray(result.Z_corr)
    corrected = corrected if len(corrected) == adata.n_obs else corrected.T
    return corrected, seconds + time.process_time() - start, 0.0


def scvi(adata: ad.AnnData, batch_key: str | None, seed: int) -> Embedded:
    """Run scVI with its defaults on the counts of the most variable genes."""
    import scvi as scvi_tools

    scvi_tools.settings.seed = seed
    start = time.process_time()
    counts = variable_genes(adata, batch_key)
    scvi_tools.model.SCVI.setup_anndata(counts, batch_key=batch_key)
    model = scvi_tools.model.SCVI(counts)
    model.train(accelerator="cpu", enable_progress_bar=False, logger=False)
    trained = time.process_time()
    embedding = model.get_latent_representation()
    return embedding, trained - start, time.process_time() - trained


def scenc_model(
    train: dict[str, Any] | None = None, untrained: bool = False, **settings: Any
) -> Callable[[ad.AnnData, str | None, int], Embedded]:
    """Return a method that fits ``scenc.Model`` with some settings changed."""

    def run(adata: ad.AnnData, batch_key: str | None, seed: int) -> Embedded:
        import scenc

        counts = adata.copy()
        start = time.process_time()
        scenc.Model.setup_anndata(counts, batch_key=batch_key)
        model = scenc.Model(counts, seed=seed, **settings)
        if untrained:
            model.is_trained = True
        else:
            model.train(accelerator="cpu", enable_progress_bar=False, **(train or {}))
        trained = time.process_time()
        embedding = model.get_latent_representation()
        return embedding, trained - start, time.process_time() - trained

    return run


METHODS: dict[str, Callable[[ad.AnnData, str | None, int], Embedded]] = {
    "pca": pca,
    "harmony": harmony,
    "scvi": scvi,
    "scenc": scenc_model(),
    "untrained": scenc_model(untrained=True),
    "masked": scenc_model(objective="masked"),
}


# The recipe with each part removed in turn.
ABLATIONS = {
    "random gene vectors": scenc_model(gene_init="random"),
    "random residuals": scenc_model(residual_init="random"),
    "mean of tokens": scenc_model(pooling="mean"),
    "all genes": scenc_model(n_top_genes=None),
    "no contrast": scenc_model({"contrast_weight": 0.0}),
    "no anchor": scenc_model({"anchor_weight": 0.0}),
    "no masking": scenc_model({"masked_weight": 0.0}),
    "no neighbours": scenc_model({"same_cell": 1.0}),
    "no thinning": scenc_model({"view_depth": (1.0, 1.0)}),
    "negatives of all batches": scenc_model({"negatives": "all"}),
}
# Cell visits, in thousands: more compute for the default, which has 50, and the paper's objective.
VISITS = {
    f"{name} {visits}k": scenc_model(
        {"max_epochs": None, "cell_visits": 1000 * visits}, objective=objective
    )
    for name, objective, all_visits in (
        ("scenc", "contrastive", (12, 25, 100, 500)),
        ("masked", "masked", (12, 25, 50, 100, 500)),
    )
    for visits in all_visits
}
# Other weights of what the recipe is made of, tried to mix batches better.
WEIGHTS = {
    "contrast x 4": scenc_model({"contrast_weight": 4.0}),
    "anchor x 1/4": scenc_model({"anchor_weight": 0.5}),
    "anchor x 4": scenc_model({"anchor_weight": 8.0}),
    "50 neighbours": scenc_model({"same_cell": 0.0, "n_neighbors": 50}),
}
METHODS |= ABLATIONS | VISITS | WEIGHTS


def effective_rank(embedding: NDArray[Any]) -> float:
    """Return the participation ratio of the embedding's variances: 1 if it collapsed to a line."""
    variances = np.linalg.eigvalsh(np.cov(embedding, rowvar=False)).clip(min=0)
    return float(variances.sum() ** 2 / (variances**2).sum())


def run(name: str, method: str, seed: int, folder: Path) -> dict[str, Any]:
    """Embed and score one data set by one method."""
    data = SETS[name]
    adata = ad.read_h5ad(folder / data.file)
    embedding, train_seconds, embed_seconds = METHODS[method](
        adata, "batch" if data.batches else None, seed
    )
    labels = adata.obs["cell_type"]
    batch = adata.obs["batch"] if data.batches else pd.Series("one", index=labels.index)
    knn = knn_classification(embedding, labels, min_cells=20, n_repeats=5, seed=0)
    scores = integration(embedding, batch, labels)
    return {
        "data": name,
        "method": method,
        "seed": seed,
        "accuracy": knn.accuracy,
        "macro_f1": knn.macro_f1,
        **scores.to_dict(),
        "train_seconds": train_seconds,
        "embed_seconds": embed_seconds,
        "rank": effective_rank(embedding),
        "spread": float(embedding.std(axis=0).mean()),
    }


def print_table(out: Path, names: list[str]) -> None:
    """Print each method's mean and spread over seeds, by data set and over all."""
    rows = pd.DataFrame([json.loads(line) for line in out.read_text().splitlines()])
    rows = rows[rows["data"].isin(names)]
    values = rows.drop(columns="seed").groupby(["data", "method"])
    mean, spread = values.mean(), values.std().fillna(0)
    pd.set_option("display.width", 250, "display.max_columns", 30)
    for name in mean.index.unique("data"):
        print(f"\n{name} (mean of {values.size()[name].max()} seeds)\n{mean.loc[name].round(3)}")
        print(f"standard deviation\n{spread.loc[name, ['accuracy', 'macro_f1']].round(3)}")
    print(f"\nmean over {len(mean.index.unique('data'))} data sets")
    print(mean.groupby("method").mean().round(3))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--sets", nargs="+", default=["choose"])
    parser.add_argument("--methods", nargs="+", default=list(METHODS)[:6], metavar="METHOD")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--out", type=Path, default=Path("quality.jsonl"))
    parser.add_argument("--table", action="store_true", help="only print what --out holds")
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    groups = {"choose": list(CHOOSE), "report": list(REPORT)}
    names = [name for given in args.sets for name in groups.get(given, [given])]
    families = {"ablations": list(ABLATIONS), "visits": list(VISITS), "weights": list(WEIGHTS)}
    methods = [name for given in args.methods for name in families.get(given, [given])]
    if unknown := set(methods) - set(METHODS):
        parser.error(f"unknown {unknown}; there are {', '.join([*METHODS, *families])}")
    if not args.table:
        lines = args.out.read_text().splitlines() if args.out.exists() else []
        done = {(r["data"], r["method"], r["seed"]) for r in map(json.loads, lines)}
        for seed in args.seeds:
            for name in names:
                for method in methods:
                    if (name, method, seed) in done:
                        continue
                    row = run(name, method, seed, args.folder)
                    with args.out.open("a") as file:
                        file.write(json.dumps(row) + "\n")
                    shown = {k: round(v, 3) if isinstance(v, float) else v for k, v in row.items()}
                    print(shown, flush=True)
    print_table(args.out, names)


if __name__ == "__main__":
    main()
