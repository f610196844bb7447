from __future__ import annotations

from typing import TYPE_CHECKING

from torch import nn

from scenc.nn.expression._base import ExpressionEncoder

if TYPE_CHECKING:
    import torch


class SoftBinEncoder(ExpressionEncoder):
    """A trained mixture of bin vectors (eq. 18-19; introduced by scFoundation).

    alpha = softmax(W2 LeakyReLU(W1 x~ + b1) + b2), e = sum_k alpha_k T_k.

    Parameters
    ----------
    d_model
        Width of the output.
    n_bins
        Number of bin vectors T_k.
    hidden
        Width of the hidden layer.
    bias
        Whether b1 and b2 are there.
    init_std
        Standard deviation of the initial bin vectors.
    """

    def __init__(
        self,
        d_model: int,
        n_bins: int = 20,
        hidden: int = 512,
        bias: bool = True,
        init_std: float = 1.0,
    ) -> None:
        super().__init__()
        self.weigh = nn.Sequential(
            nn.Linear(1, hidden, bias=bias), nn.LeakyReLU(), nn.Linear(hidden, n_bins, bias=bias)
        )
        self.table = nn.Embedding(n_bins, d_model)
        nn.init.normal_(self.table.weight, std=init_std)

    def weights(self, values: torch.Tensor) -> torch.Tensor:
        """Return the mixture alpha of each value, shape ``(n, n_bins)``."""
        logits: torch.Tensor = self.weigh(values[:, None])
        return logits.softmax(dim=-1)

    def start_at_zero(self) -> None:
        """Set the last layer to zero, so that every value's vector starts there."""
        nn.init.zeros_(self.table.weight)

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        """Encode x~, shape ``(n,)`` to ``(n, d_model)``."""
        return self.weights(values) @ self.table.weight
