"""Name the types of cells that a reference was not trained on: scenc, PCs, scVI and CellTypist.

    python benchmarks/bench_annotation.py compare DATA_DIR --seeds 0 1 2 --refit
    python benchmarks/bench_annotation.py compare --table
    python benchmarks/bench_annotation.py speed

**Tasks.** Of each, a method gets the reference's counts and labels, and the query's counts, of the
genes that both have. ``pbmc7`` leaves each of seven studies out in turn, ``kang18`` goes from
unstimulated to stimulated cells, ``pbmc3k`` to another run of the same kind (pbmc4k). ``choose``
are other data, on which the defaults of `scenc.tasks.LabelClassifier` were set: half of the donors
or samples name the other half.

**Embeddings**, of reference and query by what was fitted to the reference alone: scenc's
(``Model.get_latent_representation``), 50 principal components of log-normalised variable genes,
scVI's latent space. scVI's encoder is not told the batch (``encode_covariates=False``, its
default), so that cells of an unseen batch pass through it as they are; the query is loaded by
``SCVI.load_query_data`` and nothing is trained on it. It is trained with ``early_stopping=True``.
On each embedding `LabelClassifier` with ``"logreg"`` and ``"knn"``. **CellTypist** is trained by
its own ``celltypist.train`` on the log-normalised counts, if it is installed. (CellTypist 1.7 needs
scikit-learn below 1.8: give it an environment of its own, and run ``--methods celltypist`` there.)

**Scores**, of query cells whose type the reference has: accuracy, macro F1 and expected calibration
error (15 bins of equal width) of the most probable type, before any cell is called "Unknown"; and
``unknown_share``, the share that is called so by the defaults. ``auroc_*``: a type is taken out of
the reference; its cells are to be told from the others by 1 - confidence (``auroc_conf``), by the
distance's percentile (``auroc_dist``), or by the larger of the two (``auroc_either``); ``found``
and ``false`` are the shares of both called "Unknown" by the defaults. With ``held_out: labels``
these are means over all types that have 20 cells or more in both, and the embedding was fitted to
the type's cells as well, without their labels; with ``held_out: all`` (``--refit``) they are of one
type a task, and the embedding was fitted without its cells.

Embeddings are kept in a folder, one line of JSON per task, method and seed goes to ``--out``; what
is there already is not computed again.
"""

from __future__ import annotations

import argparse
import json
import resource
import time
import warnings
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anndata as ad
import numpy as np
import pandas as pd
import scanpy as sc
from bench_quality import (
    N_PCS,
    Stopwatch,
    fit_scenc,
    fit_scvi,
    log_normalised,
    source_version,
    variable_genes,
)
from sklearn.metrics import f1_score, roc_auc_score

from scenc.tasks import UNKNOWN_LABEL, LabelClassifier, map_to_reference, over_clusters

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

MIN_CELLS = 20
STUDIES = ("10x_6K", "10x_8K", "SCP424_pbmc1", "SCP424_pbmc2", "SRR11038995", "SRR7244582",
           "pbmc3k")  # fmt: skip
# Names of types in pbmc3k and pbmc4k, by those of pbmc3k.
SAME_TYPES = {
    "Naive CD4 T": "CD4 T",
    "Memory CD4 T": "CD4 T",
    "CD4 T cells": "CD4 T",
    "CD8 T cells": "CD8 T",
    "CD14+ Monocytes": "CD14+ Mono",
    "FCGR3A+ Monocytes": "FCGR3A+ Mono",
    "B cells": "B",
    "NK cells": "NK",
    "Dendritic Cells": "DC",
    "Megakaryocytes": "Platelet",
}
UNLABELLED = ("unlabelled", "Other")


@dataclass(frozen=True)
class Pair:
    """Cells with labels, cells to be labelled, and the column of obs with batches, if there is one.

    Both have the same genes; ``obs["cell_type"]`` is missing where a type is not known.
    """

    reference: ad.AnnData
    query: ad.AnnData
    batch_key: str | None

    def without(self, name: str) -> Pair:
        """Return the pair with one type taken out of the reference."""
        others = (self.reference.obs["cell_type"] != name).to_numpy()
        return Pair(self.reference[others].copy(), self.query, self.batch_key)


