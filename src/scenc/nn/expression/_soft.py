from __future__ import annotations

from typing import TYPE_CHECKING

from torch import nn

from scenc.nn.expression._base import ExpressionEncoder

if TYPE_CHECKING:
    import torch

    from scenc.nn.expression._base import ValueKind


class SoftBinEncoder(ExpressionEncoder):
    """A trained mixture of bin vectors (eq. 18-19; introduced by scFoundation).

    h = LeakyReLU(W1 x~ + b1), alpha = softmax(W2 h + b2 + r h), e = sum_k alpha_k T_k.

    Near values get near mixtures: no edge separates two counts, and gradients reach the places of
    the bins, which hard bins have fixed. The paper has r = 0; scFoundation has r = 1, a slope of
    0.1, and as many hidden units as bins.

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
    slope
        Slope of the LeakyReLU below 0.
    residual
        r, the weight of the hidden layer among the logits; not 0 only if `hidden` is `n_bins`.
    reads
        What stands in the place of x~. Shares of a cell's logged counts (``"log_shares"``) make it
        the encoder of STATE, with 10 bins.

    Examples
    --------
    >>> import torch
    >>> soft = scenc.nn.SoftBinEncoder(d_model=64)
    >>> soft(torch.tensor([0.5, 3.0])).shape
    torch.Size([2, 64])
    >>> soft.weights(torch.tensor([0.5, 3.0])).shape  # of the 20 bins
    torch.Size([2, 20])
    """

    def __init__(
        self,
        d_model: int,
        n_bins: int = 20,
        hidden: int = 512,
        bias: bool = True,
        init_std: float = 1.0,
        *,
        slope: float = 0.01,
        residual: float = 0.0,
        reads: ValueKind = "normalized",
    ) -> None:
        super().__init__()
        if residual and hidden != n_bins:
            raise ValueError(
                f"With a residual, the hidden layer needs {n_bins} units, one for each bin; it has "
                f"{hidden}."
            )
        self.reads = reads
        self.residual = residual
        self.weigh = nn.Sequential(
            nn.Linear(1, hidden, bias=bias),
            nn.LeakyReLU(slope),
            nn.Linear(hidden, n_bins, bias=bias),
        )
        self.table = nn.Embedding(n_bins, d_model)
        nn.init.normal_(self.table.weight, std=init_std)

    def weights(self, values: torch.Tensor) -> torch.Tensor:
        """Return the mixture alpha of each value, shape ``(n, n_bins)``."""
        first, activation, second = self.weigh
        hidden = activation(first(values[:, None].float()))
        logits: torch.Tensor = second(hidden)
        if self.residual:
            logits = logits + self.residual * hidden
        return logits.softmax(dim=-1)

    def start_at_zero(self) -> None:
        """Set the last layer to zero, so that every value's vector starts there."""
        nn.init.zeros_(self.table.weight)

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        """Encode x~, shape ``(n,)`` to ``(n, d_model)``."""
        return self.weights(values) @ self.table.weight
