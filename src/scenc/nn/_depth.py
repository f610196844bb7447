from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn

from scenc._torch_settings import full_precision
from scenc.nn._mlp import mlp

if TYPE_CHECKING:
    from scenc.data import TokenBatch


class DepthToken(nn.Module):
    """A token that holds a cell's library size L: z = MLP(log(L / c_norm)).

    It stands behind a cell's genes, which attend to it, so that an encoding of expression that
    hides the library size (quantile bins within the cell, raw counts) is told it nevertheless::

        masked | not masked | padding | depth

    Behind the padding it stands in the same column for all cells, and what is read off the genes'
    columns (pooling, decoding) stays as it is without it.

    Parameters
    ----------
    d_model
        Width of the token.
    target_sum
        c_norm of eq. 2: the library size at which the logarithm is 0.
    activation
        ``"gelu"`` or ``"relu"``.

    Examples
    --------
    >>> import torch
    >>> depth = scenc.nn.DepthToken(d_model=64)
    >>> depth(torch.tensor([1200.0, 25_000.0])).shape  # library sizes of two cells
    torch.Size([2, 64])
    """

    def __init__(self, d_model: int, target_sum: float = 1e4, activation: str = "gelu") -> None:
        super().__init__()
        self.target_sum = target_sum
        self.mlp = mlp(1, d_model, d_model, activation)

    def forward(self, library_sizes: torch.Tensor) -> torch.Tensor:
        """Encode library sizes, shape ``(n_cells,)`` to ``(n_cells, d_model)``."""
        # A cell without counts has no logarithm, and no tokens that its own could be seen by.
        depth = torch.where(library_sizes > 0, library_sizes / self.target_sum, 1).log()
        encoded: torch.Tensor = self.mlp(depth[:, None])
        return encoded

    def encode(self, batch: TokenBatch) -> torch.Tensor:
        """Encode the library sizes of a batch's cells, to ``(n_cells, d_model)``, in FP32."""
        if batch.library_sizes is None:
            raise ValueError("A token of the depth needs batches with library_sizes.")
        # As for expression, sixteen bits would round the logarithm.
        with full_precision(batch.library_sizes.device):
            encoded: torch.Tensor = self(batch.library_sizes)
            return encoded
