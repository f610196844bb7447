"""Read one trained network's cells out in several ways, and score each.

    python benchmarks/bench_read_outs.py DATA_DIR --seeds 0 1 2 --out read_outs.jsonl
    python benchmarks/bench_read_outs.py DATA_DIR --out read_outs.jsonl --table

Models of the masked objective, one for each data set, encoding and seed, are trained with the
preset ``small``; no read-out trains the network anew. Each has as many dimensions as a token:

    layer 0 ... layer n   mean of the tokens after so many blocks, 0 being the tokens themselves
    final                 mean of the last layer after the final norm: the paper's embedding
    expression            the same mean with each token's x~ as its weight
    deviation             the same mean after each gene's mean token over the training cells is
                          subtracted, so that which genes a cell has counts less
    attention             the same mean with trained weights (`AttentionReadOut`)
    untrained             the paper's embedding before training

All but deviation and attention are `read_out` of `scenc.Model.get_latent_representation`. Data sets
and scores are those of ``bench_quality.py``. Of larger data sets the same 4,000 cells are scored
each time.

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
from torch import nn
from torch.nn import functional as F

import scenc
from scenc._torch_settings import without_cudnn_attention
from scenc.data import ShuffledRequests, TokenDataset
from scenc.metrics import integration, knn_classification
from scenc.model._gene_space import TokenSums
from scenc.model._inference import apply_to_cells, token_batches
from scenc.model._initial import make_tokenizer
from scenc.nn._mlp import mlp

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

    from scenc.data import TokenBatch
    from scenc.model._aligned_counts import AlignedCounts
    from scenc.nn import CellTransformer

# Cells that gene means are taken over, and that the scores are of.
N_MEAN_CELLS, N_SCORED = 10_000, 4_000
BATCH_SIZE = 128
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
    offered = {f"layer {n}": n for n in range(model.config.n_layers + 1)}
    for name, read_out in {**offered, "final": None, "expression": "expression"}.items():
        yield name, model.get_latent_representation(key_added=None, read_out=read_out)
    cells, network = model._training_cells(), model.module
    trained_on = np.sort(model.train_indices)[:N_MEAN_CELLS]
    yield "deviation", deviations(network, cells, mean_tokens(network, cells, trained_on))
    attention = fit_attention(
        network,
        cells,
        model.train_indices,
        n_visits=n_visits // 2,
        mask_fraction=model.train_config.mask_fraction,
        seed=seed,
    )
    yield "attention", attended(network, cells, attention)


def deviations(
    network: CellTransformer, cells: AlignedCounts, gene_means: torch.Tensor
) -> NDArray[np.float32]:
    """Embed cells by the mean of their last layer's tokens minus those of `mean_tokens`."""

    def embed(batch: TokenBatch) -> torch.Tensor:
        found = []
        for in_batch, hidden in network.token_states(batch):
            shown = shown_tokens(batch, in_batch, hidden.shape[1]).float()
            deviation = hidden - gene_means[batch.genes[in_batch, : hidden.shape[1]].long()]
            weights = shown / shown.sum(dim=1, keepdim=True).clamp(min=1)
            found.append(torch.einsum("ct,ctd->cd", weights, deviation))
        return torch.cat(found)

    return embed_all(network, cells, embed)


def attended(
    network: CellTransformer, cells: AlignedCounts, attention: AttentionReadOut
) -> NDArray[np.float32]:
    """Embed cells by what `fit_attention` returns."""

    def embed(batch: TokenBatch) -> torch.Tensor:
        return torch.cat(
            [
                attention(hidden, shown_tokens(batch, in_batch, hidden.shape[1]))
                for in_batch, hidden in network.token_states(batch)
            ]
        )

    return embed_all(network, cells, embed)


def embed_all(
    network: CellTransformer, cells: AlignedCounts, embed: Callable[[TokenBatch], torch.Tensor]
) -> NDArray[np.float32]:
    """Apply a function of the network to all cells; ``(n_cells, d_model)``, 0 for empty ones."""
    width, rows = network.config.d_model, np.arange(cells.n_cells)
    tokenizer = make_tokenizer(network.config)
    return apply_to_cells(embed, width, network, cells, rows, tokenizer, BATCH_SIZE)[0]


class AttentionReadOut(nn.Module):
    """A mean of a cell's tokens h_j with trained weights a_j, trained by the masked loss (eq. 10).

    a = softmax(q . h_j / sqrt(d)), e = sum_j a_j h_j, x^ = MLP(e + e_g).

    A masked gene g is predicted from its own vector and from e alone, and e is read from the tokens
    that are not masked: so e must hold what the cell tells about its other genes. The MLP is needed
    for training only.

    Parameters
    ----------
    d_model
        Width of the tokens.
    """

    def __init__(self, d_model: int) -> None:
        super().__init__()
        # All tokens weigh the same at first: the mean is where training starts.
        self.query = nn.Parameter(torch.zeros(d_model))
        self.decoder = mlp(d_model, d_model, 1)

    def forward(self, hidden: torch.Tensor, shown: torch.Tensor) -> torch.Tensor:
        """Embed cells.

        Parameters
        ----------
        hidden
            Tokens, shape ``(n_cells, n_tokens, d_model)``.
        shown
            Which of them to read, of shape ``(n_cells, n_tokens)``.

        Returns
        -------
        Shape ``(n_cells, d_model)``; 0 where no token is shown.
        """
        scores = hidden @ self.query / hidden.shape[-1] ** 0.5
        weights = scores.masked_fill(~shown, -torch.inf).softmax(dim=1).nan_to_num(0.0)
        return torch.einsum("ct,ctd->cd", weights, hidden)


