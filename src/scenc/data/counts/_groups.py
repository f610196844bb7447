"""The checks of batches: each cell has one, and most have several cells."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

# Batches of fewer cells say nothing of how batches differ; they are taken together.
LEAST_CELLS = 4
# Mean number of cells per batch below which the batches must be something else.
_LEAST_MEAN = 2.0


def describe_missing(
    groups: pd.Categorical, key: str, used: NDArray[np.bool_], what: str = "batch"
) -> str | None:
    """Return how many of the cells that are used have no batch, or None if all have one."""
    n_missing = int((used & (groups.codes < 0)).sum())
    if not n_missing:
        return None
    return (
        f"{n_missing:,} of {int(used.sum()):,} cells have no {what}: their value in "
        f"obs[{key!r}] is missing. Fill it in "
        f"(adata.obs[{key!r}].astype(object).fillna('unknown')), or leave these cells out"
    )


def describe_continuous(groups: pd.Categorical, key: str) -> str | None:
    """Return that a covariate has about as many values as there are cells, or None if it has not.

    Such a covariate tells the decoder which cell it decodes, so that the embedding need not.
    """
    n_values = len(groups.categories)
    if len(groups) < LEAST_CELLS or len(groups) >= _LEAST_MEAN * n_values:
        return None
    return (
        f"obs[{key!r}] has {n_values:,} values for {len(groups):,} cells: a categorical covariate "
        "names groups of cells, such as donors. Cut numbers into a few groups "
        f"(pandas.cut(adata.obs[{key!r}], 4)), or leave the covariate out."
    )


def describe_small_batches(groups: pd.Categorical, key: str) -> str | None:
    """Return how many batches have too few cells to learn from, or None if none has."""
    sizes = np.bincount(groups.codes[groups.codes >= 0], minlength=len(groups.categories))
    sizes = sizes[sizes > 0]
    n_small = int((sizes < LEAST_CELLS).sum())
    if not n_small:
        return None
    if sizes.mean() < _LEAST_MEAN:
        return (
            f"obs[{key!r}] names {len(sizes):,} batches for {int(sizes.sum()):,} cells: it looks "
            "like cells' barcodes, not batches. Name the column of samples or donors as batch_key, "
            "or none."
        )
    return (
        f"{n_small:,} of {len(sizes):,} batches in obs[{key!r}] have fewer than {LEAST_CELLS} "
        "cells; they are taken together where genes and neighbours are looked for."
    )


def pool_small_batches(batches: NDArray[np.int64]) -> NDArray[np.int64]:
    """Take batches of few cells together, as one.

    Parameters
    ----------
    batches
        Batch of each cell, as a number, shape ``(n_cells,)``.

    Returns
    -------
    The same, where all batches of fewer than `LEAST_CELLS` cells have one number; that of the
    largest batch, if they have too few cells together.
    """
    numbers, positions, sizes = np.unique(batches, return_inverse=True, return_counts=True)
    small = sizes < LEAST_CELLS
    if not small.any():
        return batches
    pooled = numbers.copy()
    enough = sizes[small].sum() >= LEAST_CELLS
    pooled[small] = numbers[small][0] if enough else numbers[np.argmax(sizes)]
    return pooled[positions]
