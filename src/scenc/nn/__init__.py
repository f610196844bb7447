"""The network and its parts, each usable alone."""

from scenc.nn._config import ExpressionEncoderName, GeneEncoderName, ModelConfig
from scenc.nn._counts import Bottleneck, CountDecoder, Decoded, count_loss, kl_divergence
from scenc.nn._depth import DepthToken
from scenc.nn._network import CellTransformer
from scenc.nn._transformer import SelfAttention, Transformer, TransformerBlock
from scenc.nn.expression import (
    ExpressionEncoder,
    HardBinEncoder,
    LogBinEncoder,
    RawEncoder,
    SoftBinEncoder,
)
from scenc.nn.genes import GeneEncoder, LearnedGeneEncoder, ProteinGeneEncoder

__all__ = [
    "Bottleneck",
    "CellTransformer",
    "CountDecoder",
    "Decoded",
    "DepthToken",
    "ExpressionEncoder",
    "ExpressionEncoderName",
    "GeneEncoder",
    "GeneEncoderName",
    "HardBinEncoder",
    "LearnedGeneEncoder",
    "LogBinEncoder",
    "ModelConfig",
    "ProteinGeneEncoder",
    "RawEncoder",
    "SelfAttention",
    "SoftBinEncoder",
    "Transformer",
    "TransformerBlock",
    "count_loss",
    "kl_divergence",
]
