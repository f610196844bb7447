"""Compare embeddings of people's own data: scenc, its parts left out, and the usual baselines.

    python benchmarks/bench_quality.py DATA_DIR --sets choose --methods pca scvi scenc --seeds 0 1 2
    python benchmarks/bench_quality.py DATA_DIR --sets pbmc7 kang18 --methods visits
    python benchmarks/bench_quality.py DATA_DIR --methods scenc --variant wide '{"d_model": 128}'

Settings were chosen on the sets of ``choose``; those of ``report`` were not looked at before the
recipe was fixed. Every method gets the raw counts, the batch key where there is one, and a seed;
labels are for scoring only. Beside the scores of `scenc.metrics` each run has

- ``kmeans_nmi`` and ``kmeans_ari``: of KMeans with as many clusters as there are labels, where
  ``nmi`` and ``ari`` are of the best of ten Leiden clusterings;
- ``logistic_macro_f1``: of logistic regression, on the splits of the nearest neighbours'
  ``macro_f1``;
- processor seconds of training and of embedding, and the time that passed.

One line of JSON per data set, method and seed goes to ``--out``; lines that are there already are
not computed again. Lines of another version of scenc, or of other settings under the same name, are
an error. ``--table`` prints what the file holds.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import time
import warnings
from dataclasses import dataclass, field, fields, replace
from inspect import Parameter, signature
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anndata as ad
import numpy as np
import pandas as pd
import scanpy as sc
from sklearn.cluster import KMeans
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import adjusted_rand_score, f1_score, normalized_mutual_info_score
from sklearn.model_selection import StratifiedShuffleSplit
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import scenc
from scenc.metrics import MISSING, integration, knn_classification
from scenc.train import TrainConfig

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator

    from numpy.typing import ArrayLike, NDArray
    from scvi.model import SCVI

    # An embedding, one row per cell, and what was measured while making it.
    Embedded = tuple[NDArray[Any], dict[str, float]]

N_GENES, N_PCS = 2000, 50
# Types with fewer cells are not classified; five splits, four fifths of the cells to train on.
MIN_CELLS, N_SPLITS, TEST_SIZE = 20, 5, 0.2


@dataclass(frozen=True)
class DataSet:
    """A file of counts with ``obs['cell_type']`` and ``obs['batch']``."""

    file: str
    batches: bool = True

    @property
    def batch_key(self) -> str | None:
        """The column of ``obs`` with the batches, where there is more than one."""
        return "batch" if self.batches else None


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


class Stopwatch:
    """Times the stages of a run, each from the end of the one before.

    Attributes
    ----------
    seconds
        Processor time of all threads by stage, as ``train_seconds``, and the time that passed, as
        ``train_wall_seconds``.
    """

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._start()

    def _start(self) -> None:
        self._processor, self._wall = time.process_time(), time.perf_counter()

    def stop(self, stage: str) -> None:
        """Record the stage that ends here."""
        self.seconds[f"{stage}_seconds"] = time.process_time() - self._processor
        self.seconds[f"{stage}_wall_seconds"] = time.perf_counter() - self._wall
        self._start()


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


def principal_components(
    adata: ad.AnnData, batch_key: str | None, seed: int
) -> NDArray[np.float32]:
    """Return 50 principal components of log-normalised, most variable genes."""
    genes = variable_genes(adata, batch_key).var_names
    logged = log_normalised(adata)[:, genes].copy()
    sc.pp.pca(logged, n_comps=min(N_PCS, *(n - 1 for n in logged.shape)), random_state=seed)
    return logged.obsm["X_pca"]


def pca(adata: ad.AnnData, batch_key: str | None, seed: int) -> Embedded:
    """50 principal components of log-normalised, most variable genes."""
    watch = Stopwatch()
    components = principal_components(adata, batch_key, seed)
    watch.stop("train")
    return components, watch.seconds


def harmony(adata: ad.AnnData, batch_key: str | None, seed: int) -> Embedded:
    """Harmony on the principal components; the components where there are no batches."""
    import harmonypy

    watch = Stopwatch()
    embedding = principal_components(adata, batch_key, seed)
    if batch_key is not None:
        result = harmonypy.run_harmony(
            embedding, adata.obs, batch_key, random_state=seed, verbose=False, ncores=1
        )
        corrected = np.asarray(result.Z_corr)
        embedding = corrected if len(corrected) == adata.n_obs else corrected.T
    watch.stop("train")
    return embedding, watch.seconds


def fit_scvi(
    counts: ad.AnnData,
    batch_key: str | None,
    seed: int,
    max_epochs: int | None = None,
    accelerator: str = "cpu",
    **settings: Any,
) -> SCVI:
    """Train scVI with its defaults, unless settings of its training are given."""
    import scvi

    scvi.settings.seed = seed
    scvi.model.SCVI.setup_anndata(counts, batch_key=batch_key)
    model = scvi.model.SCVI(counts)
    settings = {"enable_progress_bar": False, "logger": False, **settings}
    model.train(max_epochs, accelerator=accelerator, **settings)
    return model


def embed_scvi(adata: ad.AnnData, batch_key: str | None, seed: int, **settings: Any) -> Embedded:
    """Run scVI on the counts of the most variable genes."""
    import scvi  # noqa: F401, as importing it is no part of training

    watch = Stopwatch()
    model = fit_scvi(variable_genes(adata, batch_key), batch_key, seed, **settings)
    watch.stop("train")
    embedding = model.get_latent_representation()
    watch.stop("embed")
    return embedding, watch.seconds


def fit_scenc(
    counts: ad.AnnData,
    batch_key: str | None,
    seed: int,
    trained: bool = True,
    accelerator: str = "cpu",
    **settings: Any,
) -> scenc.Model:
    """Fit ``scenc.Model``; settings are those of `TrainConfig` or else of the model."""
    of_training = {field.name for field in fields(TrainConfig)}
    scenc.Model.setup_anndata(counts, batch_key=batch_key)
    of_model = {name: value for name, value in settings.items() if name not in of_training}
    model = scenc.Model(counts, seed=seed, **of_model)
    if trained:
        given = {name: value for name, value in settings.items() if name in of_training}
        model.train(accelerator=accelerator, enable_progress_bar=False, **given)
    else:
        model.is_trained = True
    return model


def cells_shown(model: scenc.Model) -> int:
    """Return how many cells training showed, each visit counted; early stopping makes it fewer."""
    if model.history is None:
        return 0
    config = model.train_config
    n_steps = len(model.history["train_loss"])
    return n_steps * config.batch_size * config.accumulate_grad_batches


def embed_scenc(
    adata: ad.AnnData,
    batch_key: str | None,
    seed: int,
    ignore_batches: bool = False,
    **settings: Any,
) -> Embedded:
    """Run scenc on the counts of all genes; with `ignore_batches` without the batch key."""
    watch = Stopwatch()
    model = fit_scenc(adata.copy(), None if ignore_batches else batch_key, seed, **settings)
    watch.stop("train")
    embedding = model.get_latent_representation()
    watch.stop("embed")
    return embedding, {**watch.seconds, "visits": cells_shown(model)}


@dataclass(frozen=True)
class Method:
    """A way to embed cells, and the settings that differ from its defaults."""

    run: Callable[..., Any]
    settings: dict[str, Any] = field(default_factory=dict)


def model_with(**settings: Any) -> Method:
    """Return scenc with some settings changed, of its model or its training."""
    return Method(embed_scenc, settings)


COMPARED = {
    "pca": Method(pca),
    "harmony": Method(harmony),
    "scvi": Method(embed_scvi),
    "scenc": model_with(),
    "scenc_untrained": model_with(trained=False),
    "scenc_contrastive": model_with(objective="contrastive"),
    "scenc_masked": model_with(objective="masked"),
}
# The generative objective with one part removed, added or changed.
CHANGES: dict[str, dict[str, Any]] = {
    "no_partner": {"partner_share": 0.0},
    "no_contrast": {"contrast_weight": 0.0},
    "no_kl": {"kl_weight": 0.0},
    "no_counts": {"counts_weight": 0.0},
    "no_neighbors": {"partner_share": 0.0, "same_cell": 1.0},
    "no_thinning": {"view_depth": [1.0, 1.0]},
    "no_batch_key": {"ignore_batches": True},
    "with_anchor": {"anchor_weight": 0.2},
    "with_masked": {"masked_weight": 1.0},
    "negatives_of_all_batches": {"negatives": "all"},
    "zero_inflated": {"likelihood": "zinb"},
    "random_gene_vectors": {"gene_init": "random"},
    "random_residuals": {"residual_init": "random"},
    "mean_of_tokens": {"pooling": "mean"},
    "all_genes": {"n_top_genes": None},
}
ABLATIONS = {name: model_with(objective="generative", **change) for name, change in CHANGES.items()}
# Cells shown in training, in thousands.
VISITS = {
    f"{name} {thousands}k": model_with(**objective, cell_visits=1000 * thousands)
    for name, objective in (("scenc", {}), ("scenc_contrastive", {"objective": "contrastive"}))
    for thousands in (25, 50, 100, 250, 500)
}
METHODS = {**COMPARED, **ABLATIONS, **VISITS}
FAMILIES = {
    "compared": list(COMPARED),
    "ablations": list(ABLATIONS),
    "visits": list(VISITS),
}
# What does not change with scenc.
BASELINES = ("pca", "harmony", "scvi")


def labelled(labels: ArrayLike) -> NDArray[np.bool_]:
    """Return which cells have a label."""
    series = pd.Series(np.asarray(labels, dtype=object))
    return ~(series.isna() | series.astype(str).isin(MISSING)).to_numpy()


def kmeans_agreement(
    embedding: NDArray[Any], labels: ArrayLike, seed: int = 0
) -> tuple[float, float]:
    """Return NMI and ARI of the labels and of KMeans clusters, as many as there are labels.

    scib-metrics takes as many; here they are the best, by their sum of squares, of ten starts.
    """
    known = labelled(labels)
    truth = np.asarray(labels, dtype=object)[known].astype(str)
    clusters = KMeans(len(np.unique(truth)), n_init=10, random_state=seed).fit_predict(
        np.asarray(embedding, dtype=np.float64)[known]
    )
    return normalized_mutual_info_score(truth, clusters), adjusted_rand_score(truth, clusters)


def classification_splits(
    labels: ArrayLike,
) -> tuple[NDArray[np.intp], NDArray[Any], Iterator[tuple[NDArray[np.intp], NDArray[np.intp]]]]:
    """Return the rows that are classified, their labels, and pairs of training and test rows.

    These are the splits of `scenc.metrics.knn_classification` with the same numbers.
    """
    names = np.asarray(labels, dtype=object).astype(str)
    sizes = pd.Series(names).map(pd.Series(names).value_counts())
    rows = np.flatnonzero(labelled(labels) & (sizes >= MIN_CELLS).to_numpy())
    shuffles = StratifiedShuffleSplit(N_SPLITS, test_size=TEST_SIZE, random_state=0)
    return rows, names[rows], shuffles.split(rows, names[rows])


def logistic_f1(embedding: NDArray[Any], labels: ArrayLike) -> float:
    """Return macro F1 of logistic regression on standardised dimensions, the mean of five splits.

    NaN if fewer than two types have enough cells.
    """
    rows, truth, splits = classification_splits(labels)
    if len(np.unique(truth)) < 2:
        return float("nan")
    cells = np.asarray(embedding, dtype=np.float64)[rows]
    scores = []
    for train, test in splits:
        classifier = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
        predicted = classifier.fit(cells[train], truth[train]).predict(cells[test])
        scores.append(f1_score(truth[test], predicted, average="macro", zero_division=0))
    return float(np.mean(scores))


def effective_rank(embedding: NDArray[Any]) -> float:
    """Return the participation ratio of the embedding's variances: 1 if it collapsed to a line."""
    variances = np.linalg.eigvalsh(np.cov(embedding, rowvar=False)).clip(min=0)
    return float(variances.sum() ** 2 / (variances**2).sum())


