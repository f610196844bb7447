"""How sure a classifier of types may be: what it says of cells that it was not fitted to."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NamedTuple, Protocol

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import logsumexp
from tqdm.auto import tqdm

from scenc.tasks._linear import Directions, fit_directions
from scenc.tasks._nearest import held_out, make_folds, nearest_held_out, neighbor_weights

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

# Cells that a classifier is fitted to while it is calibrated.
_MOST_FITTED = 20_000
# Cells whose types others have too: with fewer there is nothing to calibrate by.
_LEAST_HELD_OUT = 20


class LabelledCells(NamedTuple):
    """Cells of a reference.

    Attributes
    ----------
    embedding
        Shape ``(n_cells, n_dims)``.
    codes
        Type of each, as a number, shape ``(n_cells,)``.
    n_types
        Number of types.
    """

    embedding: NDArray[np.float32]
    codes: NDArray[np.int64]
    n_types: int


class Calibration(NamedTuple):
    """What a classifier of types needs beside the cells themselves.

    Attributes
    ----------
    directions
        Of the linear classifier, fitted to all cells; ``None`` where neighbours vote.
    temperature
        What logits are divided by, so that probabilities are right for cells held out.
    distances, distance_codes
        How far cells are from those that they were held out from, and the type of each; by type,
        then ascending, shape ``(n_sampled,)``.
    n_batches
        Batches that were held out in turn; 1: cells were.
    """

    directions: Directions | None
    temperature: float
    distances: NDArray[np.float32]
    distance_codes: NDArray[np.int64]
    n_batches: int


class Fit(Protocol):
    """Fits a linear classifier to an embedding and types as numbers."""

    def __call__(self, cells: NDArray[np.float32], codes: NDArray[np.int64], /) -> Directions: ...


def calibrate(
    cells: LabelledCells,
    batches: NDArray[np.int64] | None,
    *,
    n_neighbors: int,
    fit: Fit | None,
    seed: int,
    progress: bool,
) -> Calibration:
    """Hold parts of the cells out in turn, and see what the others say of them.

    Whole batches are held out where there are several; where each batch has types of its own,
    cells are.

    Parameters
    ----------
    cells
        The labelled cells.
    batches
        Batch of each, as a number, shape ``(n_cells,)``; ``None``: there is one.
    n_neighbors
        Neighbours that vote, and that distances are the mean over.
    fit
        Fits a linear classifier to cells and their types; ``None``: neighbours vote.
    seed
        Of samples and of the search for neighbours.
    progress
        Whether to show progress where it takes more than two seconds.

    Raises
    ------
    ValueError
        Every type has one cell.
    """
    n_batches = 1 if batches is None else int(batches.max()) + 1
    folds = make_folds(cells.codes, batches, seed)
    parts = list(held_out(folds, seed))
    logits, codes, distances = [], [], []
    rng = np.random.default_rng(seed)
    with tqdm(
        total=len(parts) + 1, desc="Fitting labels", unit="fit", delay=2, disable=not progress
    ) as bar:
        for others, rows in parts:
            # A type that only the part left out has cannot be found, nor be near, by the others.
            rows = rows[np.isin(cells.codes[rows], cells.codes[others])]
            if len(rows):
                among = others if n_batches > 1 else None
                found = nearest_held_out(cells.embedding, rows, among, n_neighbors, seed)
                distances.append(found[1].mean(axis=1))
                codes.append(cells.codes[rows])
                if fit is None:
                    logits.append(vote_logits(cells.codes[found[0]], found[1], cells.n_types))
                else:
                    some = others if len(others) <= _MOST_FITTED else rng.permutation(others)
                    logits.append(_scores(fit, cells, some[:_MOST_FITTED], rows))
            bar.update()
        directions = None if fit is None else fit(cells.embedding, cells.codes)
        bar.update()
    if not logits and batches is not None:
        return calibrate(
            cells, None, n_neighbors=n_neighbors, fit=fit, seed=seed, progress=progress
        )
    if not logits:
        raise ValueError(
            "Every type of the reference has one cell: there is nothing to learn from."
        )
    truth, own = np.concatenate(codes), np.concatenate(distances)
    order = np.lexsort((own, truth))
    temperature = _temperature(np.concatenate(logits), truth)
    return Calibration(directions, temperature, own[order], truth[order], n_batches)


def _scores(
    fit: Fit, cells: LabelledCells, fitted: NDArray[np.int64], asked: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Return what a classifier fitted to some cells says of others."""
    directions = fit(cells.embedding[fitted], cells.codes[fitted])
    return directions.scores(cells.embedding[asked])


def fit_linear(
    cells: NDArray[np.float32],
    codes: NDArray[np.int64],
    types: pd.Index[str],
    C: float,
    class_weight: Literal["balanced"] | None,
) -> Directions:
    """Fit logistic regression; types without cells get an offset that excludes them."""
    weights, offsets = np.zeros((len(types), cells.shape[1])), np.full(len(types), -np.inf)
    there = np.unique(codes)
    if len(there) == 1:
        offsets[there] = 0
    else:
        fitted = fit_directions(cells, types[codes], C=C, class_weight=class_weight)
        at = types.get_indexer(fitted.types)
        weights[at], offsets[at] = fitted.weights, fitted.offsets
    return Directions(types, weights, offsets)


def vote_logits(
    neighbors: NDArray[np.int64], distances: NDArray[np.float32], n_classes: int
) -> NDArray[np.float64]:
    """Return logarithms of the neighbours' weighted votes, with one vote more for all types."""
    weights = distances.shape[1] * neighbor_weights(distances)
    votes = np.full((len(neighbors), n_classes), 1 / n_classes)
    rows = np.broadcast_to(np.arange(len(neighbors))[:, None], neighbors.shape)
    np.add.at(votes, (rows, neighbors), weights)
    return np.log(votes)


def _temperature(logits: NDArray[np.float64], truth: NDArray[np.int64]) -> float:
    """Return the temperature under which held-out labels are most likely, between 1/20 and 20."""
    if len(truth) < _LEAST_HELD_OUT:
        return 1.0
    own = logits[np.arange(len(truth)), truth]

    def loss(log_temperature: float) -> float:
        scale = np.exp(-log_temperature)
        return float(np.mean(logsumexp(scale * logits, axis=1) - scale * own))

    found = minimize_scalar(loss, bounds=(-3, 3), method="bounded")
    return float(np.exp(found.x))
