"""Dropout that costs little on CPUs, of vectors and of attention's weights.

PyTorch's own draws a random float for each number and keeps a mask; and with dropout its attention
writes all weights of all heads to memory. In FP32 on a CPU the loops of `_dropout_kernels` take
their place. Elsewhere PyTorch's own is used. Both drop each number with the same chance,
independently.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from scenc._threads import in_parts
from scenc.nn._dropout_kernels import column_codes, drop, softmax_and_drop, softmax_gradient

if TYPE_CHECKING:
    from numpy.typing import NDArray

# Attention weights that are worked on at a time: as many as a core's cache holds beside their
# gradients.
_N_WEIGHTS = 2**17
# For fewer tokens PyTorch's own attention is faster, dropout included.
_LEAST_TOKENS = 128


class Dropout(nn.Dropout):
    """Zero numbers at random in training, and scale the others by 1 / (1 - p).

    Parameters
    ----------
    p
        The chance of each number.
    """

    def __init__(self, p: float) -> None:
        super().__init__(p)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Drop numbers of a tensor of any shape."""
        if not (self.training and 0 < self.p < 1 and x.ndim and x.numel() and _has_kernel(x)):
            return super().forward(x)
        dropped: torch.Tensor = _Drop.apply(x, self.p)
        return dropped


def attention(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attn_mask: torch.Tensor | None,
    dropout: float,
) -> torch.Tensor:
    """Return softmax(query key^T / sqrt(d)) value, with dropout of the softmax.

    Parameters
    ----------
    query, key, value
        Shape ``(n_cells, n_heads, n_tokens, d)``.
    attn_mask
        True where a token (row) may see another (column), broadcastable to ``(n_cells, n_heads,
        n_tokens, n_tokens)``; ``None``: every token sees every token.
    dropout
        The chance of each weight.
    """
    if 0 < dropout < 1 and query.shape[2] >= _LEAST_TOKENS and _has_kernel(query):
        n_seen = _n_seen(query, attn_mask)
        if n_seen is not None:
            mixed: torch.Tensor = _Attend.apply(query, key, value, n_seen, dropout)
            return mixed
    return F.scaled_dot_product_attention(query, key, value, attn_mask=attn_mask, dropout_p=dropout)


def _has_kernel(x: torch.Tensor) -> bool:
    return x.device.type == "cpu" and x.dtype == torch.float32 and not torch.compiler.is_compiling()


def _n_seen(query: torch.Tensor, attn_mask: torch.Tensor | None) -> NDArray[np.int64] | None:
    """Return how many tokens are seen in each cell; ``None`` if these are not the first ones."""
    n_cells, _, n_tokens, _ = query.shape
    if attn_mask is None:
        return np.full(n_cells, n_tokens)
    if attn_mask.shape != (n_cells, 1, 1, n_tokens):
        return None
    seen = attn_mask[:, 0, 0].numpy()
    n_seen: NDArray[np.int64] = seen.sum(axis=1)
    are_first = np.array_equal(seen, np.arange(n_tokens) < n_seen[:, None])
    return n_seen if are_first and n_seen.all() else None


class _Chance:
    """What the loops want to know of a chance."""

    def __init__(self, p: float) -> None:
        self.least = np.uint32(round(p * 2**32))
        self.scale = np.float32(1 / (1 - p))


def _draw_keys(*shape: int) -> NDArray[np.uint32]:
    """Draw the keys of rows from PyTorch's random state, which checkpoints keep."""
    drawn = torch.empty(shape, dtype=torch.int64).random_(2**32)
    return drawn.numpy().astype(np.uint32)


class _Drop(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, p: float) -> torch.Tensor:
        ctx.chance = _Chance(p)
        ctx.keys = _draw_keys(x.numel() // x.shape[-1])
        return _drop(x, ctx.keys, ctx.chance)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor, None]:
        return _drop(grad, ctx.keys, ctx.chance), None


def _drop(x: torch.Tensor, keys: NDArray[np.uint32], chance: _Chance) -> torch.Tensor:
    """Drop numbers of x, a row of the last dimension for each key."""
    rows = x.detach().reshape(len(keys), -1).contiguous().numpy()
    out = torch.empty(x.shape)
    written = out.view(rows.shape).numpy()
    columns = column_codes(rows.shape[1])

    def work(start: int, end: int) -> None:
        some = slice(start, end)
        drop(rows[some], written[some], keys[some], columns, chance.least, chance.scale)

    in_parts(work, len(keys))
    return out