@torch.inference_mode()
def mean_tokens(
    network: CellTransformer, cells: AlignedCounts, rows: NDArray[np.int64]
) -> torch.Tensor:
    """Return each gene's mean token of the last layer over cells, shape ``(n_genes, d_model)``.

    A gene that none of the cells has gets the mean over all tokens.
    """
    network.eval()
    sums = TokenSums(network, 1, len(network.gene_encoder.table()))
    for batch in token_batches(network, cells, rows, make_tokenizer(network.config)):
        sums.add(batch.to(network.device), torch.zeros(batch.n_cells, dtype=torch.int64))
    vectors, n_cells = sums.vectors[0], sums.n_cells[0, :, None]
    overall = vectors.sum(dim=0) / n_cells.sum().clamp(min=1)
    return torch.where(n_cells > 0, vectors / n_cells.clamp(min=1), overall).float()


@without_cudnn_attention()
def fit_attention(
    network: CellTransformer,
    cells: AlignedCounts,
    rows: NDArray[np.int64],
    *,
    n_visits: int,
    mask_fraction: float,
    lr: float = 1e-2,
    seed: int = 0,
) -> AttentionReadOut:
    """Train an attention read-out on cells by the masked loss; the network does not change.

    Parameters
    ----------
    network
        A trained network.
    cells, rows
        The training cells.
    n_visits
        How many cells are seen, each visit counted; rounded up to whole passes.
    mask_fraction
        Share of a cell's tokens that are masked.
    lr
        Learning rate of Adam.
    seed
        Seed of the initial weights, of the order of cells and of the masks.
    """
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        read_out = AttentionReadOut(network.config.d_model).to(network.device)
    network.eval()
    optimizer = torch.optim.Adam(read_out.parameters(), lr)
    tokenizer = make_tokenizer(network.config, mask_fraction)
    dataset = TokenDataset(cells.rows, cells.gene_map, tokenizer)
    requests = ShuffledRequests(rows, BATCH_SIZE, seed=seed)
    for _ in range(-(-n_visits // len(rows))):
        for batch in dataset.loader(requests):
            loss = masked_loss(network, read_out, batch.to(network.device))
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]  # torch
            optimizer.step()
    return read_out.eval()


def masked_loss(
    network: CellTransformer, read_out: AttentionReadOut, batch: TokenBatch
) -> torch.Tensor:
    """Return the mean squared error of masked x~ (eq. 10), predicted from the read-out."""
    with torch.no_grad():
        states = list(network.token_states(batch))
        vectors = network.gene_encoder(batch.genes[:, : batch.max_masked])
    embedded = torch.cat(
        [read_out(hidden, shown_tokens(batch, part, hidden.shape[1])) for part, hidden in states]
    )
    predicted = read_out.decoder(embedded[:, None] + vectors)[..., 0]
    return F.mse_loss(predicted[batch.masked], batch.targets()[batch.masked])


def shown_tokens(batch: TokenBatch, cells: slice, width: int) -> torch.Tensor:
    """Return which tokens of some cells are there and not masked, ``(n_cells, width)``."""
    position = torch.arange(width, device=batch.lengths.device)
    return (position < batch.lengths[cells, None]) & (position >= batch.n_masked[cells, None])


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
            print(f"\n{encoding}: {name}, difference from final, 95 % interval")
            print(differences(of_encoding, name).round(3).to_string())


def differences(rows: pd.DataFrame, score: str) -> pd.DataFrame:
    """Return each read-out's mean difference from the final one, with a 95 % interval.

    Models are paired with themselves. The mean is over data sets of means over seeds; data sets,
    and seeds within them, are drawn anew 10,000 times.

    Returns
    -------
    Read-outs x mean, ends of the interval, and the share of models in which the score is higher.
    """
    values = rows.pivot_table(score, ["data", "seed"], "read_out", sort=False)
    change = values.sub(values["final"], axis=0).drop(columns="final")
    by_data = [group.to_numpy() for _, group in change.groupby("data")]
    rng, drawn = np.random.default_rng(0), []
    for _ in range(10_000):
        chosen = [by_data[i] for i in rng.integers(len(by_data), size=len(by_data))]
        drawn.append(np.mean([rng.choice(seeds, len(seeds)).mean(axis=0) for seeds in chosen], 0))
    low, high = np.quantile(drawn, [0.025, 0.975], axis=0)
    mean = np.mean([seeds.mean(axis=0) for seeds in by_data], axis=0)
    columns = {"mean": mean, "low": low, "high": high, "higher in": (change > 0).mean()}
    return pd.DataFrame(columns, index=change.columns)


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
