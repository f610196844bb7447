from __future__ import annotations

from ._alignment import AlignedEmbeddings, EmbeddingCoverage
from ._check import GeneCheck, check, read_gene_names
from ._embed_proteins import embed_proteins
from ._gene_map import GeneMap
from ._harmonize import ensembl_to_symbol, harmonize, symbol_to_ensembl
from ._identifiers import identify, strip_version
from ._match import GeneMatch, match
from ._protein_embeddings import ProteinEmbeddings
from ._table import table_info

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
    "harmonize",
    "identify",
    "match",
    "read_gene_names",
    "strip_version",
    "symbol_to_ensembl",
    "table_info",
]
