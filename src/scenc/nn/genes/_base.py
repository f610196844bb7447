from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

from torch import nn

if TYPE_CHECKING:
    import torch


class GeneEncoder(nn.Module, ABC):
    """Maps genes of the vocabulary to vectors: enc_g of eq. 4."""

    @abstractmethod
    def forward(self, genes: torch.Tensor) -> torch.Tensor:
        """Encode vocabulary indices, any shape to ``(..., d_model)``."""

    @abstractmethod
    def start_at(self, vectors: torch.Tensor) -> None:
        """Set the weights such that genes have given vectors, or vectors as close as possible.

        Parameters
        ----------
        vectors
            Of the whole vocabulary, shape ``(n_genes, d_model)``.
        """

    @abstractmethod
    def table(self) -> torch.Tensor:
        """Return the vectors of the whole vocabulary, shape ``(n_genes, d_model)``."""
