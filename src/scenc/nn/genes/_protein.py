from __future__ import annotations

import math
from typing import Any, Self, cast

import torch
from torch import nn
from torch.nn import functional as F

from scenc._torch_settings import full_precision
from scenc.nn._mlp import mlp
from scenc.nn.genes._base import GeneEncoder


class ProteinGeneEncoder(GeneEncoder):
    """A trained MLP of fixed, pretrained gene vectors: e = MLP(E(g)) (eq. 12).

    The MLP runs once over the distinct genes of a batch, never over its tokens; on a GPU over the
    whole vocabulary, since the CPU would wait there to learn how many are distinct. Where no
    gradient is wanted (evaluation), the whole vocabulary is projected once and kept until training
    resumes.

    Use `from_vectors` to build one from data; the constructor makes an empty one of a given shape.

    Parameters
    ----------
    n_genes
        Size of the vocabulary.
    dim
        Width of the pretrained vectors.
    d_model
        Width of the output.
    hidden
        Width of the MLP's hidden layer.
    n_own
        Number of genes that have a trained vector of their own instead of a pretrained one.
    activation
        ``"gelu"`` or ``"relu"``.
    init_std
        Standard deviation of the initial vectors of genes without a pretrained one.
    layer_norm
        Whether a layer normalisation follows the projection.
    projection
        As `protein_projection` of `scenc.nn.ModelConfig`; with ``"fixed"`` `dim` is `d_model`.
    silu
        Whether SiLU and the factor sqrt(d_model) follow the layer normalisation.

    Examples
    --------
    >>> import torch
    >>> vectors = torch.randn(2000, 1280)  # of each gene, by a protein language model
    >>> encoder = scenc.nn.ProteinGeneEncoder.from_vectors(vectors, d_model=64)
    >>> encoder(torch.tensor([0, 7, 7])).shape
    torch.Size([3, 64])
    """

    vectors: torch.Tensor
    own_index: torch.Tensor

    def __init__(
        self,
        n_genes: int,
        dim: int,
        d_model: int,
        hidden: int = 512,
        n_own: int = 0,
        activation: str = "gelu",
        init_std: float = 1.0,
        layer_norm: bool = False,
        projection: str = "mlp",
        silu: bool = False,
    ) -> None:
        super().__init__()
        if projection == "fixed" and dim != d_model:
            raise ValueError(f"Fixed gene vectors have d_model={d_model} dimensions, not {dim}.")
        self.register_buffer("vectors", torch.zeros(n_genes, dim))
        # Row of `own` that stands in for a gene's projection, -1 where the projection is used.
        self.register_buffer("own_index", torch.full((n_genes,), -1))
        # Nothing to train where nothing is missing: distributed training refuses unused weights.
        self.own = nn.Parameter(torch.randn(n_own, d_model) * init_std, requires_grad=n_own > 0)
        # Saved models know the weights of any projection by this name.
        self.mlp: nn.Module = nn.Identity()
        if projection != "fixed":
            linear = projection == "linear"
            self.mlp = nn.Linear(dim, d_model) if linear else mlp(dim, hidden, d_model, activation)
        self.norm = nn.LayerNorm(d_model) if layer_norm else nn.Identity()
        self.silu = silu
        self._cached: torch.Tensor | None = None

    @classmethod
    def from_vectors(
        cls,
        vectors: torch.Tensor,
        d_model: int,
        *,
        has_vector: torch.Tensor | None = None,
        missing: str = "learned",
        input_scale: str = "plain",
        projection: str = "mlp",
        output: str = "plain",
        **shape: Any,
    ) -> Self:
        """Build from pretrained vectors.

        Parameters
        ----------
        vectors
            E, one row per gene of the vocabulary, shape ``(n_genes, dim)``. Kept as given (float16
            or float32), not trained.
        d_model
            Width of the output.
        has_vector
            False at genes without a vector, whose rows are ignored, shape ``(n_genes,)``;
            ``None``: all genes have one.
        missing
            Genes without a vector get a trained vector of their own (``"learned"``) or the MLP of
            a zero vector (``"zero"``).
        input_scale, projection, output
            As `protein_input`, `protein_projection` and `protein_output` of
            `scenc.nn.ModelConfig`.
        **shape
            `hidden`, `activation` and `init_std` of the constructor.
        """
        lacking = torch.zeros(len(vectors), dtype=torch.bool)
        if has_vector is not None:
            lacking = ~has_vector
        n_own = int(lacking.sum()) if missing == "learned" else 0
        vectors = torch.where(lacking[:, None], 0, _scale(vectors, ~lacking, input_scale))
        if projection == "fixed":
            vectors = _leading_components(vectors, ~lacking, d_model)
        n_genes, dim = vectors.shape
        encoder = cls(
            n_genes,
            dim,
            d_model,
            n_own=n_own,
            layer_norm=output in ("layer_norm", "silu"),
            projection=projection,
            silu=output == "silu",
            **shape,
        )
        encoder.vectors = vectors
        if output == "matched":
            encoder._match_spread(~lacking, shape.get("init_std", 1.0))
        if n_own:
            encoder.own_index[lacking] = torch.arange(n_own)
        return encoder

    def forward(self, genes: torch.Tensor) -> torch.Tensor:
        """Encode vocabulary indices, any shape to ``(..., d_model)``."""
        if not torch.is_grad_enabled():
            return F.embedding(genes, self.table())
        # The cached table is stale after the next step, and `train` may not have been called before
        # it: Lightning ends a validation without that.
        self._cached = None
        if genes.device.type != "cpu":
            return F.embedding(genes, self.table())
        present = torch.zeros(len(self.vectors), dtype=torch.bool, device=genes.device)
        present[genes.reshape(-1)] = True
        position = present.cumsum(0) - 1
        return F.embedding(position[genes], self._project(present.nonzero()[:, 0]))

    @torch.no_grad()
    def start_at(self, vectors: torch.Tensor) -> None:
        """Fit the projection's last layer to vectors by least squares; set learned ones exactly.

        The fit ignores a layer normalisation after the projection. Fixed vectors cannot be fitted.
        """
        if isinstance(self.mlp, nn.Identity):
            raise TypeError("Fixed gene vectors cannot start at others.")
        self._cached = None
        own = self.own_index >= 0
        self.own[self.own_index[own]] = vectors[own].to(self.own.dtype)
        hidden = self.vectors[~own].to(self.own.dtype)
        last: nn.Module = self.mlp
        if isinstance(last, nn.Sequential):
            first, activation, last = last
            hidden = activation(first(hidden))
        hidden = hidden.double()
        middle, aim = hidden.mean(dim=0), vectors[~own].double()
        hidden, shift = hidden - middle, aim.mean(dim=0)
        gram = hidden.T @ hidden
        # A small ridge, since there may be more hidden units than genes.
        gram.diagonal().add_(1e-3 * gram.diagonal().mean().clamp(min=1e-12))
        weight = torch.linalg.solve(gram, hidden.T @ (aim - shift)).T
        cast("nn.Linear", last).weight.copy_(weight)
        cast("nn.Linear", last).bias.copy_(shift - weight @ middle)

    def table(self) -> torch.Tensor:
        """Return the vectors of the whole vocabulary, shape ``(n_genes, d_model)``."""
        if torch.is_grad_enabled() or self.training:
            return self._project()
        if self._cached is None:
            # In FP32, whatever precision is asked for first: what is kept serves all.
            with full_precision(self.vectors.device):
                self._cached = self._project().float()
        return self._cached

    @torch.no_grad()
    def _match_spread(self, known: torch.Tensor, std: float) -> None:
        """Shift and scale the last layer until projected genes have mean 0 and a given spread."""
        projected = self.mlp(self.vectors[known].to(self.own.dtype))
        mean = projected.mean(dim=0)
        factor = std / (projected - mean).square().mean().sqrt()
        if isinstance(self.mlp, nn.Identity):
            self.vectors = torch.where(known[:, None], (self.vectors - mean) * factor, 0)
            return
        last = self.mlp[-1] if isinstance(self.mlp, nn.Sequential) else self.mlp
        last = cast("nn.Linear", last)
        last.weight.mul_(factor)
        last.bias.sub_(mean).mul_(factor)

    def _project(self, genes: torch.Tensor | None = None) -> torch.Tensor:
        """Return the vectors of some genes, or of the whole vocabulary."""
        vectors, own = self.vectors, self.own_index
        if genes is not None:
            vectors, own = vectors[genes], own[genes]
        projected: torch.Tensor = self.norm(self.mlp(vectors.to(self.own.dtype)))
        if self.silu:
            projected = F.silu(projected) * math.sqrt(projected.shape[1])
        if len(self.own):
            stand_in = F.embedding(own.clamp(min=0), self.own).to(projected.dtype)
            projected = torch.where((own >= 0)[:, None], stand_in, projected)
        return projected

    # Whatever may change the weights or where they live makes the cached table stale.
    def train(self, mode: bool = True) -> Self:
        """Set training or evaluation mode."""
        self._cached = None if mode else self._cached
        return super().train(mode)

    def _apply(self, fn: Any, recurse: bool = True) -> Self:
        self._cached = None
        return cast("Self", super()._apply(fn, recurse))  # type: ignore[no-untyped-call]  # torch

    def _load_from_state_dict(self, *args: Any, **kwargs: Any) -> None:
        self._cached = None
        super()._load_from_state_dict(*args, **kwargs)


