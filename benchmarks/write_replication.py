"""Write the tables of docs/replication.md from a benchmark's results, and its figures.

    scenc benchmark small --out RESULTS --data-dir DATA
    scenc benchmark small --budgets 25000 100000 250000 --out CURVES --data-dir DATA
    scenc benchmark benchmarks/published_encodings.yaml --out PUBLISHED --data-dir DATA
    python benchmarks/write_replication.py RESULTS docs/_static/replication
    python benchmarks/write_replication.py CURVES docs/_static/replication
    python benchmarks/write_replication.py PUBLISHED docs/_static/replication published

Tables of a run without budgets go to ``tables.md`` in the folder, figures beside it as SVG. Those
of a run with budgets, which may still go on, go to ``budgets.md`` and ``budgets.svg``. With a name
for a third argument, only means and what controls differ in are written, to a file of that name.
Negative controls, if the run has them, go to ``negative_controls.md``.
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


def with_interval(found: pd.DataFrame) -> list[str]:
    """Write relative differences with their intervals."""
    return [
        f"{mean:+.0%} ({low:+.0%} to {high:+.0%})"
        for mean, low, high in zip(
            found["relative"], found["relative_low"], found["relative_high"], strict=True
        )
    ]


def differences(results: Results) -> pd.DataFrame:
    """Return relative differences with intervals, the encodings' and the controls'."""
    found = results.bootstrap()
    found = found[found["metric"].isin(GROUPS) & ~found["comparison"].str.startswith("encoding")]
    found["name"] = found["comparison"] + ", " + found["within"]
    found["shown"] = with_interval(found)
    shown = found.pivot(index="name", columns="metric", values="shown")
    return shown.loc[found["name"].unique(), list(GROUPS)].rename(columns=GROUPS)


def controls(results: Results) -> pd.DataFrame:
    """Return how each control differs from the encoding with the same kinds of encoders."""
    kinds = ["gene_encoder", "expression_encoder"]
    entries = results.encodings.set_index("encoding")
    plain = entries[entries["kind"] == "encoding"].reset_index().set_index(kinds)["encoding"]
    parts = []
    for name, entry in entries[entries["kind"] == "control"].iterrows():
        other = plain[tuple(entry[kinds])]
        found = results.bootstrap(a=str(name), b=other, metrics=list(GROUPS))
        parts.append(found.assign(name=f"{name} over {other}"))
    found = pd.concat(parts)
    found["shown"] = with_interval(found)
    shown = found.pivot(index="name", columns="metric", values="shown")
    return shown.loc[found["name"].unique(), list(GROUPS)].rename(columns=GROUPS)


def by_data(results: Results) -> pd.DataFrame:
    """Return macro F1 of each data set, by encoding."""
    found = results.per_dataset()
    found = found[found["metric"] == "macro_f1"]
    shown = found.pivot(index="encoding", columns="dataset", values="value").map("{:.3f}".format)
    return shown.loc[found["encoding"].unique()]


def standing(results: Results) -> str:
    """Say how far a run with budgets has come: which seeds are complete at which budget."""
    # Baselines have no budget. A seed is complete where all its scores are there.
    scores = results.jobs[(results.jobs["task"] == "score") & results.jobs["budget"].notna()]
    done = scores["status"].isin(["done", "diverged", "failed"])
    share = done.groupby([scores["budget"], scores["seed"]]).mean().unstack("seed")
    said = []
    for budget, of in share.iterrows():
        whole = [str(seed) for seed in of.index[of == 1]]
        begun = of[(of < 1) & (of > 0)]
        text = f"seed{'s' if len(whole) > 1 else ''} {', '.join(whole)}" if whole else "no seed"
        more = "".join(f"; seed {seed} to {part:.0%}" for seed, part in begun.items())
        said.append(f"{budget:,} visits: {text} complete{more}")
    n = results.jobs["status"].ne("pending")
    return f"{n.sum():,} of {len(n):,} jobs are done. " + ". ".join(said) + "."


def at_budgets(results: Results, names: dict[str, str]) -> pd.DataFrame:
    """Return means over data sets by encoding and budget; those on fewer data sets are left out."""
    summary = results.summary()
    summary = summary[summary["metric"].isin(names)]
    most = summary.groupby("metric")["n_datasets"].transform("max")
    summary = summary[summary["n_datasets"] == most]
    summary["shown"] = spread(summary["mean"], summary["std"], 3)
    summary["visits"] = ["" if pd.isna(budget) else f"{budget:,}" for budget in summary["budget"]]
    keys = ["encoding", "visits"]
    shown = summary.pivot(index=keys, columns="metric", values="shown").fillna("")
    order = {name: place for place, name in enumerate(results.encodings["encoding"])}
    rows = summary.assign(place=summary["encoding"].map(order))
    rows = rows.sort_values(["place", "budget"], na_position="first")
    shown = shown.loc[rows.set_index(keys).index.unique()]
    listed = [name for name in names if name in shown]
    return shown[listed].rename(columns=names).reset_index(level="visits")


def differences_at_budgets(results: Results) -> pd.DataFrame:
    """Return relative differences over all encoders of a kind, with intervals, by budget.

    The mean of all encodings over each baseline is among them.
    """
    wanted = [name for name in GROUPS if name in results.metrics]
    found = results.bootstrap(metrics=wanted)
    found = found[found["within"] == "all"]
    kinds = results.encodings.set_index("encoding")["kind"]
    all_encodings = list(kinds.index[kinds == "encoding"])
    over = [
        results.bootstrap(a=all_encodings, b=baseline, metrics=wanted).assign(
            comparison=f"mean of all encodings over {baseline}"
        )
        for baseline in kinds.index[kinds == "baseline"]
    ]
    found = pd.concat([found, *over]).dropna(subset="budget")
    found["name"] = [
        f"{comparison}, {budget:,} visits, {n} seed{'s' if n > 1 else ''}"
        for comparison, budget, n in zip(
            found["comparison"], found["budget"], found["n_seeds"], strict=True
        )
    ]
    found["shown"] = with_interval(found)
    shown = found.pivot_table(index="name", columns="metric", values="shown", aggfunc="first")
    order = found.sort_values(["comparison", "budget"], kind="stable")["name"].unique()
    return shown.reindex(order)[[name for name in GROUPS if name in shown]].rename(columns=GROUPS)


def negative_controls(results: Results) -> pd.DataFrame:
    """Return the scores of negative controls beside those of the models left as they are."""
    found = results.negative_controls()
    found["name"] = found["encoding"] + ", " + found["shuffled"] + " shuffled"
    found["shown"] = [
        f"{intact:.3f}, {value:.3f}"
        for intact, value in zip(found["intact"], found["value"], strict=True)
    ]
    names = {**GROUPS, "reconstruction_mse": "masked MSE"}
    shown = found.pivot(index="name", columns="metric", values="shown").fillna("")
    listed = [name for name in names if name in shown]
    return shown.loc[found["name"].unique(), listed].rename(columns=names)


def write_budgets(results: Results, folder: Path) -> None:
    """Write the tables and the figure of a run with budgets."""
    parts = [
        f"{standing(results)}\n",
        "### Means over the data sets at each budget\n",
        table(at_budgets(results, GROUPS), "encoding"),
    ]
    among = differences_at_budgets(results)
    if len(among):
        parts += ["\n### Differences at each budget\n", table(among, "a over b")]
    (folder / "budgets.md").write_text("\n".join(parts) + "\n", encoding="utf-8")
    mpl.use("Agg")
    scenc.pl.save(scenc.pl.budgets(results), folder / "budgets.svg")
    plt.close("all")


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
    if len(results.checks):
        shuffled = table(negative_controls(results), "as it is, shuffled")
        (folder / "negative_controls.md").write_text(shuffled + "\n", encoding="utf-8")
    if len(sys.argv) > 3:
        parts = [
            "### Means over the data sets\n",
            table(means(results, GROUPS).join(losses(results)).fillna(""), "encoding"),
            "\n### Differences\n",
            table(controls(results), "a over b"),
        ]
        (folder / f"{sys.argv[3]}.md").write_text("\n".join(parts) + "\n", encoding="utf-8")
        return
    if results.budgets:
        write_budgets(results, folder)
        return
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
