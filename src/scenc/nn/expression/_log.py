from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn

from scenc.nn.expression._base import ExpressionEncoder

if TYPE_CHECKING:
    from scenc.nn.expression._base import ValueKind

# Relative error that exp(x~) may have in FP32.
_ROUNDING = 1e-6


class LogBinEncoder(ExpressionEncoder):
    """A vector per doubling: b = min(floor(log2(x + 1)), B_max) (eq. 16-17).

    Parameters
    ----------
    d_model
        Width of the output.
    max_bin
        B_max.
    reads
        ``"counts"``: x is the raw count, as eq. 16 is written. ``"normalized"``: it is x~.
        ``"scaled"``: it is the count scaled to a common library size, as in scBERT.
    init_std
        Standard deviation of the initial table.

    Examples
    --------
    >>> import torch
    >>> log = scenc.nn.LogBinEncoder(d_model=64)
    >>> log.bins(torch.tensor([1.0, 2.0, 3.0, 7.0, 5000.0])).tolist()
    [1, 1, 2, 3, 10]
    """

    def __init__(
        self,
        d_model: int,
        max_bin: int = 10,
        reads: ValueKind = "counts",
        init_std: float = 1.0,
    ) -> None:
        super().__init__()
        self.reads = reads
        self.max_bin = max_bin
        self.table = nn.Embedding(max_bin + 1, d_model)
        nn.init.normal_(self.table.weight, std=init_std)

    def bins(self, values: torch.Tensor) -> torch.Tensor:
        """Return the bin of each value, shape ``(n,)``."""
        # frexp reads the exponent itself: x + 1 = m 2^e with m in [0.5, 1), so floor(log2) = e - 1,
        # exact at powers of two, where a rounded logarithm can fall into the bin below.
        shifted = values.float() + 1
        if self.reads == "scaled":
            # These come from x~ and are rounded: a whole power of two may lie a little too low.
            shifted = shifted * (1 + _ROUNDING)
        _, exponent = torch.frexp(shifted)
        return (exponent.long() - 1).clamp(max=self.max_bin)

    def start_at_zero(self) -> None:
        """Set the last layer to zero, so that every value's vector starts there."""
        nn.init.zeros_(self.table.weight)

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        """Encode counts (or x~), shape ``(n,)`` to ``(n, d_model)``."""
        encoded: torch.Tensor = self.table(self.bins(values))
        return encoded
