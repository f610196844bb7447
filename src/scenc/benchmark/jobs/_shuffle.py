"""Negative controls: shuffled cells and labels, on which the scores of a model must fall.

Each takes away one thing that scores are believed to rest on, and leaves the rest as it is. Scores
that do not fall rest on something else.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import scipy.sparse as sp

if TYPE_CHECKING:
    import pandas as pd

    from scenc.data.counts import Csr

# Cells whose genes are shuffled at once.
_BLOCK = 256


def shuffle_genes(counts: Csr, seed: int) -> Csr:
    """Return counts that belong to other genes, in each cell to others.

    What a cell keeps are its number of expressed genes, its library size and the values themselves.

    Parameters
    ----------
    counts
        Shape ``(n_cells, n_genes)``.
    seed
        Of the genes that are drawn.
    """
    rng = np.random.default_rng(seed)
    n_cells, n_genes = counts.shape
    indices = np.empty_like(counts.indices)
    for start in range(0, n_cells, _BLOCK):
        end = min(start + _BLOCK, n_cells)
        others = rng.permuted(np.tile(np.arange(n_genes), (end - start, 1)), axis=1)
        of = slice(counts.indptr[start], counts.indptr[end])
        indices[of] = others[_rows(counts, start, end), counts.indices[of]]
    shuffled = sp.csr_matrix((counts.data, indices, counts.indptr), counts.shape, copy=True)
    shuffled.sort_indices()
    return shuffled


def shuffle_expression(counts: Csr, seed: int) -> Csr:
    """Return counts that are dealt out anew among the genes that a cell expresses.

    What a cell keeps are which genes it expresses, its library size and the values themselves.

    Parameters
    ----------
    counts
        Shape ``(n_cells, n_genes)``.
    seed
        Of the order that they are dealt out in.
    """
    keys = np.random.default_rng(seed).random(counts.nnz)
    order = np.lexsort((keys, _rows(counts, 0, counts.shape[0])))
    parts = (counts.data[order], counts.indices, counts.indptr)
    return sp.csr_matrix(parts, counts.shape, copy=True)


def permute_labels(labels: pd.Series, seed: int) -> pd.Series:
    """Return the labels in random order: how many cells have each stays as it is."""
    order = np.random.default_rng(seed).permutation(len(labels))
    return labels.iloc[order].set_axis(labels.index)


def _rows(counts: Csr, start: int, end: int) -> np.ndarray:
    """Return the row of each value of some rows, from 0."""
    return np.repeat(np.arange(end - start), np.diff(counts.indptr[start : end + 1]))
