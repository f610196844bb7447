"""Ways to read one embedding of a cell out of the tokens of a trained network.

The network is left as it is: what differs is which hidden states are taken, and with which weights
their mean is formed. Each read-out has as many dimensions as a token.

    layer 0 ... layer n   mean of the tokens after so many blocks, 0 being the tokens themselves
    final                 mean of the last layer after the final norm: the paper's embedding
    expression            the same mean with each token's x~ as its weight
    deviation             the same mean after each gene's mean token over the training cells is
                          subtracted, so that which genes a cell has counts less
    attention             the same mean with trained weights (`AttentionReadOut`)

They are of networks whose embedding is such a mean (``pooling="mean"``).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from scenc._torch_settings import without_cudnn_attention
from scenc.data import ShuffledRequests, TokenDataset
from scenc.model._gene_space import TokenSums
from scenc.model._inference import apply_to_cells, token_batches
from scenc.model._initial import make_tokenizer
from scenc.nn._mlp import mlp

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from scenc.data import TokenBatch
    from scenc.model._aligned_counts import AlignedCounts
    from scenc.nn import CellTransformer

_BATCH_SIZE = 128


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


def names_of(network: CellTransformer, attention: bool = False) -> list[str]:
    """Return the names of the read-outs, in the order of `read_out_cells`."""
    layers = [f"layer {number}" for number in range(len(network.transformer.blocks) + 1)]
    return [*layers, "final", "expression", "deviation", *(["attention"] if attention else [])]


def read_out_cells(
    network: CellTransformer,
    cells: AlignedCounts,
    rows: NDArray[np.int64],
    gene_means: torch.Tensor,
    attention: AttentionReadOut | None = None,
    batch_size: int | None = None,
) -> dict[str, NDArray[np.float32]]:
    """Embed cells by every read-out, in one pass of the network.

    Parameters
    ----------
    network
        A trained network.
    cells
        The counts.
    rows
        Rows of `cells` to embed, shape ``(n_rows,)``.
    gene_means
        What `mean_tokens` returns of the training cells.
    attention
        What `fit_attention` returns; ``None``: leave this read-out out.
    batch_size
        Cells per batch; changes speed and memory only.

    Returns
    -------
    An embedding of shape ``(n_rows, d_model)`` by the read-out's name; zeros for empty cells.
    """
    names = names_of(network, attention is not None)

    def embed(batch: TokenBatch) -> torch.Tensor:
        return torch.cat(list(_read_out_buckets(network, batch, gene_means, attention)))

    values, _ = apply_to_cells(
        embed,
        len(names) * network.config.d_model,
        network,
        cells,
        rows,
        make_tokenizer(network.config),
        batch_size,
    )
    return dict(zip(names, np.split(values, len(names), axis=1), strict=True))


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
    requests = ShuffledRequests(rows, _BATCH_SIZE, seed=seed)
    for _ in range(-(-n_visits // len(rows))):
        for batch in dataset.loader(requests):
            loss = _masked_loss(network, read_out, batch.to(network.device))
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]  # torch
            optimizer.step()
    return read_out.eval()


def _masked_loss(
    network: CellTransformer, read_out: AttentionReadOut, batch: TokenBatch
) -> torch.Tensor:
    """Return the mean squared error of masked x~ (eq. 10), predicted from the read-out."""
    with torch.no_grad():
        states = [
            (in_batch, network.transformer.final_norm(layers[-1]))
            for in_batch, layers in network.layers(batch)
        ]
        vectors = network.gene_encoder(batch.genes[:, : batch.max_masked])
    embedded = torch.cat(
        [read_out(hidden, _shown(batch, part, hidden.shape[1])) for part, hidden in states]
    )
    predicted = read_out.decoder(embedded[:, None] + vectors)[..., 0]
    return F.mse_loss(predicted[batch.masked], batch.targets()[batch.masked])


def _read_out_buckets(
    network: CellTransformer,
    batch: TokenBatch,
    gene_means: torch.Tensor,
    attention: AttentionReadOut | None,
) -> Iterator[torch.Tensor]:
    """Yield the read-outs of each length bucket side by side."""
    for cells, layers in network.layers(batch):
        final = network.transformer.final_norm(layers[-1])
        width = final.shape[1]
        shown = _shown(batch, cells, width)
        even = shown.float()
        expression = even * batch.values()[cells, :width]
        means = gene_means[batch.genes[cells, :width].long()]
        found = [_mean(hidden, even) for hidden in (*layers, final)]
        found += [_mean(final, expression), _mean(final - means, even)]
        if attention is not None:
            found.append(attention(final, shown))
        yield torch.cat(found, dim=1)


def _mean(hidden: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """Return the weighted mean of each cell's tokens; 0 where all weights are."""
    total = weights.sum(dim=1, keepdim=True)
    return torch.einsum("ct,ctd->cd", weights / torch.where(total > 0, total, 1), hidden)


def _shown(batch: TokenBatch, cells: slice, width: int) -> torch.Tensor:
    """Return which tokens of some cells are there and not masked, ``(n_cells, width)``."""
    position = torch.arange(width, device=batch.lengths.device)
    return (position < batch.lengths[cells, None]) & (position >= batch.n_masked[cells, None])
