from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from time import perf_counter
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from scenc.metrics._clusters import RESOLUTIONS, leiden_clusterings
from scenc.metrics._neighbors import Neighbors, nearest_neighbors, scib_metrics

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence

    from numpy.typing import ArrayLike, NDArray
    from scipy.sparse import csr_matrix

MISSING = ("", "nan", "NaN", "None", "<NA>", "unknown")
"""Names that stand for "no label", beside NaN, None and NA themselves."""

# Fewer cells have no neighbourhood to speak of: LISI's perplexity, a third of the neighbours, would
# be 1. Scores without LISI give this as ``lisi_neighbors``, so that no more are searched for.
MIN_CELLS = 6


@dataclass(frozen=True, slots=True)
class Groups:
    """One group per cell.

    Attributes
    ----------
    codes
        Group of each cell, shape ``(n_cells,)``, from 0 to ``len(names) - 1``, none unused.
    names
        Name of each group, sorted.
    """

    codes: NDArray[np.intp]
    names: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.names)

    @property
    def sizes(self) -> NDArray[np.intp]:
        """Number of cells of each group, shape ``(n_groups,)``."""
        return np.bincount(self.codes, minlength=len(self))


@dataclass(frozen=True, slots=True)
class Options:
    """Settings of the neighbour search, the clusterings and the isolated labels."""

    n_neighbors: int = 15
    lisi_neighbors: int = 90
    resolutions: Sequence[float] = RESOLUTIONS
    leiden: str = "igraph"
    iso_threshold: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        if self.n_neighbors < 2:
            raise ValueError(
                f"n_neighbors counts the cell itself and must be at least 2, "
                f"got {self.n_neighbors}."
            )
        if self.lisi_neighbors < MIN_CELLS:
            raise ValueError(
                f"lisi_neighbors counts the cell itself and must be at least {MIN_CELLS}, "
                f"got {self.lisi_neighbors}."
            )
        if not len(self.resolutions) or min(self.resolutions) <= 0:
            raise ValueError(
                f"resolutions must be one or more positive numbers, got {self.resolutions!r}."
            )
        if self.iso_threshold is not None and self.iso_threshold < 1:
            raise ValueError(
                f"iso_threshold is a number of batches, at least 1, got {self.iso_threshold}."
            )


