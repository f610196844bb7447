"""Mean attention between genes, and how like plain co-expression it is."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from scipy.stats import spearmanr

if TYPE_CHECKING:
    from anndata import AnnData
    from numpy.typing import NDArray

    from scenc.data import TokenBatch
    from scenc.nn import CellTransformer

# Pairs of genes that fewer cells express together are left out of attention's correlation.
_LEAST_TOGETHER = 10


class AttentionSums:
    """Sums of attention between chosen genes.

    Attributes
    ----------
    total
        Sums of attention, in the mean over blocks and heads, shape ``(n_chosen, n_chosen)``.
    n_cells
        Number of cells that express both genes, of the same shape.
    """

    def __init__(self, network: CellTransformer, genes: NDArray[np.int64], n_genes: int) -> None:
        self._network, n, device = network, len(genes), network.device
        self._place = torch.full((n_genes,), n, device=device)
        self._place[torch.from_numpy(genes).to(device)] = torch.arange(n, device=device)
        self.total = torch.zeros(n, n, dtype=torch.float64, device=device)
        self.n_cells = torch.zeros(n, n, dtype=torch.int64, device=device)

    def add(self, batch: TokenBatch) -> None:
        """Add cells."""
        n = len(self.total)
        width = batch.n_tokens
        layers = self._network.attention_weights(batch)
        parts = [weights[:, :, :width, :width].float().mean(dim=1) for weights in layers]
        attention = torch.stack(parts).mean(dim=0)
        # Which token is each chosen gene's; the last column takes all other tokens.
        place = torch.where(batch.valid, self._place[batch.genes.long()], n)
        tokens = torch.full((batch.n_cells, n + 1), -1, device=place.device)
        numbers = torch.arange(batch.n_tokens, device=place.device).expand_as(place)
        tokens = tokens.scatter(1, place, numbers)[:, :n]
        both = (tokens >= 0)[:, :, None] & (tokens >= 0)[:, None]
        at = tokens.clamp(min=0)
        rows = attention.gather(1, at[:, :, None].expand(-1, -1, batch.n_tokens))
        pairs = rows.gather(2, at[:, None].expand(-1, n, -1))
        self.total += torch.where(both, pairs, 0).double().sum(dim=0)
        self.n_cells += both.sum(dim=0)

    def means(self) -> NDArray[np.float32]:
        """Return mean attention; NaN for genes that no cell expresses together."""
        total, n = self.total.cpu().numpy(), self.n_cells.cpu().numpy()
        means = np.full(n.shape, np.nan, np.float32)
        np.divide(total, n, out=means, where=n > 0, casting="same_kind")
        return means


def correlations(values: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return Pearson correlations of columns; NaN for constant ones."""
    centred = values.astype(np.float64) - values.mean(axis=0, dtype=np.float64)
    length = np.linalg.norm(centred, axis=0)
    units = np.divide(centred, length, out=np.full_like(centred, np.nan), where=length > 0)
    found: NDArray[np.float64] = units.T @ units
    return found


def off_diagonal_spearman(found: AnnData) -> float:
    """Return Spearman's correlation of attention and co-expression; NaN for too few pairs."""
    attention, coexpression = np.asarray(found.X), found.layers["coexpression"]
    used = ~np.eye(len(attention), dtype=bool) & (found.layers["n_cells"] >= _LEAST_TOGETHER)
    used &= np.isfinite(attention) & np.isfinite(coexpression)
    if used.sum() < 3:
        return float("nan")
    return float(spearmanr(attention[used], coexpression[used]).statistic)
