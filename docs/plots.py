"""Draw what the pages of two plot functions show, where no other page has such a figure.

Run by hand; writes ``_static/plots/differences.svg``, from made-up scores, and
``_static/plots/published_encodings.png``.
"""

from __future__ import annotations

from pathlib import Path

import matplotlib as mpl

mpl.use("Agg")

import numpy as np
import pandas as pd

import scenc
from scenc.benchmark import Results

FOLDER = Path(__file__).parent / "_static" / "plots"
GAINS = {"raw": 0.0, "hard": -0.03, "log": 0.01, "soft": 0.05}


def made_up() -> Results:
    """Return scores of the eight encodings on five data sets, with three seeds."""
    rng = np.random.default_rng(0)
    rows = [
        {
            "encoding": f"{genes} + {expression}",
            "kind": "encoding",
            "gene_encoder": genes,
            "expression_encoder": expression,
            "dataset": f"set {dataset}",
            "seed": seed,
            "metric": "accuracy",
            "value": 0.6 + 0.04 * dataset + gain + rng.normal(0, 0.015),
        }
        for genes in ("learned", "protein")
        for expression, gain in GAINS.items()
        for dataset in range(5)
        for seed in range(3)
    ]
    return Results.from_tables(pd.DataFrame(rows))


def main() -> None:
    """Draw."""
    FOLDER.mkdir(exist_ok=True)
    ax = scenc.pl.differences(made_up().bootstrap(metrics=["accuracy"]), "accuracy")
    ax.set_title("made-up scores", loc="left", fontsize="small")
    scenc.pl.save(ax, FOLDER / "differences.svg")
    scenc.pl.save(scenc.pl.published_encodings(), FOLDER / "published_encodings.png", dpi=110)


if __name__ == "__main__":
    main()