def read(folder: Path, file: str) -> ad.AnnData:
    """Read counts; types that stand for "not known" are missing."""
    adata = ad.read_h5ad(folder / file)
    types = adata.obs["cell_type"].astype(object).replace(SAME_TYPES)
    adata.obs["cell_type"] = types.where(~types.isin(UNLABELLED))
    return adata


def split(adata: ad.AnnData, is_query: NDArray[np.bool_], batch_key: str | None) -> Pair:
    """Return some cells as the query of the others."""
    return Pair(adata[~is_query].copy(), adata[is_query].copy(), batch_key)


def leave_study_out(study: str) -> Callable[[Path], Pair]:
    def make(folder: Path) -> Pair:
        adata = read(folder, "pbmc_7batches_harmonised.h5ad")
        return split(adata, (adata.obs["batch"] == study).to_numpy(), "batch")

    return make


def control_to_stimulated(folder: Path) -> Pair:
    adata = read(folder, "kang18_ctrl_stim_2000cells_9015genes.h5ad")
    return split(adata, (adata.obs["batch"] == "stim").to_numpy(), None)


def run_to_run(folder: Path) -> Pair:
    reference, query = (read(folder, f) for f in ("pbmc3k.h5ad", "pbmc4k_4060genes.h5ad"))
    shared = reference.var_names[reference.var_names.isin(query.var_names)]
    return Pair(reference[:, shared].copy(), query[:, shared].copy(), None)


def half_of_batches(file: str) -> Callable[[Path], Pair]:
    def make(folder: Path) -> Pair:
        adata = read(folder, file)
        batches = adata.obs["batch"].astype(str)
        return split(adata, batches.isin(sorted(batches.unique())[::2]).to_numpy(), "batch")

    return make


REPORT: dict[str, Callable[[Path], Pair]] = {
    **{f"pbmc7 {study}": leave_study_out(study) for study in STUDIES},
    "kang18": control_to_stimulated,
    "pbmc3k": run_to_run,
}
CHOOSE = {
    "luad samples": half_of_batches("luad_gse131907_58samples_2000genes.h5ad"),
    "heart donors": half_of_batches("heart_atlas_14donors_1000genes.h5ad"),
    "kang18 donors": half_of_batches("kang18_ctrl_8donors_1287genes.h5ad"),
    "cortex donors": half_of_batches("dlpfc_2donors_500cells.h5ad"),
}
TASKS = {**REPORT, **CHOOSE}
# The type of each task that embeddings are fitted without.
HELD_OUT = {
    "pbmc7 10x_6K": "B",
    "pbmc7 10x_8K": "NK",
    "pbmc7 SCP424_pbmc1": "CD14+ Mono",
    "pbmc7 SCP424_pbmc2": "CD8 T",
    "pbmc7 SRR11038995": "FCGR3A+ Mono",
    "pbmc7 SRR7244582": "B",
    "pbmc7 pbmc3k": "NK",
    "kang18": "B",
    "pbmc3k": "B",
    "luad samples": "MAST cells",
    "heart donors": "Lymphoid",
    "kang18 donors": "B",
    "cortex donors": "Micro",
}


# An embedding of the reference and of the query, and the seconds it took.
type Embedded = tuple[NDArray[Any], NDArray[Any], dict[str, float]]


def embed_pca(pair: Pair, seed: int) -> Embedded:
    """Project onto the principal components of the reference's log-normalised variable genes."""
    watch = Stopwatch()
    genes = variable_genes(pair.reference, pair.batch_key).var_names
    logged = log_normalised(pair.reference)[:, genes].copy()
    sc.pp.pca(logged, n_comps=min(N_PCS, *(n - 1 for n in logged.shape)), random_state=seed)
    watch.stop("train")
    mean = np.asarray(logged.X.mean(axis=0)).ravel()
    query = log_normalised(pair.query)[:, genes].X - mean
    projected = np.asarray(query) @ logged.varm["PCs"]
    watch.stop("embed")
    return logged.obsm["X_pca"], projected, watch.seconds


