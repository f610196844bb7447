from __future__ import annotations

import logging
from dataclasses import dataclass
from os import PathLike
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch

from scenc.genes import ProteinEmbeddings

if TYPE_CHECKING:
    from numpy.typing import NDArray

    type Vectors = (
        ProteinEmbeddings | pd.DataFrame | NDArray[np.floating[Any]] | str | PathLike[str]
    )


logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class GeneVectors:
    """Pretrained vectors of genes, ``(n_genes, dim)``, and which genes have one, ``(n_genes,)``.

    Genes without a vector have one of zeros.
    """

    vectors: torch.Tensor
    present: NDArray[np.bool_]

    def select(self, kept: NDArray[np.bool_]) -> GeneVectors:
        """Return the vectors of some of the genes."""
        return GeneVectors(self.vectors[kept], self.present[kept])


def align_vectors(embeddings: Vectors, genes: pd.Index[str]) -> GeneVectors:
    """Line pretrained gene vectors up with genes.

    Parameters
    ----------
    embeddings
        Vectors, a file of them, or a DataFrame with genes as index, all matched by
        `scenc.genes.match`; or an array with one row per gene of `genes`. A row of NaN means that
        the gene has no vector.
    genes
        The genes wanted.

    Raises
    ------
    ValueError
        The shape is wrong, a gene stands twice, or no gene has a vector.
    """
    if isinstance(embeddings, np.ndarray):
        return _align_array(embeddings, genes)
    if isinstance(embeddings, pd.DataFrame):
        known = embeddings[embeddings.notna().all(axis=1)]
        if known.index.is_unique and genes.isin(known.index).all():
            # All names agree to the letter, whatever they are: nothing to look up.
            return _align_array(known.reindex(genes).to_numpy(), genes)
        embeddings = ProteinEmbeddings.from_arrays(
            known.index, known.to_numpy(), source="protein_embeddings"
        )
    elif isinstance(embeddings, str | PathLike):
        embeddings = ProteinEmbeddings.load(str(embeddings))
    aligned = embeddings.align(genes)
    # float16 files stay float16: half the memory, and the MLP casts what it uses.
    matrix = aligned.matrix.astype(embeddings.matrix.dtype)
    logger.info("%s", aligned.coverage)
    return GeneVectors(torch.from_numpy(matrix), aligned.has_vector)


def _align_array(matrix: NDArray[np.floating[Any]], genes: pd.Index[str]) -> GeneVectors:
    if matrix.ndim != 2 or len(matrix) != len(genes):
        raise ValueError(
            f"protein_embeddings has shape {matrix.shape}; an array needs one row for each of the "
            f"{len(genes)} genes. Pass a DataFrame with gene names as index to match by name."
        )
    if matrix.dtype != np.float16:
        matrix = matrix.astype(np.float32)
    has_vector = np.isfinite(matrix).all(axis=1)
    if not has_vector.any():
        raise ValueError("No row of protein_embeddings is finite: no gene has a vector.")
    logger.info("%d of %d genes have a pretrained vector", has_vector.sum(), len(genes))
    vectors = torch.from_numpy(np.where(has_vector[:, None], matrix, 0))
    return GeneVectors(vectors, has_vector)
