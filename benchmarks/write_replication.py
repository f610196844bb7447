"""Write the tables of docs/replication.md from a benchmark's results, and its figures.

    scenc benchmark small --out RESULTS --data-dir DATA
    python benchmarks/write_replication.py RESULTS docs/_static/replication

Tables go to ``tables.md`` in the folder, figures beside it as SVG.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import matplotlib as mpl
import matplotlib.pyplot as plt
import pandas as pd

import scenc
from scenc.benchmark import Results

if TYPE_CHECKING:
    from collections.abc import Callable

GROUPS = {
    "bio_preservation": "biology",
    "batch_correction": "batches",
    "accuracy": "accuracy",
    "macro_f1": "macro F1",
}
PARTS = {
    "label_asw": "label ASW",
    "clisi": "cLISI",
    "nmi": "NMI",
    "ari": "ARI",
    "isolated_labels_f1": "isolated F1",
    "isolated_labels_asw": "isolated ASW",
    "ilisi": "iLISI",
    "graph_connectivity": "graph conn.",
    "batch_asw": "batch ASW",
}


def table(frame: pd.DataFrame, first: str) -> str:
    """Return a Markdown table."""
    head = f"| {first} | " + " | ".join(map(str, frame.columns)) + " |"
    rule = "| --- |" + " ---: |" * len(frame.columns)
    rows = [f"| {name} | " + " | ".join(map(str, row)) + " |" for name, *row in frame.itertuples()]
    return "\n".join([head, rule, *rows])


def spread(means: pd.Series[float], stds: pd.Series[float], digits: int) -> list[str]:
    """Write means with their standard deviations, where there are any."""
    return [
        "" if pd.isna(mean) else f"{mean:.{digits}f}" + (f" ± {std:.{digits}f}" if std > 0 else "")
        for mean, std in zip(means, stds, strict=True)
    ]


def means(results: Results, names: dict[str, str]) -> pd.DataFrame:
    """Return mean and standard deviation over data sets of some metrics, by encoding."""
    summary = results.summary()
    summary["shown"] = spread(summary["mean"], summary["std"], 3)
    shown = summary.pivot(index="encoding", columns="metric", values="shown").fillna("")
    return shown.loc[results.encodings["encoding"], list(names)].rename(columns=names)


def losses(results: Results) -> pd.DataFrame:
    """Return the lowest validation losses, mean and standard deviation over seeds."""
    found = results.minimum_loss()
    grouped = found.groupby("encoding", sort=False)["value"]
    return pd.DataFrame(
        {
            "lowest masked MSE": spread(grouped.mean(), grouped.std(), 4),
        },
        index=list(grouped.groups),
    )


def differences(results: Results) -> pd.DataFrame:
    """Return relative differences with intervals, the encodings' and the controls'."""
    found = results.bootstrap()
    found = found[found["metric"].isin(GROUPS) & ~found["comparison"].str.startswith("encoding")]
    found["name"] = found["comparison"] + ", " + found["within"]
    found["shown"] = [
        f"{mean:+.0%} ({low:+.0%} to {high:+.0%})"
        for mean, low, high in zip(
            found["relative"], found["relative_low"], found["relative_high"], strict=True
        )
    ]
    shown = found.pivot(index="name", columns="metric", values="shown")
    return shown.loc[found["name"].unique(), list(GROUPS)].rename(columns=GROUPS)


def by_data(results: Results) -> pd.DataFrame:
    """Return macro F1 of each data set, by encoding."""
    found = results.per_dataset()
    found = found[found["metric"] == "macro_f1"]
    shown = found.pivot(index="encoding", columns="dataset", values="value").map("{:.3f}".format)
    return shown.loc[found["encoding"].unique()]


def draw(results: Results, folder: Path) -> None:
    """Write the figures."""
    mpl.use("Agg")
    figures: dict[str, Callable[[Results], object]] = {
        "integration": scenc.pl.integration,
        "classification": scenc.pl.classification,
        "reconstruction": scenc.pl.reconstruction,
        "training": scenc.pl.training_curves,
    }
    for name, function in figures.items():
        scenc.pl.save(function(results), folder / f"{name}.svg")
        plt.close("all")


def main() -> None:
    source, folder = map(Path, sys.argv[1:3])
    folder.mkdir(parents=True, exist_ok=True)
    results = Results.load(source)
    parts = [
        "## Means over the data sets\n",
        table(means(results, GROUPS), "encoding"),
        "\n## The parts of the two means\n",
        table(means(results, PARTS), "encoding"),
        "\n## Reconstruction\n",
        table(losses(results), "encoding"),
        "\n## Differences\n",
        table(differences(results), "a over b"),
        "\n## Macro F1 of each data set\n",
        table(by_data(results), "encoding"),
    ]
    (folder / "tables.md").write_text("\n".join(parts) + "\n", encoding="utf-8")
    draw(results, folder)


if __name__ == "__main__":
    main()
