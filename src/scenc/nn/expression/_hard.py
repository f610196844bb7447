from __future__ import annotations

import math

import torch
from torch import nn

from scenc.nn.expression._base import ExpressionEncoder


class HardBinEncoder(ExpressionEncoder):
    """A vector per bin: b = 0 for zero, else 1 + the number of edges below x (eq. 14-15).

    A count that equals an edge belongs to the bin below, so that equal counts, of which a cell has
    many, never fall into two bins. Edges of the cell's own quantiles make a rank of the value and
    hide the library size; `edges` on the scale of x~ show it.

    Parameters
    ----------
    d_model
        Width of the output.
    n_bins
        Number of bins of non-zero values.
    edges
        The inner edges, increasing, shape ``(n_bins - 1,)``, on the scale of x~. ``None``: the
        values arrive as bins already, found from their cell's quantiles (`Tokenizer`).
    init_std
        Standard deviation of the initial table.

    Examples
    --------
    >>> import torch
    >>> edges = torch.tensor([1.0, 2.0])  # three bins of x~
    >>> hard = scenc.nn.HardBinEncoder(d_model=64, n_bins=3, edges=edges)
    >>> hard.bins(torch.tensor([0.0, 0.5, 1.5, 4.0])).tolist()
    [0, 1, 2, 3]
    """

    edges: torch.Tensor | None

    def __init__(
        self,
        d_model: int,
        n_bins: int = 50,
        edges: torch.Tensor | None = None,
        init_std: float = 1.0,
    ) -> None:
        super().__init__()
        if edges is not None and len(edges) != n_bins - 1:
            raise ValueError(f"{n_bins} bins have {n_bins - 1} inner edges, got {len(edges)}.")
        self.reads = "quantile_bins" if edges is None else "normalized"
        self.register_buffer("edges", edges)
        self.table = nn.Embedding(n_bins + 1, d_model)
        nn.init.normal_(self.table.weight, std=init_std)

    def bins(self, values: torch.Tensor) -> torch.Tensor:
        """Return the bin of each value, shape ``(n,)``."""
        if self.edges is None:
            return values.long()
        return torch.where(values > 0, 1 + torch.bucketize(values, self.edges), 0)

    def start_at_zero(self) -> None:
        """Set the last layer to zero, so that every value's vector starts there."""
        nn.init.zeros_(self.table.weight)

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        """Encode x~ (or quantile bins), shape ``(n,)`` to ``(n, d_model)``."""
        encoded: torch.Tensor = self.table(self.bins(values))
        return encoded


def uniform_edges(n_bins: int, target_sum: float) -> torch.Tensor:
    """Return the inner edges that cut [0, log(1 + target_sum)], all x~ can be, into equal bins."""
    return torch.linspace(0, math.log1p(target_sum), n_bins + 1)[1:-1]
