from __future__ import annotations

from scenc.genes._alignment import AlignedEmbeddings, EmbeddingCoverage
from scenc.genes._check import GeneCheck, check, read_gene_names
from scenc.genes._embed_proteins import embed_proteins
from scenc.genes._features import flag_genes
from scenc.genes._gene_map import GeneMap
from scenc.genes._gene_table import table_info
from scenc.genes._harmonize import ensembl_to_symbol, harmonize, symbol_to_ensembl
from scenc.genes._identifiers import identify, strip_version
from scenc.genes._match import GeneMatch, match
from scenc.genes._protein_embeddings import ProteinEmbeddings

__all__ = [
    "AlignedEmbeddings",
    "EmbeddingCoverage",
    "GeneCheck",
    "GeneMap",
    "GeneMatch",
    "ProteinEmbeddings",
    "check",
    "embed_proteins",
    "ensembl_to_symbol",
    "flag_genes",
    "harmonize",
    "identify",
    "match",
    "read_gene_names",
    "strip_version",
    "symbol_to_ensembl",
    "table_info",
]