@dataclass(frozen=True, eq=False)
class EmbeddedCells:
    """The cells that are scored, with neighbours, graph and clusterings that scores share.

    These are computed at their first use, once.

    Attributes
    ----------
    embedding
        Shape ``(n_cells, n_dims)``, float32, centred, scaled by a power of two.
    batch, labels
        The groups, or None with the reason in ``absent``.
    n_unlabelled, n_unbatched
        Number of cells left out because they have no label, or no batch.
    n_cells_given
        Number of cells before that.
    collapsed
        Whether all cells have the same embedding.
    absent
        Why there is no batch or there are no labels.
    options
        Settings of neighbours and clusters.
    seconds
        Time spent on each shared computation.
    """

    embedding: NDArray[np.float32]
    batch: Groups | None
    labels: Groups | None
    n_unlabelled: int
    n_unbatched: int
    n_cells_given: int
    collapsed: bool
    absent: dict[str, str]
    options: Options = field(default_factory=Options)
    seconds: dict[str, float] = field(default_factory=dict)

    @property
    def n_cells(self) -> int:
        """Number of cells that are scored."""
        return len(self.embedding)

    @cached_property
    def scib_metrics(self) -> Any:
        """The package; its import is timed apart."""
        with self._timed("import"):
            return scib_metrics()

    @cached_property
    def neighbors(self) -> Neighbors:
        """Nearest neighbours, searched once for all scores."""
        k = max(self.options.n_neighbors, self.options.lisi_neighbors)
        with self._timed("neighbors"):
            return nearest_neighbors(self.embedding, min(k, self.n_cells))

    @cached_property
    def graph(self) -> csr_matrix:
        """UMAP connectivities of the nearest ``n_neighbors``."""
        nearest = self.neighbors.nearest(self.options.n_neighbors)
        _ = self.scib_metrics
        with self._timed("graph"):
            return nearest.connectivities()

    @cached_property
    def clusterings(self) -> NDArray[np.intp]:
        """One Leiden clustering per resolution, shape ``(n_resolutions, n_cells)``."""
        graph = self.graph
        with self._timed("clusterings"):
            return leiden_clusterings(
                graph,
                self.options.resolutions,
                implementation=self.options.leiden,
                seed=self.options.seed,
            )

    @cached_property
    def label_silhouettes(self) -> NDArray[np.float64]:
        """Silhouette of each cell with respect to the labels, shape ``(n_cells,)``."""
        assert self.labels is not None
        silhouette_samples = self.scib_metrics.utils.silhouette_samples
        with self._timed("label_silhouettes"):
            silhouettes = silhouette_samples(self.embedding, self.labels.codes)
            return np.asarray(silhouettes, dtype=np.float64)

    @contextmanager
    def _timed(self, what: str) -> Iterator[None]:
        start = perf_counter()
        yield
        self.seconds[what] = perf_counter() - start

    def undefined(self, *, batches: int = 0, labels: int = 0) -> str | None:
        """Say why a score that needs so many batches and labels is undefined, if it is."""
        for what, groups, needed in (
            ("batch", self.batch, batches),
            ("label", self.labels, labels),
        ):
            if needed and groups is None:
                return self.absent[what]
            if groups is not None and len(groups) < needed and self.n_cells:
                return f"there is only one {what}, {groups.names[0]!r}"
        if self.n_cells < MIN_CELLS:
            return f"there are {self.n_cells} cells to score, fewer than {MIN_CELLS}"
        if self.collapsed:
            return "all cells have the same embedding"
        return None


def prepare(
    embedding: ArrayLike,
    batch: ArrayLike | None = None,
    labels: ArrayLike | None = None,
    *,
    missing: Collection[str] = MISSING,
    in_given_order: bool = False,
    options: Options | None = None,
) -> EmbeddedCells:
    """Check the arrays, leave out cells without label or batch, and bring them into one form.

    The cells are put into an order that depends on the cells only, so that no score depends on
    the order in which they came. Centring and scaling by a power of two change no neighbour and
    no ratio of distances; they keep single precision, which jax computes in, accurate for
    embeddings far from the origin.

    Parameters
    ----------
    embedding
        Shape ``(n_cells, n_dims)``.
    batch, labels
        Shape ``(n_cells,)``.
    missing
        Names in ``labels`` that stand for "no label".
    in_given_order
        Keep the cells in their order.
    options
        Settings of neighbours and clusters.

    Raises
    ------
    TypeError, ValueError
        If an array has the wrong shape, type or length, or the embedding has NaN or infinite
        values.
    """
    values = _embedding(embedding)
    batch_codes, batch_names = _groups(batch, "batch", len(values), ())
    label_codes, label_names = _groups(labels, "labels", len(values), missing)

    absent = {}
    keep = np.ones(len(values), dtype=bool)
    left_out = {}
    for what, given, codes in (("batch", batch, batch_codes), ("label", labels, label_codes)):
        has = codes >= 0
        left_out[what] = 0 if given is None else int(np.count_nonzero(~has))
        if has.any():
            keep &= has
        else:
            absent[what] = f"no {what} given" if given is None else f"no cell has a {what}"
    rows = np.flatnonzero(keep)
    if not in_given_order:
        rows = rows[_order(values[rows], label_codes[rows], batch_codes[rows])]
    values = values[rows]
    centred, collapsed = _centre(values)
    return EmbeddedCells(
        embedding=centred,
        batch=None if "batch" in absent else _compact(batch_codes[rows], batch_names),
        labels=None if "label" in absent else _compact(label_codes[rows], label_names),
        n_unlabelled=left_out["label"],
        n_unbatched=left_out["batch"],
        n_cells_given=len(keep),
        collapsed=collapsed,
        absent=absent,
        options=options or Options(),
    )


