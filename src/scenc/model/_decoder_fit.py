"""Fit the decoder of counts to the embeddings of a trained network (`scenc.train.fit_decoder`)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from scenc._threads import kept_threads
from scenc._torch_settings import deterministic_algorithms
from scenc.data import CellCounts
from scenc.data.counts import open_rows
from scenc.model._inference import apply_to_cells
from scenc.model._initial import make_tokenizer
from scenc.train import Latent, fit_decoder

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from scenc.data import TokenBatch
    from scenc.model._aligned_counts import AlignedCounts
    from scenc.model._training_data import CellSplit
    from scenc.nn import CellTransformer

# So many cells are enough for a decoder, and are embedded in seconds.
_N_TRAIN, _N_VALIDATION = 20_000, 2_000


def sample_of(split: CellSplit, seed: int) -> CellSplit:
    """Return at most 20,000 of the cells to train on and 2,000 of those to validate on."""
    rng = np.random.default_rng(seed)

    def some(rows: NDArray[np.int64], most: int) -> NDArray[np.int64]:
        return rows if len(rows) <= most else np.sort(rng.choice(rows, most, replace=False))

    return split._replace(
        train=some(split.train, _N_TRAIN), validation=some(split.validation, _N_VALIDATION)
    )


def fit_decoder_to_cells(
    network: CellTransformer,
    cells: AlignedCounts,
    covariates: NDArray[np.int64],
    split: CellSplit,
    *,
    n_steps: int,
    seed: int,
    n_threads: int | None,
    deterministic: bool,
    progress: bool,
) -> tuple[float, float]:
    """Embed cells whole, and fit the network's decoder to them.

    Parameters
    ----------
    network
        The network; all but its decoder stays as it is.
    cells, covariates
        The cells and the categories of their covariates.
    split
        Rows of `cells` to fit to and to validate on.
    n_steps
        Steps, at most.
    seed
        Of draws.
    n_threads, deterministic
        As the network was trained: the last digits depend on both.
    progress
        Whether to show progress.

    Returns
    -------
    As `scenc.train.fit_decoder`.
    """
    with kept_threads(), deterministic_algorithms(deterministic):
        if n_threads is not None:
            torch.set_num_threads(n_threads)
        latent, read = _whole_cells(network, cells, covariates, split)
        n_train, n_rows = len(split.train), len(latent.mean)
        train, validation = np.arange(n_train), np.arange(n_train, n_rows)
        return fit_decoder(
            network.count_decoder, latent, read, train, validation, n_steps, seed, progress
        )


def _whole_cells(
    network: CellTransformer,
    cells: AlignedCounts,
    covariates: NDArray[np.int64],
    split: CellSplit,
) -> tuple[Latent, Callable[[NDArray[np.int64]], CellCounts]]:
    """Embed the cells of a split, and return what reads their counts by position."""
    rows = np.concatenate([split.train, split.validation])
    config = network.config
    values, _ = apply_to_cells(
        lambda batch: _latent(network, batch),
        2 * config.d_model,
        network,
        cells,
        rows,
        make_tokenizer(config),
        batch_size=None,
        precision="32-true",
    )
    mean, log_variance = torch.from_numpy(values).to(network.device).chunk(2, dim=1)
    # Each step reads cells at random, which from a file on disk would take longer than the step.
    matrix, positions = cells.rows.select(rows)
    counts, codes = open_rows(matrix), covariates[rows]

    def read(chosen: NDArray[np.int64]) -> CellCounts:
        return CellCounts.read(counts, positions[chosen], cells.gene_map, codes[chosen])

    return Latent(mean, log_variance), read


def _latent(network: CellTransformer, batch: TokenBatch) -> torch.Tensor:
    """Return mean and log variance of each cell's z, shape ``(n_cells, 2 * d_model)``."""
    return torch.cat(network.bottleneck(network.embed_cells(batch).float()), dim=1)
