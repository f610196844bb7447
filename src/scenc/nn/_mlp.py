from __future__ import annotations

from torch import nn

ACTIVATIONS: dict[str, type[nn.Module]] = {"gelu": nn.GELU, "relu": nn.ReLU}


def mlp(n_in: int, n_hidden: int, n_out: int, activation: str = "gelu") -> nn.Sequential:
    """Two linear layers with one activation between them."""
    return nn.Sequential(
        nn.Linear(n_in, n_hidden), ACTIVATIONS[activation](), nn.Linear(n_hidden, n_out)
    )
