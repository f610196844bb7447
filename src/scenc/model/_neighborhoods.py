"""Which cells are alike before training: the contrastive objective's anchors and neighbours."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from scenc._threads import kept_threads
from scenc.data import Neighborhoods
from scenc.data.counts import pool_small_batches

if TYPE_CHECKING:
    from numpy.typing import NDArray

# Beyond so many cells, comparing all pairs takes longer than an approximate search.
_MOST_EXACT = 20_000
# Cells whose neighbours are weighed at a time: on the way each neighbour takes ten numbers.
_CHUNK = 2**15


def find_neighborhoods(
    components: NDArray[np.float32],
    batches: NDArray[np.int64],
    n_neighbors: int,
    seed: int,
    shown: NDArray[np.int64] | None = None,
) -> Neighborhoods:
    """Find each cell's anchor and its neighbours across batches.

    Anchors are principal components, corrected by Harmony where there are several batches.
    Neighbours are nearest by cosine, since the contrastive loss compares directions. A neighbour is
    drawn such that each batch among a cell's neighbours has the same chance: otherwise most would
    come from the cell's own batch, and the network would learn little across batches.

    Parameters
    ----------
    components
        Principal components, shape ``(n_cells, n_components)``.
    batches
        Experimental batch of each cell, as a number, shape ``(n_cells,)``. Those of few cells are
        taken together.
    n_neighbors
        Neighbours of each cell; fewer if there are fewer cells.
    seed
        Seed of Harmony and of an approximate search.
    shown
        Rows that may be neighbours; ``None``: all. Test cells must not be seen in training, not as
        neighbours either.

    References
    ----------
    Korsunsky et al. (2019), Fast, sensitive and accurate integration of single-cell data with
    Harmony.
    """
    places, batches = components, pool_small_batches(batches)
    if len(np.unique(batches)) > 1:
        places = _harmonise(components, batches, seed)
    length = np.linalg.norm(places, axis=1, keepdims=True)
    directions = np.divide(places, length, out=np.zeros_like(places), where=length > 0)
    rows = np.arange(len(places)) if shown is None else shown
    neighbors = np.zeros((len(places), min(n_neighbors, len(rows) - 1)), np.int64)
    neighbors[rows] = rows[_nearest(directions[rows], neighbors.shape[1], seed)]
    odds = np.empty(neighbors.shape)
    for start in range(0, len(neighbors), _CHUNK):
        some = slice(start, start + _CHUNK)
        odds[some] = _balanced_odds(batches[neighbors[some]])
    return Neighborhoods(places, neighbors, odds, batches)


def _harmonise(
    components: NDArray[np.float32], batches: NDArray[np.int64], seed: int
) -> NDArray[np.float32]:
    import harmonypy

    numbers, codes = np.unique(batches, return_inverse=True)
    names = pd.Index(numbers.astype(str))
    frame = pd.DataFrame({"batch": pd.Categorical.from_codes(codes, names)})
    result = harmonypy.run_harmony(
        components.astype(np.float64), frame, "batch", random_state=seed, verbose=False, ncores=1
    )
    corrected: NDArray[np.float32] = np.asarray(result.Z_corr, dtype=np.float32)
    return corrected


def _nearest(points: NDArray[np.float32], k: int, seed: int) -> NDArray[np.int64]:
    """Return each point's k nearest others, shape ``(n_points, k)``."""
    if len(points) <= _MOST_EXACT:
        from sklearn.neighbors import NearestNeighbors

        # Without an argument, kneighbors leaves each point out of its neighbours.
        search = NearestNeighbors(n_neighbors=k, algorithm="brute").fit(points)
        exact: NDArray[np.int64] = search.kneighbors(return_distance=False).astype(np.int64)
        return exact
    from pynndescent import NNDescent

    with kept_threads():
        found, _ = NNDescent(points, n_neighbors=k + 1, random_state=seed).neighbor_graph
    # A point is its own nearest neighbour and stands first (or a duplicate of it does).
    others: NDArray[np.int64] = found[:, 1:].astype(np.int64)
    return others


def _balanced_odds(batches: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return cumulative probabilities of neighbours that give each batch in a row the same chance.

    Parameters
    ----------
    batches
        Experimental batch of each cell's neighbours, shape ``(n_cells, n_neighbors)``.

    Returns
    -------
    Of the same shape, ascending to 1 in each row: a uniform number is looked up in it.
    """
    # Sorted by batch, the neighbours of one batch are a run; each weighs one over the run's length.
    n_cells, k = batches.shape
    order = np.argsort(batches, axis=1, kind="stable")
    ranked = np.take_along_axis(batches, order, axis=1)
    starts = np.ones((n_cells, k), dtype=bool)
    starts[:, 1:] = ranked[:, 1:] != ranked[:, :-1]
    run = np.cumsum(starts.ravel()) - 1
    size = np.bincount(run)[run].reshape(n_cells, k)
    weights = np.empty((n_cells, k))
    np.put_along_axis(weights, order, 1.0 / size, axis=1)
    odds = np.cumsum(weights, axis=1)
    return odds / odds[:, -1:]