def _scale(vectors: torch.Tensor, known: torch.Tensor, how: str) -> torch.Tensor:
    """Scale pretrained vectors as `protein_input` of `scenc.nn.ModelConfig` says."""
    if how == "plain":
        return vectors
    wide = vectors.float()
    if how == "l2":
        scaled = wide / wide.square().mean(dim=1, keepdim=True).sqrt().clamp(min=1e-12)
    else:
        std, mean = torch.std_mean(wide[known], dim=0, correction=0)
        scaled = (wide - mean) / std.clamp(min=1e-6)
    return scaled.to(vectors.dtype)


def _leading_components(vectors: torch.Tensor, known: torch.Tensor, n: int) -> torch.Tensor:
    """Return n dimensions of pretrained vectors; 0 for genes without one.

    As many as there are: the vectors as they are. Fewer: their first principal components, with
    the sign that makes the largest loading positive. More: zeros behind them.
    """
    wide = vectors.float()
    if wide.shape[1] > n:
        centred = (wide - wide[known].mean(dim=0)).double()
        _, basis = torch.linalg.eigh(centred[known].T @ centred[known])
        basis = basis.flip(1)[:, :n]
        largest = basis.gather(0, basis.abs().argmax(dim=0, keepdim=True))
        wide = (centred @ (basis * largest.sign())).float()
    return torch.where(known[:, None], F.pad(wide, (0, n - wide.shape[1])), 0)