def score(embedding: NDArray[Any], labels: pd.Series[str], batch: pd.Series[str]) -> dict[str, Any]:
    """Return all scores of an embedding by name."""
    knn = knn_classification(
        embedding, labels, min_cells=MIN_CELLS, test_size=TEST_SIZE, n_repeats=N_SPLITS, seed=0
    )
    kmeans_nmi, kmeans_ari = kmeans_agreement(embedding, labels)
    return {
        "accuracy": knn.accuracy,
        "macro_f1": knn.macro_f1,
        "logistic_macro_f1": logistic_f1(embedding, labels),
        **integration(embedding, batch, labels).to_dict(),
        "kmeans_nmi": kmeans_nmi,
        "kmeans_ari": kmeans_ari,
        "rank": effective_rank(embedding),
        "spread": float(embedding.std(axis=0).mean()),
    }


def run(name: str, method: Method, seed: int, folder: Path) -> dict[str, Any]:
    """Embed and score one data set by one method."""
    data = SETS[name]
    adata = ad.read_h5ad(folder / data.file)
    embedding, measured = method.run(adata, data.batch_key, seed, **method.settings)
    labels = adata.obs["cell_type"]
    batch = adata.obs["batch"] if data.batches else pd.Series("one", index=labels.index)
    return {**score(embedding, labels, batch), **measured}


