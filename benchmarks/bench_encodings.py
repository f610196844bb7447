"""Train the eight encodings alike on one file and compare their validation loss.

The loss stands beside two predictors that use no network: each gene's mean, and the best sum of a
gene effect and a cell effect (the cell's taken from the tokens it shows). All are measured on the
same masked tokens of the same held-out cells.

    python benchmarks/bench_encodings.py pbmc3k.h5ad --protein vectors.npz --epochs 10
"""

from __future__ import annotations

import argparse
import time
import warnings
from itertools import product

import anndata
import numpy as np
import pandas as pd

import scenc
from scenc.data import OrderedRequests, TokenDataset
from scenc.genes import ProteinEmbeddings
from scenc.model._initial import make_tokenizer

GENE_ENCODERS = ("learned", "protein")
EXPRESSION_ENCODERS = ("raw", "hard", "log", "soft")


def masked_tokens(model: scenc.Model, rows: np.ndarray) -> pd.DataFrame:
    """Return all tokens of some cells as validation sees them: cell, gene, value, masked."""
    cells = model._training_cells()
    tokenizer = make_tokenizer(model.config, model.train_config.mask_fraction)
    requests = OrderedRequests(rows, 256, seed=model.config.seed)
    frames = []
    for batch in TokenDataset(cells.rows, cells.gene_map, tokenizer).loader(requests):
        valid = batch.valid.numpy()
        masked = np.arange(batch.n_tokens) < batch.n_masked.numpy()[:, None]
        frames.append(
            pd.DataFrame(
                {
                    "cell": np.repeat(batch.cells.numpy(), batch.lengths.numpy()),
                    "gene": batch.genes.numpy()[valid],
                    "value": batch.values().numpy()[valid],
                    "masked": masked[valid],
                }
            )
        )
    return pd.concat(frames, ignore_index=True)


def simple_predictors(model: scenc.Model, n_rounds: int = 20) -> dict[str, float]:
    """Return the masked mean squared error of the per-gene mean and of gene + cell effects."""
    n_genes = len(model.vocabulary)
    train = masked_tokens(model, model.train_indices)
    held_out = masked_tokens(model, model.validation_indices)
    overall = train["value"].mean()
    n = np.bincount(train["gene"], minlength=n_genes)

    def gene_effects(residual: np.ndarray) -> np.ndarray:
        # One pseudo-observation at zero keeps genes seen once or never near the overall mean.
        return np.bincount(train["gene"], residual, minlength=n_genes) / (n + 1)

    target = held_out[held_out["masked"]]
    mean = overall + gene_effects((train["value"] - overall).to_numpy())
    gene_loss = np.mean((target["value"] - mean[target["gene"]]) ** 2)

    cells = pd.factorize(train["cell"])[0]
    cell = np.zeros(cells.max() + 1)
    for _ in range(n_rounds):
        gene = gene_effects((train["value"] - overall).to_numpy() - cell[cells])
        residual = (train["value"] - overall).to_numpy() - gene[train["gene"]]
        cell = np.bincount(cells, residual) / np.bincount(cells)
    shown = held_out[~held_out["masked"]]
    rest = shown["value"] - overall - gene[shown["gene"]]
    effect = rest.groupby(shown["cell"]).mean().reindex(target["cell"]).fillna(0).to_numpy()
    both = overall + gene[target["gene"]] + effect
    return {"gene mean": gene_loss, "gene + cell": np.mean((target["value"] - both) ** 2)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("h5ad")
    parser.add_argument("--protein", required=True, help="file of pretrained gene vectors")
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--preset", default="small")
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--context", type=int, default=256)
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--protein-input", default="plain")
    parser.add_argument("--protein-output", default="plain")
    parser.add_argument("--only", nargs="+", help="encodings to run, e.g. 'protein + hard'")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    warnings.simplefilter("ignore")

    adata = anndata.read_h5ad(args.h5ad)
    scenc.Model.setup_anndata(adata)
    vectors = ProteinEmbeddings.load(args.protein)
    rows = {}
    for genes, expression in product(GENE_ENCODERS, EXPRESSION_ENCODERS):
        if args.only and f"{genes} + {expression}" not in args.only:
            continue
        model = scenc.Model(
            adata,
            genes,
            expression,
            preset=args.preset,
            objective="masked",
            protein_embeddings=vectors if genes == "protein" else None,
            seed=args.seed,
            context=args.context,
            protein_input=args.protein_input,
            protein_output=args.protein_output,
        )
        start = time.perf_counter()
        model.train(args.epochs, args.batch_size, lr=args.lr, enable_progress_bar=False)
        curve = model.history["reconstruction_loss_validation"].iloc[:, 0]
        seconds = time.perf_counter() - start
        rows[f"{genes} + {expression}"] = {
            "first": curve.iloc[0],
            "best": curve.min(),
            "cells/s": len(model.train_indices) * args.epochs / seconds,
        }
        print(f"{genes} + {expression}: {rows[f'{genes} + {expression}']}", flush=True)
    table = pd.DataFrame(rows).T
    simple = simple_predictors(model)
    print(f"\n{args.h5ad}: {adata.n_obs} cells x {adata.n_vars} genes, {args.epochs} epochs")
    print(table.round(4).to_string())
    print({name: round(float(loss), 4) for name, loss in simple.items()})


if __name__ == "__main__":
    main()
