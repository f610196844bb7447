"""Write the tables and the figure of docs/quality.md from what the two benchmarks found.

    python benchmarks/write_quality.py benchmarks/results docs/_static/quality

The first folder has quality.jsonl of bench_quality.py, and expression.jsonl of bench_expression.py;
the figure has the curves of quality_MACHINE.jsonl, too.
One Markdown file for each group of tables goes to the folder, and the figure beside them as SVG.
Values are means over seeds, ± their standard deviation where there are several; empty where a run
did not measure them.
"""

from __future__ import annotations

import sys
from itertools import product
from pathlib import Path

import matplotlib as mpl
import matplotlib.pyplot as plt
import pandas as pd
from bench_quality import ABLATIONS, CHOOSE, REPORT

import scenc

COLUMNS = {
    "accuracy": "accuracy",
    "macro_f1": "macro F1",
    "logistic_macro_f1": "macro F1, logistic",
    "label_asw": "label ASW",
    "clisi": "cLISI",
    "nmi": "NMI, Leiden",
    "ari": "ARI, Leiden",
    "kmeans_nmi": "NMI, KMeans",
    "kmeans_ari": "ARI, KMeans",
    "ilisi": "iLISI",
    "graph_connectivity": "graph conn.",
    "batch_asw": "batch ASW",
    "bio_preservation": "biology",
    "batch_correction": "batches",
    "rank": "rank",
    "train_seconds": "CPU s",
    "embed_seconds": "to embed",
    "wall_seconds": "wall s",
}
HEAD = (
    "accuracy",
    "macro_f1",
    "logistic_macro_f1",
    "bio_preservation",
    "batch_correction",
    "nmi",
    "ari",
    "kmeans_nmi",
    "kmeans_ari",
)
SECONDS = ("train_seconds", "embed_seconds", "wall_seconds")
METHODS = {
    "pca": "50 PCs",
    "harmony": "Harmony on the PCs",
    "scvi": "scVI",
    "scenc": "scenc",
    "scenc_untrained": "scenc, untrained",
    "scenc_contrastive": "scenc, contrastive objective",
    "scenc_masked": "scenc, masked objective",
}
# Methods of bench_expression.py.
PREDICTORS = {
    "gene_mean": "each gene's mean share",
    "knn": "15 nearest neighbours",
    "knn_50": "50 nearest neighbours",
    "scvi": "scVI",
    "scenc": "scenc",
    "scenc_zinb": "scenc, zero-inflated",
    "scenc_no_partner": "scenc, own counts only",
    "scenc_no_kl": "scenc, no KL divergence",
    "scenc_no_contrast": "scenc, no contrast",
    "scenc_neighbors": "15 nearest neighbours in scenc's embedding",
}
# Names of methods that say how many thousand cells were shown.
VISITS = r"\w+ \d+k"
TICKS = (10, 25, 50, 100, 250, 500)
# What the figure draws, by its column.
CURVES = {
    "macro_f1": "macro F1",
    "bio_preservation": "biology",
    "batch_correction": "batches",
}
TITLES = {
    "heart": "heart, 1,000 cells, 861 genes, 14 donors, 11 types",
    "dlpfc": "cortex (DLPFC), 500 nuclei, 979 genes, 2 donors, 6 types",
    "baron": "pancreas (Baron), 175 cells, 11,132 genes, 4 donors, 5 types",
    "pbmc4k": "PBMC 4k, 1,999 cells, 4,060 genes, one batch, 9 types",
    "breast": "31 breast cancer lines, 930 cells, 30,087 genes, one batch",
    "onek1k": "OneK1K B cells, 3,726 cells, 779 genes, 100 donors, 2 types",
    "kang18": "PBMC (Kang 2018), 12,261 cells, 1,287 genes, 8 donors, 8 types",
    "pbmc7": "PBMC, 7 studies, 4,142 cells, 12,843 genes, 9 types",
    "luad": "lung adenocarcinoma, 4,986 cells, 1,998 genes, 58 samples, 9 types",
    "pbmc3k": "PBMC 3k, 2,638 cells, 16,579 genes, one batch, 9 types",
}


