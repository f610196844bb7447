from __future__ import annotations

from typing import TYPE_CHECKING

from scenc.nn._mlp import mlp
from scenc.nn.expression._base import ExpressionEncoder

if TYPE_CHECKING:
    import torch


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
    """

    def __init__(self, d_model: int, hidden: int = 512, activation: str = "gelu") -> None:
        super().__init__()
        self.mlp = mlp(1, hidden, d_model, activation)

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        """Encode x~, shape ``(n,)`` to ``(n, d_model)``."""
        encoded: torch.Tensor = self.mlp(values[:, None])
        return encoded
