"""Linear classifiers of embeddings: a direction for each type, whatever fitted it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray


@dataclass(frozen=True, slots=True)
class Directions:
    """A linear classifier's directions in the embedding: a score for each type.

    Attributes
    ----------
    types
        Names of the types.
    weights
        The direction of each type, shape ``(n_types, d_model)``.
    offsets
        What is added to each type's score, shape ``(n_types,)``.

    Examples
    --------
    >>> labels = np.repeat(["B", "T"], 100)
    >>> cells = np.random.default_rng(0).normal(size=(200, 5)) + 9 * (labels == "T")[:, None]
    >>> directions = scenc.tasks.fit_directions(cells, labels)
    >>> directions.weights.shape, directions.types.tolist()
    ((2, 5), ['B', 'T'])
    >>> directions.predict(cells)[[0, 199]].tolist()
    [0, 1]
    """

    types: pd.Index[str]
    weights: NDArray[np.float64]
    offsets: NDArray[np.float64]

    def scores(self, embedding: NDArray[Any]) -> NDArray[np.float64]:
        """Return each cell's score for each type, shape ``(n_cells, n_types)``."""
        found: NDArray[np.float64] = embedding @ self.weights.T + self.offsets
        return found

    def predict(self, embedding: NDArray[Any]) -> NDArray[np.int64]:
        """Return the number of the type with the highest score, shape ``(n_cells,)``."""
        return self.scores(embedding).argmax(axis=1)


def fit_directions(
    embedding: NDArray[np.floating[Any]],
    labels: ArrayLike,
    seed: int = 0,
    *,
    C: float = 1.0,
    class_weight: Literal["balanced"] | None = None,
) -> Directions:
    """Fit a logistic regression to standardised dimensions of an embedding.

    Parameters
    ----------
    embedding
        Shape ``(n_cells, d_model)``.
    labels
        Type of each cell, shape ``(n_cells,)``.
    seed
        Of the regression.
    C, class_weight
        As in `sklearn.linear_model.LogisticRegression`.

    Raises
    ------
    ValueError
        There are fewer than two types.

    Examples
    --------
    >>> labels = np.repeat(["B", "T"], 100)
    >>> cells = np.random.default_rng(0).normal(size=(200, 5)) + 9 * (labels == "T")[:, None]
    >>> directions = scenc.tasks.fit_directions(cells, labels)
    >>> directions.scores(cells).shape
    (200, 2)
    """
    names = np.asarray(labels, dtype=object).astype(str)
    if len(np.unique(names)) < 2:
        raise ValueError(
            f"A classifier needs two types or more, and all {len(names)} cells are "
            f"{names[0] if len(names) else 'none'!r}. Fit it on cells of several types and pass "
            "it as classifier."
        )
    regression = LogisticRegression(
        C=C, class_weight=class_weight, max_iter=2000, random_state=seed
    )
    return read_directions(
        make_pipeline(StandardScaler(), regression).fit(np.asarray(embedding, np.float64), names)
    )


def read_directions(classifier: Any, width: int | None = None) -> Directions:
    """Read the directions of a fitted linear classifier.

    Parameters
    ----------
    classifier
        A linear classifier of scikit-learn, alone or after a `StandardScaler` in a pipeline; a
        DataFrame with a direction in each row, types as index; or directions.
    width
        Number of dimensions it must have; ``None``: any.

    Returns
    -------
    Of two types, each has half the classifier's direction, with the sign of its side.

    Raises
    ------
    TypeError
        It is none of these.
    ValueError
        It is for another number of dimensions.

    Examples
    --------
    >>> from sklearn.linear_model import LogisticRegression
    >>> labels = np.repeat(["B", "NK", "T"], 50)
    >>> cells = np.random.default_rng(0).normal(size=(150, 5))
    >>> directions = scenc.tasks.read_directions(LogisticRegression().fit(cells, labels))
    >>> directions.types.tolist(), directions.weights.shape
    (['B', 'NK', 'T'], (3, 5))
    """
    if isinstance(classifier, Directions):
        found = classifier
    elif isinstance(classifier, pd.DataFrame):
        weights = classifier.to_numpy(np.float64)
        found = Directions(classifier.index.astype(str), weights, np.zeros(len(weights)))
    else:
        found = _read_estimator(classifier)
    if width is not None and found.weights.shape[1] != width:
        raise ValueError(
            f"The classifier is for {found.weights.shape[1]} dimensions, and the model's embedding "
            f"has {width}: fit it on model.get_latent_representation()."
        )
    return found


def _read_estimator(classifier: Any) -> Directions:
    steps = [step for _, step in classifier.steps] if hasattr(classifier, "steps") else [classifier]
    scaler, last = (steps[0] if len(steps) == 2 else None), steps[-1]
    if (
        len(steps) > 2
        or not (scaler is None or isinstance(scaler, StandardScaler))
        or not all(hasattr(last, name) for name in ("coef_", "intercept_", "classes_"))
    ):
        raise TypeError(
            f"classifier must be a fitted linear classifier of scikit-learn, alone or after a "
            f"StandardScaler, or a DataFrame of directions (types x dimensions), got "
            f"{type(classifier).__name__}."
        )
    weights, offsets = np.asarray(last.coef_, np.float64), np.asarray(last.intercept_, np.float64)
    offsets = np.broadcast_to(offsets, (len(weights),))
    if len(weights) == 1:
        weights, offsets = (
            np.vstack([-weights, weights]) / 2,
            np.stack([-offsets, offsets])[:, 0] / 2,
        )
    if scaler is not None:
        scale = scaler.scale_ if scaler.scale_ is not None else np.ones(weights.shape[1])
        mean = scaler.mean_ if scaler.mean_ is not None else np.zeros(weights.shape[1])
        weights = weights / scale
        offsets = offsets - weights @ mean
    return Directions(pd.Index(np.asarray(last.classes_).astype(str)), weights, offsets)
