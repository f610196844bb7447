"""Attention within cells whose tokens follow each other without padding."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch.nn import functional as F

from scenc.nn._dropout import attention

if TYPE_CHECKING:
    from scenc.data import Packing

# What the kernels take: widths of heads that are multiples of it.
_STEP = 8
# The widest head that the flash kernel takes, and the oldest generation of GPUs that has it.
_WIDEST, _GENERATION = 256, (8, 0)


def packed_attention(heads: torch.Tensor, packing: Packing, dropout: float) -> torch.Tensor:
    """Return softmax(query key^T / sqrt(d)) value within each cell, with dropout of the softmax.

    On CUDA these are the kernels under PyTorch's own attention, told where cells start: no score
    between two cells, or of padding, is computed. Elsewhere cells are padded.

    Parameters
    ----------
    heads
        Queries, keys and values of packed tokens, shape ``(n_packed, 3, n_heads, d)``.
    packing
        Where each cell starts.
    dropout
        The chance of each weight.

    Returns
    -------
    Shape ``(n_packed, n_heads, d)``.
    """
    if not heads.is_cuda:
        return _attend_padded(heads, packing, dropout)
    d = heads.shape[-1]
    tokens = F.pad(heads, (0, -d % _STEP)).unbind(1)
    where = (packing.starts, packing.starts, packing.longest, packing.longest)
    if _has_flash(heads):
        # Neither causal, nor with a mask to look at.
        found = torch.ops.aten._flash_attention_forward(
            *tokens, *where, dropout, False, False, scale=d**-0.5
        )
    else:
        # No bias, and not causal. The sums of the softmax are for backward.
        one = [part[None] for part in tokens]
        keep_sums = torch.is_grad_enabled() and heads.requires_grad
        found = torch.ops.aten._efficient_attention_forward(
            *one, None, *where, dropout, 0, keep_sums, scale=d**-0.5
        )
    mixed: torch.Tensor = found[0].reshape(len(heads), heads.shape[2], -1)
    return mixed[..., :d]


def _attend_padded(heads: torch.Tensor, packing: Packing, dropout: float) -> torch.Tensor:
    query, key, value = packing.unpack(heads).permute(2, 0, 3, 1, 4)
    seen = torch.arange(packing.width, device=heads.device) < packing.lengths[:, None]
    # Attention to nothing is undefined; nothing is taken from a cell without tokens.
    seen = seen | (packing.lengths == 0)[:, None]
    mixed = attention(query, key, value, seen[:, None, None], dropout)
    return packing.pack(mixed.transpose(1, 2))


def _has_flash(heads: torch.Tensor) -> bool:
    """Say whether the flash kernel takes these, and may be used."""
    short = heads.dtype in (torch.float16, torch.bfloat16) and heads.shape[-1] <= _WIDEST
    return short and _allows_flash(heads.device.index)


# What compiles the blocks need not look inside.
@torch.compiler.assume_constant_result
def _allows_flash(device: int) -> bool:
    return (
        torch.backends.cuda.flash_sdp_enabled()  # type: ignore[no-untyped-call]
        and torch.backends.cuda.is_flash_attention_available()
        and torch.cuda.get_device_capability(device) >= _GENERATION
    )
