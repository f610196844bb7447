from __future__ import annotations

import math
from functools import cache
from typing import TYPE_CHECKING, cast

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from scenc.data import Packing
from scenc.nn._dropout import Dropout, attention
from scenc.nn._mlp import ACTIVATIONS
from scenc.nn._packed_attention import packed_attention

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


class SelfAttention(nn.Module):
    """Multi-head self-attention through fused kernels.

    Parameters
    ----------
    d_model, n_heads
        Width, and number of heads it is split into.
    dropout
        Of the attention weights, in training.

    Examples
    --------
    >>> import torch
    >>> attention = scenc.nn.SelfAttention(d_model=64, n_heads=4, dropout=0.0)
    >>> tokens = torch.randn(2, 10, 64)  # ten genes of two cells
    >>> attention(tokens, attn_mask=None).shape
    torch.Size([2, 10, 64])
    >>> attention.weights(tokens, attn_mask=None).shape
    torch.Size([2, 4, 10, 10])
    """

    def __init__(self, d_model: int, n_heads: int, dropout: float) -> None:
        super().__init__()
        self.n_heads = n_heads
        self.dropout = dropout
        # Saved models know the weights by these names: the joint q, k and v projection, and the
        # output projection.
        self.project = nn.Linear(d_model, 3 * d_model)
        self.combine = nn.Linear(d_model, d_model)

    def forward(self, x: torch.Tensor, attn_mask: torch.Tensor | Packing | None) -> torch.Tensor:
        """Mix tokens; arguments as in `Transformer.forward`."""
        heads, dropout = self._heads(x), self.dropout if self.training else 0.0
        if isinstance(attn_mask, Packing):
            mixed = packed_attention(heads, attn_mask, dropout)
        else:
            query, key, value = (each.transpose(1, 2) for each in heads.unbind(2))
            mixed = attention(query, key, value, attn_mask, dropout).transpose(1, 2)
        combined: torch.Tensor = self.combine(mixed.reshape(x.shape))
        return combined

    def weights(self, x: torch.Tensor, attn_mask: torch.Tensor | None) -> torch.Tensor:
        """Return what each token (row) takes of each other: rows add up to 1.

        Returns
        -------
        Shape ``(n_cells, n_heads, n_tokens, n_tokens)``: large, and no part of `forward`.
        """
        query, key, _ = self._heads(x).permute(2, 0, 3, 1, 4)
        scores = query @ key.transpose(-1, -2) / math.sqrt(query.shape[-1])
        if attn_mask is not None:
            scores = scores.masked_fill(~attn_mask, -math.inf)
        weights: torch.Tensor = scores.softmax(dim=-1)
        return weights

    def _heads(self, x: torch.Tensor) -> torch.Tensor:
        """Return queries, keys and values, ``(..., n_tokens, 3, n_heads, d_head)``."""
        heads: torch.Tensor = self.project(x).unflatten(-1, (3, self.n_heads, -1))
        return heads


class TransformerBlock(nn.Module):
    """Self-attention and a feed-forward layer, each with a residual and a norm (eq. 8).

    Parameters
    ----------
    d_model, n_heads, d_feedforward, dropout
        Sizes.
    norm
        ``"pre"``: x + f(norm(x)). ``"post"``: norm(x + f(x)).
    activation
        ``"gelu"`` or ``"relu"``.

    Examples
    --------
    >>> import torch
    >>> block = scenc.nn.TransformerBlock(d_model=64, n_heads=4, d_feedforward=128)
    >>> tokens = torch.randn(2, 10, 64)  # ten genes of two cells
    >>> block(tokens, attn_mask=None).shape
    torch.Size([2, 10, 64])
    >>> block.start_at_zero()
    >>> bool((block(tokens, attn_mask=None) == tokens).all())
    True
    """

    def __init__(
        self,
        d_model: int,
        n_heads: int,
        d_feedforward: int,
        dropout: float = 0.0,
        norm: str = "pre",
        activation: str = "gelu",
    ) -> None:
        super().__init__()
        self.pre = norm == "pre"
        self.attention_norm = nn.LayerNorm(d_model)
        self.attention = SelfAttention(d_model, n_heads, dropout)
        self.feedforward_norm = nn.LayerNorm(d_model)
        self.feedforward = nn.Sequential(
            nn.Linear(d_model, d_feedforward),
            ACTIVATIONS[activation](),
            Dropout(dropout),
            nn.Linear(d_feedforward, d_model),
        )
        self.dropout = Dropout(dropout)

    def start_at_zero(self) -> None:
        """Zero the output of attention and feed-forward, so that the block changes nothing."""
        for last in (self.attention.combine, cast("nn.Linear", self.feedforward[-1])):
            nn.init.zeros_(last.weight)
            nn.init.zeros_(last.bias)

    def forward(self, x: torch.Tensor, attn_mask: torch.Tensor | Packing | None) -> torch.Tensor:
        """Transform tokens; arguments as in `Transformer.forward`."""
        if self.pre:
            x = x + self.dropout(self.attention(self.attention_norm(x), attn_mask))
            x = x + self.dropout(self.feedforward(self.feedforward_norm(x)))
        else:
            x = self.attention_norm(x + self.dropout(self.attention(x, attn_mask)))
            x = self.feedforward_norm(x + self.dropout(self.feedforward(x)))
        return x

    def attention_weights(self, x: torch.Tensor, attn_mask: torch.Tensor | None) -> torch.Tensor:
        """Return what tokens take of each other, as `SelfAttention.weights`."""
        return self.attention.weights(self.attention_norm(x) if self.pre else x, attn_mask)


