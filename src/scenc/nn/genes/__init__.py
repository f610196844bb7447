"""Gene encoders: a gene to a vector (eq. 11-12)."""

from scenc.nn.genes._base import GeneEncoder
from scenc.nn.genes._learned import LearnedGeneEncoder
from scenc.nn.genes._protein import ProteinGeneEncoder

__all__ = ["GeneEncoder", "LearnedGeneEncoder", "ProteinGeneEncoder"]
