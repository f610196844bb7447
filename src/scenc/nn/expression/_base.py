from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Literal

from torch import nn

if TYPE_CHECKING:
    import torch

    from scenc.data import TokenBatch

ValueKind = Literal["normalized", "scaled", "counts", "quantile_bins", "log_shares"]


class ExpressionEncoder(nn.Module, ABC):
    """Maps expression values to vectors: enc_x of eq. 5.

    Attributes
    ----------
    reads
        Which of a batch's values the encoder sees: an attribute of `scenc.data.TokenBatch`. These
        are x~, counts scaled but not logged, raw counts, per-cell quantile bins, or shares of the
        cell's logged counts.
    norm
        What follows the encoder in `encode`: nothing, unless a layer normalisation is put there.

    Examples
    --------
    >>> import torch
    >>> class Linear(scenc.nn.ExpressionEncoder):
    ...     def __init__(self, d_model):
    ...         super().__init__()
    ...         self.layer = torch.nn.Linear(1, d_model)
    ...
    ...     def forward(self, values):
    ...         return self.layer(values[:, None])
    ...
    ...     def start_at_zero(self):
    ...         torch.nn.init.zeros_(self.layer.weight)
    ...         torch.nn.init.zeros_(self.layer.bias)
    >>> Linear(d_model=64)(torch.tensor([0.5, 3.0])).shape
    torch.Size([2, 64])
    """

    reads: ValueKind = "normalized"

    def __init__(self) -> None:
        super().__init__()
        self.norm: nn.Module = nn.Identity()

    @abstractmethod
    def forward(self, values: torch.Tensor) -> torch.Tensor:
        """Encode values, shape ``(n,)`` to ``(n, d_model)``."""

    @abstractmethod
    def start_at_zero(self) -> None:
        """Set the last layer to zero, so that every value's vector starts there."""

    def encode(self, batch: TokenBatch) -> torch.Tensor:
        """Encode a batch's distinct values, shape ``(n_values, d_model)``."""
        encoded: torch.Tensor = self.norm(self(getattr(batch, self.reads)))
        return encoded
