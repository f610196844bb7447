from __future__ import annotations

import warnings
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING, Any, cast

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from scipy.sparse import csr_matrix


@cache
def scib_metrics() -> Any:
    """Import scib-metrics, and with it jax and UMAP, at its first use.

    UMAP announces that TensorFlow is absent with a warning; nothing here could use it, so that
    one message is dropped. The import takes 10 to 20 seconds, most of them spent by numba.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings(
            "ignore", message="Tensorflow not installed", category=ImportWarning
        )
        return import_module("scib_metrics")


@dataclass(frozen=True, slots=True)
class Neighbors:
    """The nearest neighbours of every cell.

    Attributes
    ----------
    indices
        Shape ``(n_cells, k)``: the cell itself, then the others by distance.
    distances
        Euclidean, shape ``(n_cells, k)``; the first column is 0.
    """

    indices: NDArray[np.intp]
    distances: NDArray[np.float32]

    def nearest(self, k: int) -> Neighbors:
        """Keep the first ``k`` columns, or all of them if there are fewer."""
        return Neighbors(self.indices[:, :k], self.distances[:, :k])

    def as_scib_metrics(self) -> Any:
        """Return the neighbours as scib-metrics takes them."""
        return scib_metrics().nearest_neighbors.NeighborsResults(
            indices=self.indices, distances=self.distances
        )

    def connectivities(self) -> csr_matrix:
        """Turn distances into UMAP's fuzzy connectivities, the graph scanpy and scib work on.

        Returns
        -------
        Symmetric, shape ``(n_cells, n_cells)``, without self loops.
        """
        return cast("csr_matrix", self.as_scib_metrics().knn_graph_connectivities.tocsr())


def nearest_neighbors(embedding: NDArray[np.float32], k: int) -> Neighbors:
    """Find each cell's ``k`` nearest cells, itself included, by comparing all pairs.

    The silhouettes compare all pairs too, and take longer over it: an approximate search would
    save little.

    Parameters
    ----------
    embedding
        Shape ``(n_cells, n_dims)``.
    k
        Number of neighbours, the cell itself included.
    """
    from sklearn.neighbors import NearestNeighbors

    search = NearestNeighbors(n_neighbors=k, algorithm="brute").fit(embedding)
    distances, indices = search.kneighbors(embedding)
    return _self_first(indices.astype(np.intp), distances.astype(np.float32))


def _self_first(indices: NDArray[np.intp], distances: NDArray[np.float32]) -> Neighbors:
    """Put each cell first among its neighbours, even where duplicates of it pushed it out."""
    n_cells, k = indices.shape
    cell = np.arange(n_cells)
    is_self = indices == cell[:, None]
    position = np.where(is_self.any(axis=1), is_self.argmax(axis=1), k - 1)
    columns = np.arange(k)[None, :]
    source = np.where(columns <= position[:, None], columns - 1, columns)
    source[:, 0] = 0
    indices = np.take_along_axis(indices, source, axis=1)
    distances = np.take_along_axis(distances, source, axis=1)
    indices[:, 0] = cell
    distances[:, 0] = 0
    return Neighbors(indices, distances)