def shown(column: str, values: pd.Series[float], spread: bool) -> str:
    """Write a mean over seeds, with its standard deviation where that says something."""
    mean, std = values.mean(), values.std()
    if pd.isna(mean):
        return ""
    if column in SECONDS:
        return f"{mean:.0f}"
    if column == "rank":
        return f"{mean:.1f}"
    return f"{mean:.3f}" + (f" ± {std:.3f}" if spread and std >= 0.0005 else "")


def table(first: str, rows: dict[str, list[str]], columns: list[str]) -> str:
    """Return a Markdown table."""
    lines = [
        f"| {first} | " + " | ".join(columns) + " |",
        "| --- |" + " ---: |" * len(columns),
        *(f"| {name} | " + " | ".join(values) + " |" for name, values in rows.items()),
    ]
    return "\n".join(lines) + "\n"


def data_set(found: pd.DataFrame, name: str) -> str:
    """Return one data set's title and table."""
    rows = {}
    for method, title in METHODS.items():
        own = found[(found["data"] == name) & (found["method"] == method)]
        if len(own):
            cells = [shown(c, own[c], spread=c in HEAD) for c in COLUMNS]
            rows[title] = [*cells, str(len(own))]
    return f"### {TITLES[name]}\n\n" + table("", rows, [*COLUMNS.values(), "seeds"])


def means(found: pd.DataFrame, names: list[str], methods: dict[str, str]) -> str:
    """Return the means over data sets of methods that were run on all of them, by seed."""
    rows = {}
    for method, title in methods.items():
        own = found[found["data"].isin(names) & (found["method"] == method)]
        # Of a score that a run did not measure there is no mean.
        by_seed = own.groupby("seed")[list(HEAD)].agg(lambda scores: scores.mean(skipna=False))
        by_seed = by_seed[own.groupby("seed").size() == len(names)]
        if len(by_seed):
            rows[title] = [*(shown(c, by_seed[c], True) for c in HEAD), str(len(by_seed))]
    return table("", rows, [*(COLUMNS[c] for c in HEAD), "seeds"])


def expression(found: pd.DataFrame, names: list[str], column: str) -> str:
    """Return one score of predictions of hidden counts, a column for each data set."""
    found = found[found["data"].isin(names)]
    names = [name for name in names if (found["data"] == name).any()]
    rows = {}
    for method, title in PREDICTORS.items():
        own = found[found["method"] == method].groupby("data")[column]
        scores = {name: shown(column, values, True) for name, values in own}
        if any(scores.values()):
            rows[title] = [scores.get(name, "") for name in names]
    return table("", rows, [TITLES[name].partition(",")[0] for name in names])


def read_runs(source: Path) -> pd.DataFrame:
    """Return the runs in a file; columns that none of them has are empty.

    Raises
    ------
    ValueError
        A data set, method and seed is there twice.
    """
    found = pd.read_json(source, lines=True)
    if (again := found.duplicated(["data", "method", "seed"])).any():
        raise ValueError(f"{source} holds twice:\n{found.loc[again, ['data', 'method', 'seed']]}")
    parts = [f"{stage}_wall_seconds" for stage in ("train", "embed")]
    found = found.reindex(columns=list(dict.fromkeys([*found, *COLUMNS, *parts, "visits"])))
    # What starts from no training, principal components, has nothing to embed afterwards.
    found["wall_seconds"] = found[parts[0]] + found[parts[1]].fillna(0)
    return found