def embed_scvi(pair: Pair, seed: int) -> Embedded:
    """Train scVI on the reference, and let the query through it as it is."""
    import scvi

    watch = Stopwatch()
    counts = variable_genes(pair.reference, pair.batch_key)
    model = fit_scvi(counts, pair.batch_key, seed, early_stopping=True)
    watch.stop("train")
    query = pair.query[:, counts.var_names].copy()
    loaded = scvi.model.SCVI.load_query_data(query, model)
    loaded.is_trained = True
    places = model.get_latent_representation(), loaded.get_latent_representation()
    watch.stop("embed")
    return *places, watch.seconds


def embed_scenc(pair: Pair, seed: int) -> Embedded:
    """Train scenc with its defaults on the reference."""
    watch = Stopwatch()
    model = fit_scenc(pair.reference.copy(), pair.batch_key, seed)
    watch.stop("train")
    places = [model.get_latent_representation(cells, key_added=None)
              for cells in (pair.reference, pair.query)]  # fmt: skip
    watch.stop("embed")
    return *places, watch.seconds


EMBEDDINGS: dict[str, Callable[[Pair, int], Embedded]] = {
    "pca": embed_pca,
    "scenc": embed_scenc,
    "scvi": embed_scvi,
}


def embedded(
    folder: Path, task: str, name: str, seed: int, held_out: str | None, pair: Pair
) -> Embedded:
    """Return an embedding from the folder, or compute it and keep it there."""
    words = (task, name, str(seed), *([held_out] if held_out else []))
    path = folder / f"{'_'.join(words).replace(' ', '_')}.npz"
    if not path.exists():
        print(f"embedding {' / '.join(words)}", flush=True)
        reference, query, seconds = EMBEDDINGS[name](pair, seed)
        folder.mkdir(parents=True, exist_ok=True)
        draft = path.with_suffix(".tmp.npz")
        np.savez(draft, reference=reference, query=query, seconds=json.dumps(seconds))
        draft.rename(path)
    with np.load(path) as file:
        return file["reference"], file["query"], json.loads(str(file["seconds"]))


@dataclass(frozen=True)
class Named:
    """What a method says of the query's cells.

    Attributes
    ----------
    best
        Most probable type of each cell, whether it is named so or not.
    confidence, distance
        Of that type, 0 to 1, and the percentile of the distance; None: the method has none.
    unknown
        Whether the defaults call the cell "Unknown"; None: the method has no such default.
    """

    best: NDArray[np.object_]
    confidence: NDArray[np.floating]
    distance: NDArray[np.floating] | None
    unknown: NDArray[np.bool_] | None


def by_classifier(
    pair: Pair, places: tuple[NDArray[Any], NDArray[Any]], method: str, seed: int
) -> Named:
    """Name the query by scenc's classifier on an embedding."""
    batches = None if pair.batch_key is None else pair.reference.obs[pair.batch_key].astype(str)
    classifier = LabelClassifier.fit(
        places[0], pair.reference.obs["cell_type"], batches, method=method, seed=seed,
        progress=False,
    )  # fmt: skip
    found = classifier.predict(places[1])
    best = np.array(found.classes, dtype=object)[found.probabilities.argmax(axis=1)]
    return Named(best, found.confidence, found.distance, found.labels == UNKNOWN_LABEL)


def by_celltypist(pair: Pair) -> Named:
    """Name the query by CellTypist's own training, with its defaults."""
    import celltypist

    labelled = pair.reference[pair.reference.obs["cell_type"].notna().to_numpy()].copy()
    model = celltypist.train(
        log_normalised(labelled), labels=labelled.obs["cell_type"].astype(str), n_jobs=1
    )
    found = celltypist.annotate(log_normalised(pair.query), model=model).probability_matrix
    best = found.columns.to_numpy(dtype=object)[found.to_numpy().argmax(axis=1)]
    return Named(best, found.to_numpy().max(axis=1), None, None)