class Transformer(nn.Module):
    """A stack of blocks without positions: a cell is a bag of genes (eq. 8).

    Parameters
    ----------
    n_layers
        Number of blocks.
    d_model, n_heads, d_feedforward, dropout, norm, activation
        Of each block.

    Attributes
    ----------
    checkpoint_blocks
        Whether training computes the inside of each block anew in backward instead of keeping it.
    compile_blocks
        Whether training runs the blocks as `torch.compile` makes them, which takes it some ten
        seconds at the first step: faster on a GPU, where casts, norms, dropout and sums become one
        kernel. Not on a CPU, whose dropout is compiled already.

    Examples
    --------
    >>> import torch
    >>> transformer = scenc.nn.Transformer(n_layers=2, d_model=64, n_heads=4, d_feedforward=128)
    >>> tokens = torch.randn(2, 10, 64)  # ten genes of two cells
    >>> transformer(tokens).shape
    torch.Size([2, 10, 64])
    >>> is_gene = torch.tensor([[True] * 10, [True] * 7 + [False] * 3])
    >>> masked = transformer(tokens, is_gene[:, None, None])  # the last three are padding
    """

    checkpoint_blocks = False
    compile_blocks = False

    def __init__(
        self,
        n_layers: int,
        d_model: int,
        n_heads: int,
        d_feedforward: int,
        dropout: float = 0.0,
        norm: str = "pre",
        activation: str = "gelu",
    ) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(
            TransformerBlock(d_model, n_heads, d_feedforward, dropout, norm, activation)
            for _ in range(n_layers)
        )
        # Pre-norm blocks leave their sum unnormalised.
        self.final_norm = nn.LayerNorm(d_model) if norm == "pre" else nn.Identity()

    def forward(
        self, x: torch.Tensor, attn_mask: torch.Tensor | Packing | None = None
    ) -> torch.Tensor:
        """Transform tokens.

        Parameters
        ----------
        x
            Token vectors, shape ``(n_cells, n_tokens, d_model)``, or ``(n_packed, d_model)``.
        attn_mask
            True where a token (row) may see another (column), broadcastable to ``(n_cells,
            n_heads, n_tokens, n_tokens)``; ``None``: every token sees every token of its cell. For
            packed tokens their `scenc.data.Packing`: every token sees those of its cell.
        """
        normed: torch.Tensor = self.final_norm(self.hidden_states(x, attn_mask))
        return normed

    def hidden_states(
        self, x: torch.Tensor, attn_mask: torch.Tensor | Packing | None = None
    ) -> torch.Tensor:
        """Return the last block's hidden states, before the final norm; arguments as `forward`."""
        trains = self.training and torch.is_grad_enabled()
        run = compiled_run() if self.compile_blocks and trains else _run
        for block in self.blocks:
            if self.checkpoint_blocks and trains:
                x = checkpoint(run, block, x, attn_mask, use_reentrant=False)
            else:
                x = run(block, x, attn_mask)
        return x

    def layers(
        self, x: torch.Tensor, attn_mask: torch.Tensor | Packing | None = None
    ) -> Iterator[torch.Tensor]:
        """Yield the tokens themselves, then each block's hidden states; arguments as `forward`."""
        yield x
        for block in self.blocks:
            x = block(x, attn_mask)
            yield x

    def attention_weights(
        self, x: torch.Tensor, attn_mask: torch.Tensor | None = None
    ) -> Iterator[torch.Tensor]:
        """Yield each block's attention, as `SelfAttention.weights`; arguments as `forward`."""
        for block in self.blocks:
            yield cast("TransformerBlock", block).attention_weights(x, attn_mask)
            x = block(x, attn_mask)

    def start_at_zero(self) -> None:
        """Zero the output of each sub-layer, so that tokens pass pre-norm blocks unchanged."""
        for block in self.blocks:
            cast("TransformerBlock", block).start_at_zero()


def _run(
    block: nn.Module, x: torch.Tensor, attn_mask: torch.Tensor | Packing | None
) -> torch.Tensor:
    transformed: torch.Tensor = block(x, attn_mask)
    return transformed


@cache
def compiled_run() -> Callable[..., torch.Tensor]:
    """Return what runs any block, compiled once for all: they differ in their weights alone.

    Numbers of cells and tokens differ from batch to batch, and must not compile it anew.
    """
    return torch.compile(_run, dynamic=True)