def source_version() -> str:
    """Return scenc's version, the last commit that changed it, and whether it was changed since.

    Commits that change something else, documentation or benchmarks, make no other version.
    """
    package = Path(scenc.__file__).parent

    def git(*command: str) -> str:
        found = subprocess.run(
            ["git", *command, "--", "."], cwd=package, capture_output=True, text=True, check=True
        )
        return found.stdout.strip()

    try:
        commit = git("log", "-1", "--format=%h")
        changed = bool(git("status", "--porcelain"))
    except (OSError, subprocess.CalledProcessError):
        commit, changed = "", False
    return scenc.__version__ + (f"+{commit}" if commit else "") + (".changed" if changed else "")


class RunFile:
    """Lines of JSON, one for each run, which are written once and found again.

    Parameters
    ----------
    path
        The file, which need not exist.
    baselines
        Methods that are not scenc, and the same whatever its version.
    any_version
        Whether the file may hold runs of other versions of scenc.
    """

    def __init__(self, path: Path, baselines: Collection[str], any_version: bool = False) -> None:
        self.path, self.baselines, self.any_version = path, baselines, any_version
        self.version = source_version()

    def rows(self) -> list[dict[str, Any]]:
        """Return what the file holds now; another process may be writing to it as well."""
        if not self.path.exists():
            return []
        return [json.loads(line) for line in self.path.read_text().splitlines()]

    def holds(self, name: str, method: str, seed: int, settings: dict[str, Any]) -> bool:
        """Return whether a run is in the file.

        Raises
        ------
        SystemExit
            The file holds runs of another version of scenc, or of this method with other settings.
        """
        found = False
        for row in self.rows():
            if not {row["method"], method} & set(self.baselines):
                self._check_version(row)
            if row["method"] == method and row.get("settings", settings) != settings:
                raise SystemExit(
                    f"{self.path} holds {method!r} with the settings {row['settings']}, and now "
                    f"they are {settings}. Give another --out, or the method another name."
                )
            found |= (row["data"], row["method"], row["seed"]) == (name, method, seed)
        return found

    def _check_version(self, row: dict[str, Any]) -> None:
        version = row.get("version", "of unknown version")
        if version != self.version and not self.any_version:
            raise SystemExit(
                f"{self.path} holds {row['method']!r} by scenc {version}, and this is "
                f"{self.version}. Give another --out, or --any-version to keep both in one file."
            )

    def add(self, row: dict[str, Any]) -> None:
        """Append a run, and print it."""
        with self.path.open("a") as file:
            file.write(json.dumps({**row, "version": self.version}) + "\n")
        shown = {k: round(v, 3) if isinstance(v, float) else v for k, v in row.items()}
        print(shown, flush=True)


