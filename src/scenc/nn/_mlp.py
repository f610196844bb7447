from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F

from scenc._torch_settings import full_precision

ACTIVATIONS: dict[str, type[nn.Module]] = {"gelu": nn.GELU, "relu": nn.ReLU}


class FullLinear(nn.Linear):
    """A linear layer that computes in FP32, also under mixed precision."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Transform vectors, shape ``(..., n_in)`` to ``(..., n_out)``."""
        with full_precision(x.device):
            bias = None if self.bias is None else self.bias.float()
            return F.linear(x.float(), self.weight.float(), bias)


def mlp(
    n_in: int,
    n_hidden: int,
    n_out: int,
    activation: str = "gelu",
    last: type[nn.Linear] = nn.Linear,
) -> nn.Sequential:
    """Two linear layers with one activation between them; `last` is the second one's class."""
    return nn.Sequential(
        nn.Linear(n_in, n_hidden), ACTIVATIONS[activation](), last(n_hidden, n_out)
    )
