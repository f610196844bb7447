"""Write the tables and the figure of docs/quality.md from what bench_quality.py found.

    python benchmarks/write_quality.py benchmarks/results/quality.jsonl docs/_static/quality

One Markdown file for each group of tables goes to the folder, and the figure beside them as SVG.
Values are means over seeds, ± their standard deviation where there are several.
"""

from __future__ import annotations

import sys
from pathlib import Path

import matplotlib as mpl
import matplotlib.pyplot as plt
import pandas as pd
from bench_quality import ABLATIONS, CHOOSE, REPORT, VISITS

import scenc
from scenc.train import TrainConfig

COLUMNS = {
    "accuracy": "accuracy",
    "macro_f1": "macro F1",
    "label_asw": "label ASW",
    "clisi": "cLISI",
    "nmi": "NMI",
    "ari": "ARI",
    "ilisi": "iLISI",
    "graph_connectivity": "graph conn.",
    "batch_asw": "batch ASW",
    "bio_preservation": "biology",
    "batch_correction": "batches",
    "rank": "rank",
    "train_seconds": "CPU s",
}
HEAD = ("accuracy", "macro_f1", "bio_preservation", "batch_correction")
METHODS = {
    "pca": "50 PCs",
    "harmony": "Harmony on the PCs",
    "scvi": "scVI",
    "scenc": "scenc",
    "untrained": "scenc, untrained",
    "masked": "scenc, masked objective",
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
    if column == "train_seconds":
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
        by_seed = own.groupby("seed")[list(HEAD)].mean()[own.groupby("seed").size() == len(names)]
        if len(by_seed):
            rows[title] = [*(shown(c, by_seed[c], True) for c in HEAD), str(len(by_seed))]
    return table("", rows, [*(COLUMNS[c] for c in HEAD), "seeds"])


def n_visits(method: str) -> int:
    """Return how many cells a method of bench_quality.py shows in training."""
    return int(method.split()[1][:-1]) * 1000 if method in VISITS else TrainConfig().cell_visits


def draw_visits(found: pd.DataFrame, path: Path) -> None:
    """Draw macro F1 by the number of cells shown in training."""
    mpl.use("Agg")
    names = [n for n in ("kang18", "pbmc7") if (found["data"] == n).any()]
    figure, axes = plt.subplots(1, len(names), figsize=(7, 2.8), layout="constrained")
    for ax, name in zip(figure.axes, names, strict=True):
        own = found[(found["data"] == name) & (found["seed"] == 0)].set_index("method")
        for objective, title, style in (
            ("scenc", "default objective", "o-"),
            ("masked", "masked objective", "s--"),
        ):
            visits = {m: n_visits(m) for m in ("scenc", *VISITS) if m.startswith(objective)}
            points = sorted((n, own["macro_f1"][m]) for m, n in visits.items() if m in own.index)
            if points:
                ax.plot(*zip(*points, strict=True), style, label=title)
        for method, style in (("pca", ":"), ("untrained", "-.")):
            if method in own.index:
                ax.axhline(own["macro_f1"][method], color="0.4", ls=style, label=METHODS[method])
        ax.set(
            xscale="log",
            xlabel="cells shown, thousands",
            title=TITLES[name].partition(" cells")[0].rpartition(", ")[0],
        )
        shown_at = sorted({n_visits(m) for m in ("scenc", *VISITS) if m in own.index})
        ax.set_xticks(shown_at, [f"{n // 1000}" for n in shown_at])
        ax.minorticks_off()
        ax.set_ylim(0, 1)
    axes_of = figure.axes
    axes_of[0].set_ylabel("macro F1")
    figure.legend(
        *axes_of[-1].get_legend_handles_labels(), loc="outside lower center", ncols=4, frameon=False
    )
    scenc.pl.save(axes_of[0], path)
    plt.close(figure)


def main() -> None:
    source, folder = map(Path, sys.argv[1:3])
    folder.mkdir(parents=True, exist_ok=True)
    found = pd.read_json(source, lines=True)
    ablated = {"scenc": "the whole recipe", **{name: name for name in ABLATIONS}}
    tried = [n for n in CHOOSE if found["method"].isin(list(ABLATIONS))[found["data"] == n].any()]
    files = {
        "means": means(found, list(REPORT), METHODS),
        "report": "\n".join(data_set(found, name) for name in REPORT),
        "choose": "\n".join(data_set(found, name) for name in CHOOSE),
        "ablations": means(found, tried, ablated),
    }
    for name, text in files.items():
        (folder / f"{name}.md").write_text(text, encoding="utf-8")
    if found["method"].isin(list(VISITS)).any():
        draw_visits(found, folder / "visits.svg")


if __name__ == "__main__":
    main()
