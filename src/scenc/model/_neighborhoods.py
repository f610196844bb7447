"""Which cells are alike before training: anchors, and the neighbours that views are drawn from."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from sklearn.neighbors import NearestNeighbors

from scenc.data import Neighborhoods
from scenc.data.counts import pool_small_batches

if TYPE_CHECKING:
    from numpy.typing import NDArray

# Of more cells so many are landmarks: batches are put together on them, and neighbours are among
# them, so that the work grows with the number of cells and not with its square.
_N_LANDMARKS = 20_000
# Cells of a sample that each batch has, if it has so many.
_LEAST_OF_BATCH = 100
# Landmarks of its batch whose mean correction a cell gets.
_N_CORRECTING = 5
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
    Neighbours are nearest by cosine, since the contrast compares directions. A neighbour is
    drawn such that each batch among a cell's neighbours has the same chance: otherwise most would
    come from the cell's own batch, and the network would learn little across batches.

    Of more than 20,000 cells so many are landmarks, drawn at random and at least 100 of each batch:
    Harmony corrects them, other cells move as the landmarks of their batch beside them do, and
    neighbours are landmarks.

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
        Seed of Harmony and of the landmarks.
    shown
        Rows that may be neighbours; ``None``: all. Test cells must not be seen in training, not as
        neighbours either.

    References
    ----------
    Korsunsky et al. (2019), Fast, sensitive and accurate integration of single-cell data with
    Harmony.
    """
    batches = pool_small_batches(batches)
    rows = np.arange(len(components)) if shown is None else shown
    landmarks = sample_batches(rows, batches, _N_LANDMARKS, seed)
    places = components
    if len(np.unique(batches)) > 1:
        places = _corrected(components, batches, landmarks, seed)
    length = np.linalg.norm(places, axis=1, keepdims=True)
    directions = np.divide(places, length, out=np.zeros_like(places), where=length > 0)
    neighbors = np.zeros((len(places), min(n_neighbors, len(landmarks) - 1)), np.int64)
    neighbors[rows] = _nearest(directions, rows, landmarks, neighbors.shape[1])
    odds = np.empty(neighbors.shape)
    for start in range(0, len(neighbors), _CHUNK):
        some = slice(start, start + _CHUNK)
        odds[some] = _balanced_odds(batches[neighbors[some]])
    return Neighborhoods(places, neighbors, odds, batches)


def sample_batches(
    rows: NDArray[np.int64], batches: NDArray[np.int64], n_rows: int, seed: int
) -> NDArray[np.int64]:
    """Return about so many of some rows, ascending: all, or of each batch in proportion.

    Of each batch there are at least 100, if it has so many.
    """
    if len(rows) <= n_rows:
        return rows
    shuffled = np.random.default_rng(seed).permutation(rows)
    order = shuffled[np.argsort(batches[shuffled], kind="stable")]
    sizes = np.unique(batches[order], return_counts=True)[1]
    least = np.minimum(sizes, _LEAST_OF_BATCH)
    wanted = np.maximum(least, sizes * n_rows // len(rows))
    starts = np.cumsum(sizes) - sizes
    place_in_batch = np.arange(len(order)) - np.repeat(starts, sizes)
    return np.sort(order[place_in_batch < np.repeat(wanted, sizes)])


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


def _corrected(
    components: NDArray[np.float32],
    batches: NDArray[np.int64],
    landmarks: NDArray[np.int64],
    seed: int,
) -> NDArray[np.float32]:
    """Correct landmarks by Harmony, and other cells as the nearest landmarks of their batch."""
    if len(landmarks) == len(components):
        return _harmonise(components, batches, seed)
    moved = _harmonise(components[landmarks], batches[landmarks], seed) - components[landmarks]
    corrected = components.copy()
    corrected[landmarks] += moved
    is_landmark = np.zeros(len(components), dtype=bool)
    is_landmark[landmarks] = True
    for batch in np.unique(batches[~is_landmark]):
        others = np.flatnonzero((batches == batch) & ~is_landmark)
        own = np.flatnonzero(batches[landmarks] == batch)
        if not len(own):  # none of its cells may be shown
            own = np.arange(len(landmarks))
        search = NearestNeighbors(n_neighbors=min(_N_CORRECTING, len(own)), algorithm="brute")
        search.fit(components[landmarks[own]])
        found = search.kneighbors(components[others], return_distance=False)
        corrected[others] += moved[own[found]].mean(axis=1)
    return corrected


def _nearest(
    points: NDArray[np.float32], rows: NDArray[np.int64], among: NDArray[np.int64], k: int
) -> NDArray[np.int64]:
    """Return the k of some points nearest to each row, itself left out, ``(n_rows, k)``."""
    search = NearestNeighbors(n_neighbors=k + 1, algorithm="brute").fit(points[among])
    nearest = np.empty((len(rows), k), np.int64)
    for start in range(0, len(rows), _CHUNK):
        some = rows[start : start + _CHUNK]
        found = among[search.kneighbors(points[some], return_distance=False)]
        # The point itself goes last, and is cut off; of a point that is not there the last one.
        order = np.argsort(found == some[:, None], axis=1, kind="stable")[:, :k]
        nearest[start : start + len(some)] = np.take_along_axis(found, order, axis=1)
    return nearest


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