def compute_missing(
    file: RunFile,
    names: list[str],
    methods: dict[str, Method],
    seeds: list[int],
    run: Callable[[str, Method, int], dict[str, Any]],
) -> None:
    """Run what the file does not hold yet; what it cannot hold stops before anything is run."""
    wanted = [(name, method, seed) for seed in seeds for name in names for method in methods]
    for name, method, seed in wanted:
        file.holds(name, method, seed, methods[method].settings)
    for name, method, seed in wanted:
        chosen = methods[method]
        if not file.holds(name, method, seed, chosen.settings):
            row = {"data": name, "method": method, "seed": seed, "settings": chosen.settings}
            file.add({**row, **run(name, chosen, seed)})


def print_table(rows: pd.DataFrame, spread: list[str]) -> None:
    """Print each method's mean by data set and over all, and the spread of some scores."""
    values = rows.drop(columns="seed").groupby(["data", "method"])
    mean, deviation = values.mean(numeric_only=True), values.std(numeric_only=True).fillna(0)
    pd.set_option("display.width", 250, "display.max_columns", 40)
    for name in mean.index.unique("data"):
        print(f"\n{name} (mean of {values.size()[name].max()} seeds)\n{mean.loc[name].round(3)}")
        print(f"standard deviation\n{deviation.loc[name, spread].round(3)}")
    print(f"\nmean over {len(mean.index.unique('data'))} data sets")
    print(mean.groupby("method").mean().round(3))


