from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

from torch import nn

if TYPE_CHECKING:
    import torch


class GeneEncoder(nn.Module, ABC):
    """Maps genes of the vocabulary to vectors: enc_g of eq. 4.

    Examples
    --------
    >>> import torch
    >>> encoder = scenc.nn.LearnedGeneEncoder(n_genes=2000, d_model=64)
    >>> isinstance(encoder, scenc.nn.GeneEncoder)
    True
    >>> encoder.table().shape
    torch.Size([2000, 64])
    """

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
