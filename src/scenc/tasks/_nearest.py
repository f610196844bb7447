"""The nearest cells of a reference, and how far cells of a reference are from its others."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

import numpy as np

from scenc._threads import kept_threads

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

# Numbers of pairs up to which all are compared: up to about ten seconds of one core.
_MOST_PAIRS = 400_000_000
# Cells of the reference whose own neighbours are looked at; percentiles need no more.
MOST_SAMPLED = 10_000
# Parts of a reference that are left out in turn.
N_FOLDS = 5


def nearest(
    reference: NDArray[np.float32],
    query: NDArray[np.float32],
    n_neighbors: int,
    seed: int = 0,
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Find each query cell's nearest cells of the reference.

    All pairs are compared where these are few; else pynndescent searches, which finds nearly all.

    Parameters
    ----------
    reference, query
        Embeddings, shapes ``(n_reference, n_dims)`` and ``(n_query, n_dims)``.
    n_neighbors
        How many to find; all cells of a smaller reference.
    seed
        Of pynndescent.

    Returns
    -------
    Rows of the reference and Euclidean distances, ascending, shape ``(n_query, n_neighbors)``.
    """
    k = min(n_neighbors, len(reference))
    if len(reference) * len(query) <= _MOST_PAIRS:
        from sklearn.neighbors import NearestNeighbors

        search = NearestNeighbors(n_neighbors=k, algorithm="brute").fit(reference)
        distances, rows = search.kneighbors(query)
    else:
        rows, distances = _descend(reference, query, k, seed)
    return rows.astype(np.int64), distances.astype(np.float32)


def _descend(
    reference: NDArray[np.float32], query: NDArray[np.float32], k: int, seed: int
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    import torch
    from pynndescent import NNDescent

    with kept_threads(), warnings.catch_warnings():
        # Of cells that are alike; those found are near enough.
        warnings.filterwarnings("ignore", "Failed to correctly find n_neighbors", UserWarning)
        index = NNDescent(
            np.ascontiguousarray(reference),
            n_neighbors=max(k, 15),
            random_state=seed,
            n_jobs=torch.get_num_threads(),
        )
        rows, distances = index.query(np.ascontiguousarray(query), k=k)
    return rows, distances


def neighbor_weights(distances: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return weights of neighbours, which fall with the distance and add up to 1 for each cell."""
    mean = distances.mean(axis=1, keepdims=True)
    ratio = np.divide(distances, mean, out=np.zeros_like(distances), where=mean > 0)
    weights = np.exp(-(ratio.astype(np.float64) ** 2))
    return np.asarray(weights / weights.sum(axis=1, keepdims=True))


def make_folds(
    groups: NDArray[np.int64], batches: NDArray[np.int64] | None, seed: int
) -> NDArray[np.int64]:
    """Part cells: whole batches where there are several, else each group of cells alike.

    Parameters
    ----------
    groups
        Group of each cell, such as its type, as a number, shape ``(n_cells,)``.
    batches
        Batch of each cell, as a number; ``None``: not known.
    seed
        Of the order of cells and of batches of one size.

    Returns
    -------
    Part of each cell, from 0 to at most ``N_FOLDS - 1``, shape ``(n_cells,)``.
    """
    rng = np.random.default_rng(seed)
    names, batch = (None, None) if batches is None else np.unique(batches, return_inverse=True)
    if names is None or batch is None or len(names) < 2:
        order = rng.permutation(len(groups))
        order = order[np.argsort(groups[order], kind="stable")]
        folds = np.empty(len(groups), np.int64)
        folds[order] = np.arange(len(groups)) % N_FOLDS
        return folds
    # The largest batch first, each to the smallest part.
    sizes = np.bincount(batch)
    shuffled = rng.permutation(len(sizes))
    fold_of, filled = np.empty(len(sizes), np.int64), np.zeros(min(N_FOLDS, len(sizes)), np.int64)
    for one in shuffled[np.argsort(-sizes[shuffled], kind="stable")]:
        fold_of[one] = np.argmin(filled)
        filled[fold_of[one]] += sizes[one]
    return np.asarray(fold_of[batch])


def held_out(
    folds: NDArray[np.int64], seed: int
) -> Iterable[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Yield, for each part, the rows of the other parts and a sample of its own rows.

    At most `MOST_SAMPLED` rows are sampled, of all parts together.
    """
    n_cells = len(folds)
    rng = np.random.default_rng(seed)
    sampled = np.zeros(n_cells, bool)
    sampled[rng.permutation(n_cells)[:MOST_SAMPLED]] = True
    for fold in range(int(folds.max()) + 1):
        yield np.flatnonzero(folds != fold), np.flatnonzero((folds == fold) & sampled)


def nearest_held_out(
    embedding: NDArray[np.float32],
    rows: NDArray[np.int64],
    others: NDArray[np.int64] | None,
    n_neighbors: int,
    seed: int = 0,
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Find the nearest cells of some rows of an embedding among its other rows.

    Parameters
    ----------
    embedding
        Shape ``(n_cells, n_dims)``.
    rows
        The cells whose neighbours are looked for.
    others
        Rows to look among; ``None``: all but the cell itself.
    n_neighbors, seed
        As in `nearest`.

    Returns
    -------
    Rows of the embedding and distances, as of `nearest`.
    """
    if others is not None:
        found, distances = nearest(embedding[others], embedding[rows], n_neighbors, seed)
        return others[found], distances
    found, distances = nearest(embedding, embedding[rows], n_neighbors + 1, seed)
    # The cell itself goes last; where as many others lie in the same place, one of these does.
    is_self = found == rows[:, None]
    is_self[~is_self.any(axis=1), -1] = True
    order = np.argsort(is_self, axis=1, kind="stable")[:, :-1]
    return np.take_along_axis(found, order, 1), np.take_along_axis(distances, order, 1)


def percentile(values: NDArray[np.floating], among: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the percentage of sorted values that are no larger than each of some others."""
    below = np.searchsorted(among, values, side="right")
    return np.asarray(100 * below / len(among), dtype=np.float32)


def mean_distances(
    reference: NDArray[np.float32],
    folds: NDArray[np.int64],
    by_batch: bool,
    n_neighbors: int,
    seed: int,
) -> NDArray[np.float32]:
    """Return how far cells are from their nearest ones, sorted.

    Parameters
    ----------
    reference
        Shape ``(n_cells, n_dims)``.
    folds
        Part of each cell, as of `make_folds`.
    by_batch
        Whether neighbours are looked for in the other parts, or among all other cells.
    n_neighbors
        Neighbours that a cell's distance is the mean over.
    seed
        Of the sample of cells.

    Returns
    -------
    One distance for each of at most `MOST_SAMPLED` cells, ascending.
    """
    found = [
        nearest_held_out(reference, rows, others if by_batch else None, n_neighbors, seed)[1]
        for others, rows in held_out(folds, seed)
        if len(rows)
    ]
    return np.sort(np.concatenate(found).mean(axis=1))