def command_line(
    doc: str, methods: dict[str, Method], families: dict[str, list[str]], out: str
) -> argparse.ArgumentParser:
    """Return the arguments that all comparisons take; `families` are names for several methods."""
    parser = argparse.ArgumentParser(description=doc.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--sets", nargs="+", default=["choose"], metavar="SET")
    parser.add_argument(
        "--methods",
        nargs="*",
        default=["compared"],
        metavar="METHOD",
        help=f"of {', '.join(methods)}; or {', '.join(families)}",
    )
    parser.add_argument(
        "--variant",
        nargs=2,
        action="append",
        default=[],
        metavar=("NAME", "JSON"),
        help="scenc with these settings, of its model or its training, under a name",
    )
    parser.add_argument("--accelerator", default="cpu", help="that methods train on: cpu, or cuda")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--scvi-epochs", type=int, help="for trials; default: scVI's own")
    parser.add_argument("--out", type=Path, default=Path(out))
    parser.add_argument("--any-version", action="store_true", help="--out may hold other versions")
    parser.add_argument("--table", action="store_true", help="only print what --out holds")
    return parser


def chosen_sets(given: list[str]) -> list[str]:
    """Return the names of data sets, given by name or group.

    Raises
    ------
    SystemExit
        There is no such data set.
    """
    groups = {"choose": list(CHOOSE), "report": list(REPORT)}
    names = [name for word in given for name in groups.get(word, [word])]
    if unknown := set(names) - set(SETS):
        raise SystemExit(f"There are no data sets {unknown}; there are {', '.join(SETS)}.")
    return names


def chosen_methods(
    args: argparse.Namespace, methods: dict[str, Method], families: dict[str, list[str]]
) -> dict[str, Method]:
    """Return the methods that the command line names, by themselves, by family or as variants.

    Raises
    ------
    SystemExit
        There is no such method, or a variant has a method's name.
    """
    names = [name for word in args.methods for name in families.get(word, [word])]
    if unknown := set(names) - set(methods):
        raise SystemExit(f"There are no methods {unknown}; there are {', '.join(methods)}.")
    chosen = {name: methods[name] for name in names}
    if args.scvi_epochs is not None and "scvi" in chosen:
        chosen["scvi"] = replace(chosen["scvi"], settings={"max_epochs": args.scvi_epochs})
    for name, settings in args.variant:
        if name in methods:
            raise SystemExit(f"{name!r} is a method; give the variant another name.")
        chosen[name] = replace(methods["scenc"], settings=json.loads(settings))
    if args.accelerator != "cpu":
        for name, method in chosen.items():
            kinds = {parameter.kind for parameter in signature(method.run).parameters.values()}
            if Parameter.VAR_KEYWORD in kinds:  # others, as PCA, do not train
                settings = {**method.settings, "accelerator": args.accelerator}
                chosen[name] = replace(method, settings=settings)
    return chosen


def main() -> None:
    args = command_line(__doc__, METHODS, FAMILIES, "quality.jsonl").parse_args()
    warnings.simplefilter("ignore")
    names, methods = chosen_sets(args.sets), chosen_methods(args, METHODS, FAMILIES)
    file = RunFile(args.out, BASELINES, args.any_version)
    if not args.table:
        compute_missing(file, names, methods, args.seeds, lambda *chosen: run(*chosen, args.folder))
    rows = pd.DataFrame(file.rows())
    print_table(rows[rows["data"].isin(names)], ["accuracy", "macro_f1"])


if __name__ == "__main__":
    main()