def draw_visits(found: pd.DataFrame, path: Path) -> None:
    """Draw scores by the number of cells shown in training, a column for each data set.

    Without the masked objective, which is so far below the others that it would hide their
    differences.
    """
    mpl.use("Agg")
    shown_in_training = found["method"].str.extract(r"^(?P<name>\w+) (?P<thousands>\d+)k$")
    found = found.assign(name=shown_in_training["name"])
    # Early stopping can end a training before all visits it was given.
    found["thousands"] = (found["visits"] / 1000).fillna(
        shown_in_training["thousands"].astype(float)
    )
    curves = found.dropna(subset=["name", "thousands"])
    curves = curves[curves["name"] != "scenc_masked"]
    names = [name for name in TITLES if (curves["data"] == name).any()]
    figure, axes = plt.subplots(
        len(CURVES),
        len(names),
        figsize=(3.5 * len(names), 2.2 * len(CURVES)),
        layout="constrained",
        sharex="col",
        squeeze=False,
    )
    for (row, column), (col, name) in product(enumerate(CURVES), enumerate(names)):
        ax = axes[row, col]
        own = curves[curves["data"] == name]
        for method, runs in own.groupby("name"):
            by_visits = runs.groupby(found["method"])[["thousands", column]].mean()
            by_visits = by_visits.sort_values("thousands")
            ax.plot(
                by_visits["thousands"], by_visits[column], "o-", label=METHODS.get(method, method)
            )
        for method, style in (("pca", ":"), ("scvi", "--"), ("scenc_untrained", "-.")):
            reference = found[(found["data"] == name) & (found["method"] == method)][column]
            if len(reference):
                ax.axhline(reference.mean(), color="0.4", ls=style, label=METHODS[method])
        ax.set_xscale("log")
        ax.set_xticks(TICKS, [str(thousands) for thousands in TICKS])
        ax.minorticks_off()
        if row == 0:
            ax.set_title(TITLES[name].partition(" cells")[0].rpartition(", ")[0])
        if row == len(CURVES) - 1:
            ax.set_xlabel("cells shown, thousands")
        if col == 0:
            ax.set_ylabel(CURVES[column])
    lines = {
        label: line
        for ax in axes[0]
        for line, label in zip(*ax.get_legend_handles_labels(), strict=True)
    }
    figure.legend(
        lines.values(),
        lines.keys(),
        loc="outside lower center",
        ncols=3,
        frameon=False,
    )
    scenc.pl.save(axes[0, 0], path)
    plt.close(figure)


def quality_tables(found: pd.DataFrame) -> dict[str, str]:
    """Return the tables of embeddings, by the name of their file."""
    ablated = {"scenc": "the whole recipe", **{name: name.replace("_", " ") for name in ABLATIONS}}
    tried = [n for n in CHOOSE if found["method"].isin(list(ABLATIONS))[found["data"] == n].any()]
    tables = {
        "means": means(found, list(REPORT), METHODS),
        "report": "\n".join(data_set(found, name) for name in REPORT),
        "choose": "\n".join(data_set(found, name) for name in CHOOSE),
    }
    if tried:
        tables["ablations"] = means(found, tried, ablated)
    return tables


def expression_tables(found: pd.DataFrame) -> dict[str, str]:
    """Return the tables of predicted counts, by the name of their file."""
    names = list(TITLES)
    return {
        "hidden_molecules": expression(found, names, "explained"),
        "hidden_molecules_deviance": expression(found, names, "deviance"),
        "hidden_genes": expression(found, names, "marker_correlation"),
    }


def main() -> None:
    results, folder = map(Path, sys.argv[1:3])
    folder.mkdir(parents=True, exist_ok=True)
    found = read_runs(results / "quality.jsonl")
    files = quality_tables(found)
    if (predicted := results / "expression.jsonl").exists():
        files |= expression_tables(read_runs(predicted))
    for name, text in files.items():
        (folder / f"{name}.md").write_text(text, encoding="utf-8")
    # Runs on other machines, of which the curves are drawn as well.
    others = [read_runs(path) for path in sorted(results.glob("quality_*.jsonl"))]
    curves = [runs[runs["method"].str.fullmatch(VISITS)] for runs in others]
    found = pd.concat([found, *curves], ignore_index=True)
    if found["method"].str.fullmatch(VISITS).any():
        draw_visits(found, folder / "visits.svg")


if __name__ == "__main__":
    main()