def _embedding(embedding: ArrayLike) -> NDArray[np.float64]:
    if hasattr(embedding, "toarray"):
        raise TypeError("embedding is sparse; pass a dense array, embedding.toarray().")
    array = np.asarray(embedding)
    if array.dtype.kind not in "fiu":
        raise TypeError(f"embedding must hold real numbers, got dtype {array.dtype}.")
    if array.ndim != 2:
        raise ValueError(
            f"embedding must have shape (n_cells, n_dims), got {array.shape}; "
            f"pass for example adata.obsm['X_scenc']."
        )
    if not array.shape[1]:
        raise ValueError("embedding has no columns.")
    values: NDArray[np.float64] = np.ascontiguousarray(array, dtype=np.float64)
    finite = np.isfinite(values)
    if not finite.all():
        bad = np.flatnonzero(~finite.all(axis=1))
        column = int(np.flatnonzero(~finite[bad[0]])[0])
        raise ValueError(
            f"embedding: row {bad[0]} has {values[bad[0], column]} in column {column} "
            f"({len(bad)} of {len(values)} rows have NaN or infinite values); "
            f"leave these cells out, or find out why the embedding failed."
        )
    return values


def _groups(
    values: ArrayLike | None, argument: str, n_cells: int, missing: Collection[str]
) -> tuple[NDArray[np.intp], list[str]]:
    """Codes in the order of the sorted names, -1 for cells without a group."""
    if values is None:
        return np.full(n_cells, -1, dtype=np.intp), []
    if isinstance(values, str):
        raise TypeError(
            f"{argument} must hold one value for each cell, got the text {values!r}; "
            f"pass the column itself, adata.obs[{values!r}]."
        )
    array: Any = values if isinstance(values, pd.Series | pd.Categorical) else np.asarray(values)
    if array.ndim != 1:
        raise ValueError(f"{argument} must have shape (n_cells,), got {array.shape}.")
    if len(array) != n_cells:
        raise ValueError(
            f"{argument} has {len(array)} values but embedding has {n_cells} rows; "
            f"take both from the same cells."
        )
    codes, uniques = pd.factorize(pd.Series(array).reset_index(drop=True))
    names = [str(name) for name in uniques]
    order = sorted(range(len(names)), key=lambda i: names[i])
    rank = np.full(len(names) + 1, -1, dtype=np.intp)  # the last one serves code -1
    kept = [i for i in order if names[i] not in missing]
    rank[kept] = np.arange(len(kept))
    return rank[codes], [names[i] for i in kept]


def _compact(codes: NDArray[np.intp], names: list[str]) -> Groups:
    used, codes = np.unique(codes, return_inverse=True)
    return Groups(codes, tuple(names[i] for i in used))


def _order(
    values: NDArray[np.float64], labels: NDArray[np.intp], batch: NDArray[np.intp]
) -> NDArray[np.intp]:
    """Sort by one fixed projection; only cells with equal embeddings tie, in practice."""
    direction = np.random.default_rng(0).standard_normal(values.shape[1])
    # Not a matrix product: its rounding depends on where in the matrix a row stands.
    return np.lexsort((batch, labels, (values * direction).sum(axis=1)))


def _centre(values: NDArray[np.float64]) -> tuple[NDArray[np.float32], bool]:
    if not len(values):
        return values.astype(np.float32), False
    low, high = values.min(axis=0), values.max(axis=0)
    if (low == high).all():
        return np.zeros(values.shape, dtype=np.float32), True
    values = values - values.mean(axis=0)
    scale = 2.0 ** np.round(np.log2(np.abs(values).max()))
    return (values / scale).astype(np.float32), False
