"""Read one trained network's cells out in several ways, and score each.

    python benchmarks/bench_read_outs.py DATA_DIR --seeds 0 1 2 --out read_outs.jsonl
    python benchmarks/bench_read_outs.py DATA_DIR --out read_outs.jsonl --table

Models of the masked objective, one for each data set, encoding and seed, are trained with the
preset ``small``; no read-out trains the network anew, `scenc.model._read_outs` says what each is.
``untrained`` is the paper's embedding before training. Data sets and scores are those of
``bench_quality.py``. Of larger data sets the same 4,000 cells are scored each time.

One line of JSON per read-out goes to ``--out``; models whose lines are there already are not
trained again.
"""

from __future__ import annotations

import argparse
import json
import logging
import time
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anndata as ad
import numpy as np
import pandas as pd
import torch
from bench_quality import MIN_CELLS, N_SPLITS, SETS, TEST_SIZE, chosen_sets, source_version

import scenc
from scenc.metrics import integration, knn_classification
from scenc.model._read_outs import fit_attention, mean_tokens, read_out_cells

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

# Cells that gene means are taken over, and that the scores are of.
N_MEAN_CELLS, N_SCORED = 10_000, 4_000
SCORES = ["macro_f1", "batch_correction", "bio_preservation"]


def read_outs(
    adata: ad.AnnData, expression: str, seed: int, n_visits: int
) -> Iterator[tuple[str, NDArray[np.float32]]]:
    """Train a model, and yield the cells' embedding by each read-out."""
    scenc.Model.setup_anndata(adata)
    model = scenc.Model(adata, "learned", expression, objective="masked", seed=seed)
    model.is_trained = True
    yield "untrained", model.get_latent_representation(key_added=None)
    model.train(cell_visits=n_visits, accelerator="cpu", n_threads=1, enable_progress_bar=False)
    cells, rows = model._training_cells(), np.arange(adata.n_obs)
    network, trained_on = model.module, np.sort(model.train_indices)[:N_MEAN_CELLS]
    attention = fit_attention(
        network,
        cells,
        model.train_indices,
        n_visits=n_visits // 2,
        mask_fraction=model.train_config.mask_fraction,
        seed=seed,
    )
    means = mean_tokens(network, cells, trained_on)
    yield from read_out_cells(network, cells, rows, means, attention).items()


def score(embedding: NDArray[Any], obs: pd.DataFrame) -> dict[str, float]:
    """Return the scores of an embedding: nearest neighbours' macro F1, and the two means."""
    scored = np.arange(len(obs))
    if len(obs) > N_SCORED:
        drawn = np.random.default_rng(0).choice(len(obs), N_SCORED, replace=False)
        scored = np.sort(drawn)
    places, labels = embedding[scored], obs["cell_type"].iloc[scored]
    knn = knn_classification(
        places, labels, min_cells=MIN_CELLS, test_size=TEST_SIZE, n_repeats=N_SPLITS, seed=0
    )
    found = integration(places, obs["batch"].iloc[scored], labels).to_dict()
    return {"macro_f1": knn.macro_f1, **{name: found[name] for name in SCORES[1:]}}


def run(name: str, expression: str, seed: int, n_visits: int, folder: Path) -> Iterator[Any]:
    """Train one model and yield a row of scores for each of its read-outs."""
    data = SETS[name]
    adata = ad.read_h5ad(folder / data.file)
    obs = adata.obs[["cell_type"]].assign(batch=adata.obs["batch"] if data.batches else "one")
    who = {"data": name, "encoding": f"learned + {expression}", "seed": seed, "visits": n_visits}
    start = time.perf_counter()
    for read_out, embedding in read_outs(adata, expression, seed, n_visits):
        row = {**who, "read_out": read_out, **score(embedding, obs)}
        yield {**row, "version": source_version(), "seconds": round(time.perf_counter() - start, 1)}


def print_tables(path: Path) -> None:
    """Print the mean of each score over seeds, by data set, encoding and read-out."""
    rows = pd.DataFrame([json.loads(line) for line in path.read_text().splitlines()])
    pd.set_option("display.width", 200)
    for encoding, of_encoding in rows.groupby("encoding"):
        for name in SCORES:
            table = of_encoding.pivot_table(
                name, "read_out", "data", aggfunc="mean", sort=False, dropna=False
            )
            table["mean"] = table.mean(axis=1)
            print(f"\n{encoding}: {name}, {of_encoding['seed'].nunique()} seeds")
            print(table.round(3).to_string())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--sets", nargs="+", default=["choose"], metavar="SET")
    parser.add_argument("--expression", nargs="+", default=["soft", "hard"], metavar="ENCODER")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--visits", type=int, default=50_000)
    parser.add_argument("--out", type=Path, default=Path("read_outs.jsonl"))
    parser.add_argument("--table", action="store_true", help="only print what --out holds")
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    torch.set_num_threads(1)
    done = set()
    if args.out.exists():
        for line in args.out.read_text().splitlines():
            row = json.loads(line)
            done.add((row["data"], row["encoding"], row["seed"], row["visits"]))
    for seed in [] if args.table else args.seeds:
        for expression in args.expression:
            for name in chosen_sets(args.sets):
                if (name, f"learned + {expression}", seed, args.visits) in done:
                    continue
                # Written at once, so that a model has all its lines or none.
                rows = list(run(name, expression, seed, args.visits, args.folder))
                with args.out.open("a") as file:
                    file.writelines(json.dumps(row) + "\n" for row in rows)
                print(pd.DataFrame(rows).round(3).to_string(), flush=True)
    print_tables(args.out)


if __name__ == "__main__":
    main()
