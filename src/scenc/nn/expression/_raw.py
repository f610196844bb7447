from __future__ import annotations

from typing import TYPE_CHECKING, cast

from torch import nn

from scenc.nn._mlp import mlp
from scenc.nn.expression._base import ExpressionEncoder

if TYPE_CHECKING:
    import torch

    from scenc.nn.expression._base import ValueKind


class RawEncoder(ExpressionEncoder):
    """An MLP of the normalised value: e = W2 act(W1 x~ + b1) + b2 (eq. 13).

    Parameters
    ----------
    d_model
        Width of the output.
    hidden
        Width of the hidden layer.
    activation
        ``"gelu"`` or ``"relu"``.
    reads
        What stands in the place of x~. The numbers of per-cell quantile bins
        (``"quantile_bins"``) make it the encoder of scGPT and Tahoe-x1.

    Examples
    --------
    >>> import torch
    >>> raw = scenc.nn.RawEncoder(d_model=64)
    >>> raw(torch.tensor([0.5, 3.0])).shape
    torch.Size([2, 64])
    """

    def __init__(
        self,
        d_model: int,
        hidden: int = 512,
        activation: str = "gelu",
        reads: ValueKind = "normalized",
    ) -> None:
        super().__init__()
        self.reads = reads
        self.mlp = mlp(1, hidden, d_model, activation)

    def start_at_zero(self) -> None:
        """Set the last layer to zero, so that every value's vector starts there."""
        last = cast("nn.Linear", self.mlp[-1])
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        """Encode x~, shape ``(n,)`` to ``(n, d_model)``."""
        encoded: torch.Tensor = self.mlp(values[:, None].float())
        return encoded