def calibration_error(
    confidence: NDArray[np.floating], right: NDArray[np.bool_], n_bins: int = 15
) -> float:
    """Return the expected calibration error: |accuracy - confidence|, in the mean over cells.

    Naeini et al. (2015); bins of equal width.
    """
    bins = np.minimum((confidence * n_bins).astype(int), n_bins - 1)
    gaps = [
        abs(confidence[bins == one].mean() - right[bins == one].mean()) * (bins == one).mean()
        for one in np.unique(bins)
    ]
    return float(np.sum(gaps))


def score_names(named: Named, truth: NDArray[np.object_], known: set[str]) -> dict[str, float]:
    """Score cells whose type the reference has."""
    asked = np.array([name in known for name in truth])
    best, right = named.best[asked], named.best[asked] == truth[asked]
    scores = {
        "n_cells": int(asked.sum()),
        "accuracy": float(right.mean()),
        "macro_f1": float(
            f1_score(truth[asked].astype(str), best.astype(str), average="macro", zero_division=0)
        ),
        "calibration_error": calibration_error(named.confidence[asked], right),
    }
    if named.unknown is not None:
        unknown = named.unknown[asked]
        scores["unknown_share"] = float(unknown.mean())
        scores["accuracy_named"] = float(right[~unknown].mean()) if (~unknown).any() else np.nan
    return scores


def score_unknown(
    named: Named, truth: NDArray[np.object_], known: set[str], absent: str
) -> dict[str, float]:
    """Score how cells of a type that the reference lacks are told from those that it has."""
    asked = np.array([name in known or name == absent for name in truth])
    is_absent = truth[asked] == absent
    doubt = 1 - named.confidence[asked]
    scores = {"auroc_conf": float(roc_auc_score(is_absent, doubt))}
    if named.distance is not None:
        far = named.distance[asked] / 100
        scores["auroc_dist"] = float(roc_auc_score(is_absent, far))
        scores["auroc_either"] = float(roc_auc_score(is_absent, np.maximum(doubt, far)))
    if named.unknown is not None:
        scores["found"] = float(named.unknown[asked][is_absent].mean())
        scores["false"] = float(named.unknown[asked][~is_absent].mean())
    return scores


def run_method(
    method: str, pair: Pair, task: str, seed: int, kept: Path, held_out: str | None = None
) -> tuple[Callable[[Pair, NDArray[np.bool_]], Named], dict[str, float]]:
    """Return what names the query after some rows of the reference, and seconds of embedding."""
    if method == "celltypist":
        return lambda some, rows: by_celltypist(some), {}
    name, way = method.split("+")
    reference, query, seconds = embedded(kept, task, name, seed, held_out, pair)
    return lambda some, rows: by_classifier(some, (reference[rows], query), way, seed), seconds


def compare(
    method: str, task: str, seed: int, folder: Path, kept: Path, refit: bool
) -> dict[str, Any]:
    """Score one method on one task.

    With `refit` the embedding is fitted anew without the task's held-out type, and only "Unknown"
    is scored.
    """
    pair = TASKS[task](folder)
    truth = pair.query.obs["cell_type"].to_numpy(dtype=object)
    if refit:
        absent = HELD_OUT[task]
        pair = pair.without(absent)
        name, _ = run_method(method, pair, task, seed, kept, absent)
        everything = np.ones(pair.reference.n_obs, bool)
        known = set(pair.reference.obs["cell_type"].dropna())
        return {"type": absent, **score_unknown(name(pair, everything), truth, known, absent)}
    name, seconds = run_method(method, pair, task, seed, kept)
    types = pair.reference.obs["cell_type"]
    known = set(types.dropna())
    start = time.process_time()
    everything = np.ones(pair.reference.n_obs, bool)
    scores = score_names(name(pair, everything), truth, known)
    scores["label_seconds"] = time.process_time() - start
    of_types = {}
    for absent in sorted(known):
        if min((types == absent).sum(), (truth == absent).sum()) >= MIN_CELLS:
            rows = (types != absent).to_numpy()
            found = name(pair.without(absent), rows)
            of_types[absent] = score_unknown(found, truth, known - {absent}, absent)
    means = pd.DataFrame(of_types).mean(axis=1).to_dict()
    return {**scores, **means, "types": of_types, **seconds}


