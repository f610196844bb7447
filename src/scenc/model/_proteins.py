from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch

if TYPE_CHECKING:
    from numpy.typing import NDArray


def align_vectors(embeddings: Any, genes: pd.Index[str]) -> tuple[torch.Tensor, NDArray[np.bool_]]:
    """Line pretrained gene vectors up with genes.

    Parameters
    ----------
    embeddings
        A DataFrame with genes as index, or an array with one row per gene of `genes`; a row of
        NaN means that the gene has no vector.
    genes
        The genes wanted.

    Returns
    -------
    Vectors, ``(n_genes, dim)``, zero where there is none, and which genes have one.

    Raises
    ------
    ValueError
        The shape is wrong, a gene stands twice, or no gene has a vector.
    """
    if isinstance(embeddings, pd.DataFrame):
        if embeddings.index.has_duplicates:
            double = embeddings.index[embeddings.index.duplicated()][0]
            raise ValueError(f"protein_embeddings names gene {double!r} more than once.")
        embeddings = embeddings.reindex(genes).to_numpy()
    matrix = np.asarray(embeddings)
    if matrix.ndim != 2 or len(matrix) != len(genes):
        raise ValueError(
            f"protein_embeddings has shape {matrix.shape}; an array needs one row for each of the "
            f"{len(genes)} genes. Pass a DataFrame with gene names as index to match by name."
        )
    if not np.issubdtype(matrix.dtype, np.floating):
        matrix = matrix.astype(np.float32)
    if matrix.dtype != np.float16:
        matrix = matrix.astype(np.float32, copy=False)
    has_vector = np.isfinite(matrix).all(axis=1)
    if not has_vector.any():
        raise ValueError(
            "None of the genes has a vector in protein_embeddings; do the identifiers agree "
            f"(here: {', '.join(map(str, genes[:3]))})?"
        )
    return torch.from_numpy(np.where(has_vector[:, None], matrix, 0)), has_vector
