"""A query beside its reference: on one map, with a score of how well each cell is at home there."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from scenc._threads import kept_threads
from scenc.tasks._annotation import as_embedding
from scenc.tasks._nearest import make_folds, mean_distances, nearest, neighbor_weights

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

# scanpy's: looser than umap-learn's 0.1.
_MIN_DIST = 0.5


@dataclass(frozen=True, eq=False)
class Mapping:
    """A query placed on the map of a reference.

    Attributes
    ----------
    reference
        Coordinates of the reference, as given or fitted, shape ``(n_reference, 2)``.
    query
        Coordinates of the query, shape ``(n_query, 2)``.
    score
        How well each query cell is at home in the reference, above 0 and up to 1, shape
        ``(n_query,)``.
    placed_by
        ``"neighbors"``: means over the nearest cells of the reference; ``"umap"``: umap-learn's
        transform.

    Examples
    --------
    >>> cells = np.random.default_rng(0).normal(size=(300, 5))
    >>> mapping = scenc.tasks.map_to_reference(
    ...     cells[:200], cells[200:], coordinates=cells[:200, :2]
    ... )
    >>> mapping.query.shape, mapping.score.shape, mapping.placed_by
    ((100, 2), (100,), 'neighbors')
    >>> foreign = mapping.score < 0.05  # cells that the reference has none like
    """

    reference: NDArray[np.float32]
    query: NDArray[np.float32]
    score: NDArray[np.float32]
    placed_by: Literal["neighbors", "umap"]


def map_to_reference(
    reference: ArrayLike,
    query: ArrayLike,
    coordinates: ArrayLike | None = None,
    batches: ArrayLike | None = None,
    *,
    n_neighbors: int = 15,
    seed: int = 0,
) -> Mapping:
    """Place a query on a reference's map, and score how well each of its cells is at home there.

    Where the reference has coordinates they stay, and a query cell goes to the mean of its nearest
    cells' coordinates, weighted by ``exp(-(d / mean d) ** 2)``. Else a UMAP is fitted to the
    reference, and the query is placed by its transform, which moves no cell of the reference.

    The score is the share of the reference's cells that are at least as far from the other batches
    of the reference (from its other cells, where there is one batch) as the query cell is from the
    reference: ``(1 + #{i : d_i >= d}) / (n + 1)``, d being the mean distance to the nearest cells.
    It is a conformal p-value: of cells that are like a held-out batch, a share s has a score of
    at most s.

    Parameters
    ----------
    reference, query
        Embeddings, shapes ``(n_reference, n_dims)`` and ``(n_query, n_dims)``.
    coordinates
        Coordinates of the reference on its map, shape ``(n_reference, 2)``; ``None``: a UMAP is
        fitted.
    batches
        Batch of each cell of the reference.
    n_neighbors
        Number of nearest cells.
    seed
        Of the UMAP, of samples and of the search for neighbours.

    Raises
    ------
    ValueError
        Arrays do not fit together or are not finite; the reference has fewer than three cells.

    References
    ----------
    McInnes, Healy and Melville (2018), UMAP. Laxhammar and Falkman (2014), Online learning and
    sequential anomaly detection in trajectories (conformal anomaly detection).

    Examples
    --------
    >>> import numpy as np
    >>> cells = np.random.default_rng(0).normal(size=(300, 5))
    >>> mapping = map_to_reference(cells[:200], cells[200:], coordinates=cells[:200, :2])
    >>> mapping.query.shape, mapping.placed_by
    ((100, 2), 'neighbors')
    """
    known, new = as_embedding(reference, "the reference"), as_embedding(query, "the query")
    if known.shape[1] != new.shape[1]:
        raise ValueError(
            f"The reference has {known.shape[1]} dimensions and the query {new.shape[1]}: embed "
            "both by the same model."
        )
    if len(known) < 3:
        raise ValueError(f"A reference needs three cells or more, got {len(known)}.")
    if n_neighbors < 1:
        raise ValueError(f"n_neighbors must be at least 1, got {n_neighbors}.")
    rows, distances = nearest(known, new, n_neighbors, seed)
    score = _scores(known, distances, batches, n_neighbors, seed)
    if coordinates is None:
        own, placed = _fit_umap(known, new, n_neighbors, seed)
        return Mapping(own, placed, score, "umap")
    own = as_embedding(coordinates, "the reference's map")
    if own.shape != (len(known), 2):
        raise ValueError(
            f"The reference's map has shape {own.shape}, and should have {(len(known), 2)}."
        )
    weights = neighbor_weights(distances)
    placed = np.einsum("ij,ijk->ik", weights, own[rows]).astype(np.float32)
    return Mapping(own, placed, score, "neighbors")


def _scores(
    reference: NDArray[np.float32],
    distances: NDArray[np.float32],
    batches: ArrayLike | None,
    n_neighbors: int,
    seed: int,
) -> NDArray[np.float32]:
    groups = None if batches is None else np.unique(np.asarray(batches), return_inverse=True)[1]
    folds = make_folds(np.zeros(len(reference), np.int64), groups, seed)
    by_batch = groups is not None and int(groups.max()) > 0
    own = mean_distances(reference, folds, by_batch, n_neighbors, seed)
    closer = np.searchsorted(own, distances.mean(axis=1), side="left")
    return np.asarray((1 + len(own) - closer) / (1 + len(own)), dtype=np.float32)


def _fit_umap(
    reference: NDArray[np.float32], query: NDArray[np.float32], n_neighbors: int, seed: int
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Fit a UMAP to the reference, and place the query on it."""
    import warnings

    with kept_threads(), warnings.catch_warnings():
        # umap-learn says at its import that it comes without TensorFlow.
        warnings.filterwarnings("ignore", "Tensorflow not installed", ImportWarning)
        # And of few cells that they are all neighbours.
        warnings.filterwarnings("ignore", "n_neighbors is larger than the dataset", UserWarning)
        from umap import UMAP

        fitted = UMAP(
            n_neighbors=min(n_neighbors, len(reference) - 1),
            min_dist=_MIN_DIST,
            # The default start needs more cells than these.
            init="spectral" if len(reference) > 20 else "random",
            random_state=seed,
            n_jobs=1,
        ).fit(reference)
        placed = fitted.transform(query)
    return fitted.embedding_.astype(np.float32), placed.astype(np.float32)
