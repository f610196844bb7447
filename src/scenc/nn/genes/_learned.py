from __future__ import annotations

import torch
from torch import nn

from scenc.nn.genes._base import GeneEncoder


class LearnedGeneEncoder(GeneEncoder):
    """A trained vector per gene: e = Embedding(g) (eq. 11).

    Parameters
    ----------
    n_genes
        Size of the vocabulary.
    d_model
        Width of the output.
    init_std
        Standard deviation of the initial table.
    layer_norm
        Whether a trained layer normalisation follows the table, as in scGPT and Tahoe-x1.

    Examples
    --------
    >>> import torch
    >>> genes = scenc.nn.LearnedGeneEncoder(n_genes=2000, d_model=64)
    >>> genes(torch.tensor([0, 7, 7])).shape
    torch.Size([3, 64])
    """

    def __init__(
        self, n_genes: int, d_model: int, init_std: float = 1.0, layer_norm: bool = False
    ) -> None:
        super().__init__()
        self.embedding = nn.Embedding(n_genes, d_model)
        self.norm = nn.LayerNorm(d_model) if layer_norm else nn.Identity()
        nn.init.normal_(self.embedding.weight, std=init_std)

    def forward(self, genes: torch.Tensor) -> torch.Tensor:
        """Encode vocabulary indices, any shape to ``(..., d_model)``."""
        encoded: torch.Tensor = self.norm(self.embedding(genes))
        return encoded

    @torch.no_grad()
    def start_at(self, vectors: torch.Tensor) -> None:
        """Set the table; a layer normalisation after it changes its vectors."""
        self.embedding.weight.copy_(vectors)

    def table(self) -> torch.Tensor:
        """Return the vectors of the whole vocabulary, shape ``(n_genes, d_model)``."""
        vectors: torch.Tensor = self.norm(self.embedding.weight)
        return vectors
