"""How much memory training takes, and the batch that fits into a GPU."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from scenc.nn import CellTransformer, ModelConfig
    from scenc.train import TrainConfig

logger = logging.getLogger(__name__)

# Bytes of a weight: itself, its gradient and AdamW's two means.
_PER_WEIGHT = 16
# Share of a GPU's memory that is planned with; the rest is for what is not kept from forward to
# backward, for CUDA itself and for gaps.
_SHARE = 0.8


def training_bytes(
    network: CellTransformer, config: TrainConfig, n_genes: int, *, mixed: bool, batch_size: int
) -> int:
    """Estimate the memory that training takes at its fullest, when backward begins.

    Counted is what autograd keeps of each block for cells whose context is full, and the weights
    with their gradients and AdamW's state.

    Parameters
    ----------
    network
        The network.
    config
        Settings of the training.
    n_genes
        Size of the vocabulary.
    mixed
        Whether most is computed in 16 bits.
    batch_size
        Cells of a batch.
    """
    n_weights = sum(weight.numel() for weight in network.parameters() if weight.requires_grad)
    n_fixed = sum(buffer.numel() * buffer.element_size() for buffer in network.buffers())
    model = network.config
    per_token = _bytes_per_token(model, mixed) * (1 if config.checkpoint_blocks else model.n_layers)
    if config.checkpoint_blocks:
        # Each block's input, and the inside of the one whose backward runs.
        per_token += 4 * model.d_model * model.n_layers
    # Tokens before the blocks, and what the decoder keeps of them.
    per_token += 4 * 4 * model.d_model
    return (
        n_weights * _PER_WEIGHT + n_fixed + batch_size * _tokens(model, config, n_genes) * per_token
    )


def fit_batch(
    network: CellTransformer,
    config: TrainConfig,
    n_genes: int,
    *,
    mixed: bool,
    memory: int,
    may_cut: bool,
) -> TrainConfig:
    """Return the settings with the largest batches that fit, and as many cells in each step.

    Batches are cut into equal parts, and as many times more of them are accumulated. Where that is
    not possible the settings stay as they are, with a warning: under objectives with a contrast,
    whose batches' cells are told from each other, and where no part fits.

    Parameters
    ----------
    network, config, n_genes, mixed
        As in `training_bytes`.
    memory
        Bytes of memory of the GPU.
    may_cut
        Whether batches may be cut; a user who names their size has the last word.
    """

    def needed(size: int) -> int:
        return training_bytes(network, config, n_genes, mixed=mixed, batch_size=size)

    whole, room = config.batch_size, _SHARE * memory
    if needed(whole) <= room:
        return config
    n_parts = next(
        (n for n in range(2, whole + 1) if whole % n == 0 and needed(whole // n) <= room), None
    )
    if n_parts is None or not may_cut or network.config.objective != "masked":
        logger.warning(
            "Training takes about %.0f GB with batches of %d cells; the GPU has %.0f GB. Smaller "
            "batches (batch_size), fewer genes a cell (context, view_genes) or "
            "checkpoint_blocks=True take less.",
            needed(whole) / 1e9,
            whole,
            memory / 1e9,
        )
        return config
    fitted = replace(
        config,
        batch_size=whole // n_parts,
        accumulate_grad_batches=config.accumulate_grad_batches * n_parts,
    )
    logger.info(
        "Batches of %d cells would take about %.0f GB, and the GPU has %.0f GB: batches of %d are "
        "taken, and %d of them accumulated, which makes %d cells a step as before.",
        whole,
        needed(whole) / 1e9,
        memory / 1e9,
        fitted.batch_size,
        fitted.accumulate_grad_batches,
        fitted.batch_size * fitted.accumulate_grad_batches,
    )
    return fitted


def gpu_memory(accelerator: str, strategy: object) -> int | None:
    """Return the bytes of memory of the smallest CUDA device; ``None`` if none is trained on.

    Not what is free: the batch that is chosen would change from run to run. Strategies that fork
    this process are not looked into: devices that are in use already could not be, afterwards.
    """
    if accelerator not in ("auto", "gpu", "cuda") or not torch.cuda.is_available():
        return None
    if isinstance(strategy, str) and ("fork" in strategy or "notebook" in strategy):
        return None
    devices = range(torch.cuda.device_count())
    return min(torch.cuda.get_device_properties(device).total_memory for device in devices)


def _tokens(model: ModelConfig, config: TrainConfig, n_genes: int) -> int:
    """Return the most tokens that a cell, or a pair of views, has in training."""
    if model.objective != "masked":
        return 2 * min(config.view_genes, n_genes)
    return min(model.context or n_genes, n_genes)


def _bytes_per_token(model: ModelConfig, mixed: bool) -> int:
    """Return what autograd keeps of a token in one block.

    In FP32: the inputs of both norms. In 16 bits under mixed precision: the inputs of the four
    linear layers and of GELU, and queries, keys, values and what attention gives. Dropout keeps a
    byte of each number that it sees.
    """
    d_model, d_feedforward = model.d_model, model.d_feedforward
    short = 2 if mixed else 4
    norms = 2 * 4 * d_model
    # Inputs of the projection and of the feed-forward layer; queries, keys and values; what
    # attention gives, which is the input of the layer after it.
    attention = short * (d_model + d_model + 3 * d_model + d_model)
    feedforward = short * 2 * d_feedforward
    dropout = (2 * d_model + d_feedforward) if model.dropout else 0
    return norms + attention + feedforward + dropout