METHODS = ("scenc+logreg", "scenc+knn", "pca+logreg", "pca+knn", "scvi+logreg", "scvi+knn",
           "celltypist")  # fmt: skip


class Lines:
    """Lines of JSON, one for each run, which are written once and found again."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def rows(self) -> list[dict[str, Any]]:
        """Return what the file holds."""
        if not self.path.exists():
            return []
        return [json.loads(line) for line in self.path.read_text().splitlines()]

    def holds(self, key: dict[str, Any]) -> bool:
        """Return whether a run is in the file."""
        return any(all(row.get(k) == v for k, v in key.items()) for row in self.rows())

    def add(self, row: dict[str, Any]) -> None:
        """Append a run, and print it."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a") as file:
            file.write(json.dumps({**row, "version": source_version()}) + "\n")
        shown = {k: round(v, 3) if isinstance(v, float) else v for k, v in row.items()}
        print({k: v for k, v in shown.items() if k != "types"}, flush=True)


def compute_missing(args: argparse.Namespace, file: Lines, tasks: list[str]) -> None:
    """Score what the file does not hold yet."""
    ways = [False, True] if args.refit else [False]
    for refit, seed, task, method in product(ways, args.seeds, tasks, args.methods):
        # CellTypist is fitted to nothing but the labelled cells: both ways are one.
        if refit and method == "celltypist":
            continue
        key = {"task": task, "method": method, "seed": seed}
        key["held_out"] = "all" if refit else "labels"
        if not file.holds(key):
            scores = compare(method, task, seed, args.folder, args.kept, refit)
            file.add({**key, **scores})


SHOWN = {
    "accuracy": "accuracy",
    "macro_f1": "macro F1",
    "calibration_error": "ECE",
    "unknown_share": "Unknown",
    "auroc_conf": "AUROC, confidence",
    "auroc_dist": "distance",
    "auroc_either": "either",
    "found": "found",
    "false": "false",
}
TITLES = {
    "scenc+logreg": "scenc, logistic",
    "scenc+knn": "scenc, kNN",
    "pca+logreg": "50 PCs, logistic",
    "pca+knn": "50 PCs, kNN",
    "scvi+logreg": "scVI, logistic",
    "scvi+knn": "scVI, kNN",
    "celltypist": "CellTypist",
}
GROUPS = {
    "Seven PBMC studies, each left out in turn": [f"pbmc7 {study}" for study in STUDIES],
    "Kang 2018, unstimulated to stimulated": ["kang18"],
    "PBMC 3k to PBMC 4k": ["pbmc3k"],
}


def markdown(rows: pd.DataFrame) -> str:
    """Return the tables of the documentation: means over tasks of means over seeds."""
    parts = []
    for title, tasks in GROUPS.items():
        own = rows[rows["task"].isin(tasks)]
        for held_out, note in (("labels", ""), ("all", ", embeddings fitted without the type")):
            some = own[own["held_out"] == held_out]
            # Tasks that all methods have been run on.
            done = some.groupby("task")["method"].nunique()
            some = some[some["task"].isin(done.index[done == done.max()])]
            if not len(some):
                continue
            columns = [c for c in SHOWN if c in some and some[c].notna().any()]
            means = some.groupby(["method", "task"])[columns].mean().groupby("method").mean()
            n_seeds = some.groupby("method")["seed"].nunique()
            lines = [f"**{title}**{note} ({some['task'].nunique()} tasks)", ""]
            lines += ["| | seeds | " + " | ".join(SHOWN[c] for c in columns) + " |"]
            lines += ["| --- |" + " ---: |" * (len(columns) + 1)]
            for method in (m for m in METHODS if m in means.index):
                values = ["" if pd.isna(v) else f"{v:.3f}" for v in means.loc[method]]
                cells = [TITLES[method], str(n_seeds[method]), *values]
                lines.append("| " + " | ".join(cells) + " |")
            parts.append("\n".join(lines))
    return "\n\n".join(parts) + "\n"