class _Attend(torch.autograd.Function):
    """Attention, by cell and head, some rows of weights at a time: these are never kept."""

    @staticmethod
    def forward(
        ctx: Any,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        n_seen: NDArray[np.int64],
        p: float,
    ) -> torch.Tensor:
        n_cells, n_heads, n_tokens, d = query.shape
        chance, unit = _Chance(p), np.float32(d**-0.5)
        keys = _draw_keys(n_cells, n_heads, n_tokens)
        lse = np.empty(keys.shape, np.float32)
        # By tokens first, as the layer that follows takes it.
        out = query.new_empty(n_cells, n_tokens, n_heads, d).transpose(1, 2)

        def work(start: int, end: int) -> None:
            (memory,) = _memory(n_tokens, 1)
            for number in range(start, end):
                one = cell, head = divmod(number, n_heads)
                n = int(n_seen[cell])
                k, v, columns = key[one][:n], value[one][:n], column_codes(n)
                for rows in _blocks(n_tokens, n):
                    weights = _matrix(memory, rows, n)
                    torch.mm(query[one][rows], k.T, out=weights)
                    found = weights.numpy()
                    softmax_and_drop(
                        found,
                        found.view(np.int32),
                        lse[one][rows],
                        unit,
                        keys[one][rows],
                        columns,
                        chance.least,
                        chance.scale,
                    )
                    out[one][rows] = weights @ v

        in_parts(work, n_cells * n_heads)
        ctx.save_for_backward(query, key, value, out)
        ctx.n_seen, ctx.chance, ctx.unit, ctx.keys, ctx.lse = n_seen, chance, unit, keys, lse
        return out

    @staticmethod
    @once_differentiable
    def backward(
        ctx: Any, grad: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, None, None]:
        query, key, value, out = ctx.saved_tensors
        n_cells, n_heads, n_tokens, _ = query.shape
        chance, unit, keys, lse = ctx.chance, ctx.unit, ctx.keys, ctx.lse
        of_query, of_key, of_value = (torch.zeros(query.shape) for _ in range(3))

        def work(start: int, end: int) -> None:
            memory = _memory(n_tokens, 2)
            for number in range(start, end):
                one = cell, head = divmod(number, n_heads)
                n = int(ctx.n_seen[cell])
                k, v, columns = key[one][:n], value[one][:n], column_codes(n)
                k_grad, v_grad = of_key[one][:n], of_value[one][:n]
                through = (grad[one] * out[one]).sum(dim=1).numpy()
                for rows in _blocks(n_tokens, n):
                    q, g = query[one][rows], grad[one][rows]
                    weights, grads = (_matrix(some, rows, n) for some in memory)
                    torch.mm(q, k.T, out=weights)
                    torch.mm(g, v.T, out=grads)
                    softmax_gradient(
                        weights.numpy(),
                        grads.numpy(),
                        lse[one][rows],
                        through[rows],
                        unit,
                        keys[one][rows],
                        columns,
                        chance.least,
                        chance.scale,
                    )
                    v_grad.addmm_(weights.T, g)
                    k_grad.addmm_(grads.T, q)
                    torch.mm(grads, k, out=of_query[one][rows])

        in_parts(work, n_cells * n_heads)
        return of_query, of_key, of_value, None, None


def _memory(n_tokens: int, n: int) -> list[torch.Tensor]:
    """Return n pieces of memory for some rows of weights."""
    return [torch.empty(max(_N_WEIGHTS, n_tokens)) for _ in range(n)]


def _matrix(memory: torch.Tensor, rows: slice, n: int) -> torch.Tensor:
    """Return a matrix of so many rows and n columns within a piece of memory."""
    n_rows = rows.stop - rows.start
    return memory[: n_rows * n].view(n_rows, n)


def _blocks(n_tokens: int, n_seen: int) -> list[slice]:
    """Return runs of tokens whose weights are worked on together."""
    step = max(1, _N_WEIGHTS // n_seen)
    return [slice(row, min(row + step, n_tokens)) for row in range(0, n_tokens, step)]
