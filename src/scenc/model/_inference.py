"""What a network says of cells: a function over batches of them, in the order asked for."""

from __future__ import annotations

from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING

import numpy as np
import torch
from tqdm.auto import tqdm

from scenc._arguments import choose
from scenc._torch_settings import full_precision, tf32_products, without_cudnn_attention
from scenc.data import CellCounts, OrderedRequests, TokenDataset
from scenc.nn import count_loss, kl_divergence

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from numpy.typing import ArrayLike, NDArray

    from scenc.data import TokenBatch, Tokenizer
    from scenc.model._aligned_counts import AlignedCounts
    from scenc.nn import CellTransformer, CountDecoder, Decoded

_BATCH_SIZE = 128
# What the matrix products of a network are computed in. Whatever it is, expression vectors, pooling
# and the decoder's last layer are in FP32. On a CPU "tf32" is full precision.
PRECISIONS = ("auto", "32-true", "tf32", "bf16-mixed", "16-mixed")
# Named genes per pass of `predict_genes`: bounds the attention's memory.
_GENES_PER_PASS = 256


@without_cudnn_attention()
@torch.inference_mode()
def apply_to_cells(
    function: Callable[[TokenBatch], torch.Tensor],
    n_values: int,
    network: CellTransformer,
    cells: AlignedCounts,
    rows: NDArray[np.int64],
    tokenizer: Tokenizer,
    batch_size: int | None,
    seed: int | None = None,
    precision: str = "auto",
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Apply a function of a network to cells, batch by batch.

    Parameters
    ----------
    function
        Returns values of a batch's cells, shape ``(n_cells, n_values)``.
    n_values
        Number of values of each cell.
    network
        The network that it uses, which is set to evaluation.
    cells
        The counts.
    rows
        Rows of `cells` to do, in any order, also more than once, shape ``(n_rows,)``.
    tokenizer
        Makes the batches.
    batch_size
        Cells per batch; changes speed and memory only. ``None``: 128.
    seed
        Seed of draws and masks; ``None``: the network's.
    precision
        One of `PRECISIONS`.

    Returns
    -------
    The values, shape ``(n_rows, n_values)``, and positions in `rows` of cells without tokens,
    ascending.
    """
    values = np.zeros((len(rows), n_values), np.float32)
    empty = np.zeros(len(rows), bool)
    network.eval()
    device = network.device
    with inference_precision(precision, device):
        for batch in token_batches(network, cells, rows, tokenizer, batch_size, seed):
            positions = batch.cells.numpy()
            empty[positions] = batch.lengths.numpy() == 0
            found = function(batch.to(device))
            values[positions] = found.float().cpu().numpy()
    return values, np.flatnonzero(empty)


def token_batches(
    network: CellTransformer,
    cells: AlignedCounts,
    rows: NDArray[np.int64],
    tokenizer: Tokenizer,
    batch_size: int | None = None,
    seed: int | None = None,
    progress: str | None = None,
) -> Iterator[TokenBatch]:
    """Yield cells as batches of tokens, cells of similar length together; see `apply_to_cells`.

    Parameters
    ----------
    progress
        Name of a progress bar; ``None``: no bar.

    Yields
    ------
    Batches in the computer's memory, whose ``cells`` are positions in `rows`.
    """
    requests = OrderedRequests(
        # Positions in `rows`, so that a row asked for twice is answered twice.
        np.arange(len(rows)),
        batch_size or _BATCH_SIZE,
        seed=network.config.seed if seed is None else seed,
        lengths=cells.n_genes[rows],
    )
    dataset = TokenDataset(cells.rows, cells.gene_map, tokenizer, rows, by_length=True)
    loader = dataset.loader(requests, pin_memory=network.device.type == "cuda")
    with tqdm(total=len(rows), desc=progress, unit="cell", disable=progress is None) as bar:
        for batch in loader:
            yield batch
            bar.update(batch.n_cells)


@contextmanager
def inference_precision(precision: str, device: torch.device) -> Iterator[None]:
    """Let a network compute in one of `PRECISIONS`."""
    choose(precision, PRECISIONS, "precision")
    if precision == "auto":
        precision = "tf32" if device.type == "cuda" else "32-true"
    short = {"bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}.get(precision)
    with (
        torch.autocast(device.type, short) if short else nullcontext(),
        tf32_products(precision != "32-true") if device.type == "cuda" else nullcontext(),
    ):
        yield


def mean_squared_errors(network: CellTransformer, batch: TokenBatch) -> torch.Tensor:
    """Return each cell's mean squared error over its masked tokens, shape ``(n_cells, 1)``."""
    errors, n_masked = network.squared_errors(batch)
    return (errors / n_masked)[:, None]


def predict_genes(network: CellTransformer, genes: torch.Tensor, batch: TokenBatch) -> torch.Tensor:
    """Predict x~ of genes, all of them hidden from the cells, shape ``(n_cells, n_named)``."""
    passes = torch.split(genes, _GENES_PER_PASS)
    return torch.cat([network.predict(batch, some, genes) for some in passes], dim=1)


def expected_shares(
    network: CellTransformer,
    batch: TokenBatch,
    codes: torch.Tensor,
    batches: list[int] | None = None,
    genes: torch.Tensor | None = None,
    n_samples: int | None = None,
    mean: bool = True,
) -> torch.Tensor:
    """Return the shares of counts that the decoder expects of cells, or several draws of them.

    Parameters
    ----------
    network
        The network.
    batch
        The cells as tokens.
    codes
        Covariates of all cells that `TokenBatch.cells` counts in; -1 where unknown.
    batches
        Batches to decode all cells as, and to take the mean over.
    genes
        Genes to return; ``None``: all.
    n_samples, mean
        As in `scenc.Model.get_normalized_expression`.

    Returns
    -------
    Shape ``(n_cells, n_draws * n_genes)``.
    """
    own = codes[batch.cells.long()]
    with full_precision(own.device):
        z_mean, log_variance = network.bottleneck(network.embed_cells(batch).float())
        draws = []
        for _ in range(n_samples or 1):
            noise = torch.randn_like(z_mean) * (0.5 * log_variance).exp() if n_samples else 0
            share = _mean_shares(network.count_decoder, z_mean + noise, own, batches)
            draws.append(share if genes is None else share[:, genes])
        if mean:
            return torch.stack(draws).mean(dim=0)
        return torch.cat(draws, dim=1)


def _mean_shares(
    decoder: CountDecoder, latent: torch.Tensor, codes: torch.Tensor, batches: list[int] | None
) -> torch.Tensor:
    """Decode cells as of batches, and as the mean over categories where theirs are unknown."""
    if batches is not None:
        as_batch = [_with_category(codes, 0, batch) for batch in batches]
        return torch.stack([_mean_shares(decoder, latent, c, None) for c in as_batch]).mean(dim=0)
    for place, table in enumerate(decoder.shifts):
        unknown = codes[:, place] < 0
        if unknown.any():
            share = latent.new_empty(len(latent), len(decoder.log_dispersion))
            if not unknown.all():
                share[~unknown] = _mean_shares(decoder, latent[~unknown], codes[~unknown], None)
            each = [
                _mean_shares(
                    decoder, latent[unknown], _with_category(codes[unknown], place, category), None
                )
                for category in range(len(table))
            ]
            share[unknown] = torch.stack(each).mean(dim=0)
            return share
    decoded: Decoded = decoder(latent, codes)
    return decoded.log_share.exp()


def _with_category(codes: torch.Tensor, place: int, category: int) -> torch.Tensor:
    changed = codes.clone()
    changed[:, place] = category
    return changed


def evidence_bounds(
    network: CellTransformer,
    cells: AlignedCounts,
    rows: NDArray[np.int64],
    codes: NDArray[np.int64],
    batch: TokenBatch,
) -> torch.Tensor:
    """Return the evidence lower bound of each cell, with z at its mean, ``(n_cells, 1)``."""
    asked = batch.cells.cpu().numpy()
    counts = CellCounts.read(cells.rows, rows[asked], cells.gene_map, codes[asked])
    counts = counts.to(network.device)
    with full_precision(network.device):
        mean, log_variance = network.bottleneck(network.embed_cells(batch).float())
        decoder = network.count_decoder
        decoded = decoder(mean, counts.covariates)
        losses = count_loss(decoded, decoder.log_dispersion, counts)
        return -(losses + kl_divergence(mean, log_variance))[:, None]


def resolve_indices(indices: Sequence[int] | ArrayLike | None, n_cells: int) -> NDArray[np.int64]:
    """Return the rows that a user asks for, by number or by a boolean mask; ``None``: all.

    Raises
    ------
    IndexError
        They are out of range, or of another kind.
    """
    if indices is None:
        return np.arange(n_cells)
    rows = np.asarray(indices)
    if rows.dtype == bool:
        if rows.shape != (n_cells,):
            raise IndexError(f"A boolean mask needs {n_cells} entries, got shape {rows.shape}.")
        return np.flatnonzero(rows)
    if rows.ndim != 1 or (len(rows) and not np.issubdtype(rows.dtype, np.integer)):
        raise IndexError("indices must be a list of row numbers or a boolean mask.")
    rows = rows.astype(np.int64)
    if len(rows) and (rows.min() < -n_cells or rows.max() >= n_cells):
        raise IndexError(f"indices reach from {rows.min()} to {rows.max()}; cells: {n_cells}.")
    return np.where(rows < 0, rows + n_cells, rows)
