"""Expression encoders: a value to a vector (eq. 13-19).

A vector depends on a gene's count and its cell alone, not on the gene. A cell has few distinct
counts, so an encoder sees each of them once, and tokens look their vector up:

    counts         1    2    7   |   1    4          distinct counts of two cells
    reads         x~   x~   x~   |  x~   x~          or counts, quantile bins, ...
    encode         v0   v1   v2  |   v3   v4         one vector each
    value_index    0 1 1 0 2 0   |   3 4 3           of each token
    tokens         v0 v1 v1 ...  |   v3 v4 v3        + the vector of the gene, or m if masked

Equal counts of two cells stay apart: their x~ and their bins differ.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import nn

from scenc.nn.expression._base import ExpressionEncoder
from scenc.nn.expression._hard import HardBinEncoder, uniform_edges
from scenc.nn.expression._log import LogBinEncoder
from scenc.nn.expression._raw import RawEncoder
from scenc.nn.expression._soft import SoftBinEncoder

if TYPE_CHECKING:
    import torch

    from scenc.nn._config import ModelConfig
    from scenc.nn.expression._base import ValueKind

__all__ = [
    "ExpressionEncoder",
    "HardBinEncoder",
    "LogBinEncoder",
    "RawEncoder",
    "SoftBinEncoder",
    "build_expression_encoder",
    "uniform_edges",
]

# What `ModelConfig.expression_input` is called in a batch.
_READS: dict[str, ValueKind] = {
    "normalized": "normalized",
    "quantile_bins": "quantile_bins",
    "log_share": "log_shares",
}


def build_expression_encoder(
    config: ModelConfig, edges: torch.Tensor | None = None
) -> ExpressionEncoder:
    """Build the expression encoder a configuration asks for.

    Parameters
    ----------
    config
        The model's configuration.
    edges
        Inner bin edges for ``hard_edges="global"``, shape ``(n_bins - 1,)``.
    """
    encoder = _encoder(config, edges)
    if config.encoder_norm:
        encoder.norm = nn.LayerNorm(config.d_model)
    return encoder


def _encoder(config: ModelConfig, edges: torch.Tensor | None) -> ExpressionEncoder:
    d_model, n_bins, std = config.d_model, config.n_expression_bins, config.init_std
    if config.expression_encoder == "raw":
        reads = _READS[config.expression_input]
        return RawEncoder(d_model, config.expression_hidden, config.activation, reads)
    if config.expression_encoder == "log":
        return LogBinEncoder(d_model, config.max_log_bin, config.log_input, std)
    if config.expression_encoder == "soft":
        return SoftBinEncoder(
            d_model,
            n_bins,
            config.expression_hidden,
            config.soft_bias,
            std,
            slope=config.soft_slope,
            residual=config.soft_residual,
            reads=_READS[config.expression_input],
        )
    if config.hard_edges == "uniform":
        edges = uniform_edges(n_bins, config.target_sum)
    return HardBinEncoder(d_model, n_bins, edges, std)