def measure_speed(n_cells: int, n_dims: int = 64) -> list[dict[str, Any]]:
    """Time what comes after embedding: as many query cells as cells of the reference.

    Cells of 20 types and 10 batches: Gaussian clouds on a plane of 12 dimensions, so that
    neighbours are as hard to find as in real embeddings.
    """
    rng = np.random.default_rng(0)
    basis = rng.normal(size=(12, n_dims))
    centers = rng.normal(size=(20, 12)) * 2
    shifts = rng.normal(size=(10, 12)) * 0.3

    def draw() -> tuple[NDArray[np.float32], NDArray[np.intp], NDArray[np.intp]]:
        types, batches = rng.integers(20, size=n_cells), rng.integers(10, size=n_cells)
        inner = centers[types] + shifts[batches] + rng.normal(size=(n_cells, 12))
        noise = 0.1 * rng.normal(size=(n_cells, n_dims))
        return (inner @ basis + noise).astype(np.float32), types, batches

    (reference, types, batches), (query, truth, _) = draw(), draw()
    plane = reference[:, :2]

    def annotate(method: str) -> float:
        classifier = LabelClassifier.fit(reference, types, batches, method=method, progress=False)
        found = classifier.predict(query)
        return float(np.mean(found.labels == truth.astype(str)))

    def vote() -> float:
        return float(over_clusters(query).max() + 1)

    def place(coordinates: NDArray[np.float32] | None) -> float:
        return float(map_to_reference(reference, query, coordinates, batches).score.mean())

    work: dict[str, Callable[[], float]] = {
        "annotate logreg": lambda: annotate("logreg"),
        "annotate knn": lambda: annotate("knn"),
        "map": lambda: place(plane),
        "majority clusters": vote,
        "map, UMAP fitted": lambda: place(None),
    }
    rows = []
    for name, do in work.items():
        wall, processor = time.perf_counter(), time.process_time()
        result = do()
        rows.append(
            {
                "task": f"speed {name}",
                "n_cells": n_cells,
                "n_dims": n_dims,
                "seconds": time.perf_counter() - wall,
                "processor_seconds": time.process_time() - processor,
                "peak_gb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6,
                "result": result,
            }
        )
        print(rows[-1], flush=True)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=["embed", "compare", "speed"])
    parser.add_argument("folder", type=Path, nargs="?", help="of the data")
    parser.add_argument("--tasks", nargs="+", default=["report"], help="by name; report; choose")
    parser.add_argument("--methods", nargs="+", default=list(METHODS), metavar="METHOD")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--refit", action="store_true", help="also without the held-out type")
    parser.add_argument("--kept", type=Path, default=Path("annotation_embeddings"))
    parser.add_argument("--out", type=Path, default=Path("annotation.jsonl"))
    parser.add_argument("--table", action="store_true", help="only print what --out holds")
    parser.add_argument("--n-cells", type=int, default=100_000, help="of speed")
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    file = Lines(args.out)
    if args.what == "speed":
        for row in measure_speed(args.n_cells):
            file.add(row)
        return
    if args.table:
        rows = pd.DataFrame(file.rows())
        print(markdown(rows[rows["held_out"].notna()]))
        return
    if args.folder is None:
        parser.error("the folder of the data is needed")
    groups = {"report": list(REPORT), "choose": list(CHOOSE)}
    tasks = [name for word in args.tasks for name in groups.get(word, [word])]
    if unknown := set(tasks) - set(TASKS):
        parser.error(f"there are no tasks {unknown}; there are {', '.join(TASKS)}")
    if unknown := set(args.methods) - set(METHODS):
        parser.error(f"there are no methods {unknown}; there are {', '.join(METHODS)}")
    if args.what == "compare":
        compute_missing(args, file, tasks)
        return
    names = dict.fromkeys(method.split("+")[0] for method in args.methods if "+" in method)
    for refit, seed, task, name in product(
        [False, True] if args.refit else [False], args.seeds, tasks, names
    ):
        left = HELD_OUT[task] if refit else None
        pair = TASKS[task](args.folder)
        embedded(args.kept, task, name, seed, left, pair.without(left) if left else pair)


if __name__ == "__main__":
    main()
