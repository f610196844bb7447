"""Names of cells by their embedding: which, how sure, and how far from all that is known."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd
from scipy.special import softmax

from scenc._arguments import choose
from scenc._printing import Printed, PrintedTable, list_some
from scenc.io import ModelFileError
from scenc.metrics import MISSING
from scenc.tasks._calibration import LabelledCells, calibrate, fit_linear, vote_logits
from scenc.tasks._classifier_files import is_classifier, read_classifier, write_classifier
from scenc.tasks._linear import Directions
from scenc.tasks._nearest import nearest, percentile

if TYPE_CHECKING:
    import os

    from numpy.typing import ArrayLike, NDArray

UNKNOWN_LABEL = "Unknown"
"""The name of cells that a classifier does not name."""

METHODS = ("logreg", "knn")
# Measured on data that are not in the report: benchmarks/bench_annotation.py, --tasks choose.
CONFIDENCE_THRESHOLD = 0.5
DISTANCE_THRESHOLD = 95.0
N_NEIGHBORS = 15
REGULARISATION = 0.1
# A type with fewer cells that have been held out has no percentiles of its own.
_LEAST_OF_TYPE = 20


@dataclass(frozen=True, eq=False)
class LabelPredictions:
    """What a classifier says of cells.

    Attributes
    ----------
    labels
        Name of each cell, or "Unknown", shape ``(n_cells,)``.
    confidence
        Calibrated probability of the most probable type, shape ``(n_cells,)``.
    distance
        Percentile of the distance from the reference, among those of its own cells of the most
        probable type, 0 to 100, shape ``(n_cells,)``.
    probabilities
        Of each type, shape ``(n_cells, n_types)``.
    classes
        The types, in that order.

    Examples
    --------
    >>> labels = np.repeat(["B", "T"], 100)
    >>> cells = np.random.default_rng(0).normal(size=(200, 5)) + 9 * (labels == "T")[:, None]
    >>> found = scenc.tasks.LabelClassifier.fit(cells, labels).predict(cells)
    >>> found.classes, found.probabilities.shape
    (('B', 'T'), (200, 2))
    >>> sure = found.confidence > 0.9
    """

    labels: NDArray[np.object_]
    confidence: NDArray[np.float32]
    distance: NDArray[np.float32]
    probabilities: NDArray[np.float32]
    classes: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class LabelClassifier(Printed):
    """Names cells by their embedding, after labelled cells of a reference.

    `fit` makes one, `load` reads one that was saved; `scenc.Model.fit_classifier` and
    `scenc.Model.annotate` do so for cells that a model embeds.

    Attributes
    ----------
    classes
        Names of the types, sorted.
    method
        ``"logreg"`` or ``"knn"``.
    embedding
        The labelled cells, shape ``(n_cells, n_dims)``.
    codes
        Type of each, as a number, shape ``(n_cells,)``.
    temperature
        What logits are divided by, so that probabilities are right for cells held out.
    distances, distance_codes
        How far cells of the reference are from its other batches, and the type of each as a number;
        by type, then ascending (see `predict`), shape ``(n_sampled,)``.
    directions
        Of logistic regression; ``None`` for ``"knn"``.
    n_neighbors
        Neighbours that vote, and that distances are the mean over.
    unknown_threshold, distance_threshold
        Least confidence and largest percentile of the distance of cells that are named.
    n_unlabelled
        Cells of the reference that were left out because they have no label.
    n_batches
        Batches that were held out in turn; 1: cells were.
    labels_key
        Where the labels come from, for the record.
    model
        Fingerprint of the model that embedded the cells, if there is one.
    seed
        Of samples and of the search for neighbours.

    Examples
    --------
    >>> labels = np.repeat(["B", "T"], 100)
    >>> cells = np.random.default_rng(0).normal(size=(200, 5)) + 9 * (labels == "T")[:, None]
    >>> classifier = scenc.tasks.LabelClassifier.fit(cells, labels)
    >>> classifier.classes, classifier.method
    (('B', 'T'), 'logreg')
    >>> found = classifier.predict(cells)
    >>> found.labels[[0, 199]].tolist()
    ['B', 'T']
    """

    classes: tuple[str, ...]
    method: str
    embedding: NDArray[np.float32]
    codes: NDArray[np.int64]
    temperature: float
    distances: NDArray[np.float32]
    distance_codes: NDArray[np.int64]
    directions: Directions | None = None
    n_neighbors: int = N_NEIGHBORS
    unknown_threshold: float = CONFIDENCE_THRESHOLD
    distance_threshold: float = DISTANCE_THRESHOLD
    n_unlabelled: int = 0
    n_batches: int = 1
    labels_key: str = ""
    model: str = ""
    seed: int = 0

    @classmethod
    def fit(
        cls,
        embedding: ArrayLike,
        labels: ArrayLike,
        batches: ArrayLike | None = None,
        *,
        method: Literal["logreg", "knn"] = "logreg",
        unknown_threshold: float = CONFIDENCE_THRESHOLD,
        distance_threshold: float = DISTANCE_THRESHOLD,
        n_neighbors: int = N_NEIGHBORS,
        C: float = REGULARISATION,
        class_weight: Literal["balanced"] | None = None,
        labels_key: str = "",
        model: str = "",
        seed: int = 0,
        progress: bool = True,
    ) -> LabelClassifier:
        """Fit a classifier to labelled cells, and calibrate it on cells that it has not seen.

        Parameters
        ----------
        embedding
            Shape ``(n_cells, n_dims)``.
        labels
            Type of each cell, shape ``(n_cells,)``. Missing ones, and those called "Unknown" or by
            a name of ``scenc.metrics.MISSING``, are left out.
        batches
            Batch of each cell. Where there are several, whole batches are held out, since the query
            will be another batch, too.
        method
            ``"logreg"``: logistic regression on standardised dimensions (scikit-learn). ``"knn"``:
            the nearest cells vote, with weights ``exp(-(d / mean d) ** 2)``.
        unknown_threshold, distance_threshold
            Cells with less confidence (0 to 1), or farther away than this percentile (0 to 100) of
            the reference's own distances, are called "Unknown". 0 and 100: none is.
        n_neighbors
            Neighbours that vote, and that distances are the mean over.
        C
            Inverse strength of the regularisation of logistic regression.
        class_weight
            ``"balanced"`` lets every type of the reference count alike in logistic regression,
            however rare: rare types are found more often, and taken for more often, too. ``None``:
            every cell counts alike.
        labels_key, model
            For the record; see the attributes.
        seed
            Of samples and of the search for neighbours.
        progress
            Whether to show progress where it takes more than two seconds.

        Raises
        ------
        ValueError
            There are fewer than two types, arrays do not fit together, the embedding is not finite,
            or a number is out of its range.

        Examples
        --------
        >>> import numpy as np
        >>> rng = np.random.default_rng(0)
        >>> labels = np.repeat(["B", "T"], 100)
        >>> cells = rng.normal(size=(200, 5)) + 9 * (labels == "T")[:, None]
        >>> classifier = LabelClassifier.fit(cells, labels)
        >>> classifier.predict(cells).labels[[0, 199]].tolist()
        ['B', 'T']

        References
        ----------
        Guo et al. (2017), On calibration of modern neural networks (temperature scaling).
        """
        choose(method, METHODS, "method")
        _check_numbers(unknown_threshold, distance_threshold, n_neighbors, C)
        cells = as_embedding(embedding, "the reference")
        names = label_names(labels)
        if len(names) != len(cells):
            raise ValueError(f"There are {len(cells):,} cells and {len(names):,} labels.")
        known = ~pd.isna(names) & cells.any(axis=1)
        classes, codes = np.unique(names[known].astype(str), return_inverse=True)
        if len(classes) < 2:
            there = f"only {str(classes[0])!r}" if len(classes) else "none"
            raise ValueError(
                f"The reference needs cells of two types or more, and has {there} "
                f"({int((~known).sum()):,} of {len(known):,} cells have no label)."
            )
        groups = None if batches is None else pd.factorize(np.asarray(batches)[known])[0]
        labelled = LabelledCells(cells[known], codes.astype(np.int64), len(classes))
        linear = partial(fit_linear, types=pd.Index(classes), C=C, class_weight=class_weight)
        found = calibrate(
            labelled,
            groups,
            n_neighbors=n_neighbors,
            fit=linear if method == "logreg" else None,
            seed=seed,
            progress=progress,
        )
        return cls(
            classes=tuple(classes.tolist()),
            method=method,
            embedding=labelled.embedding,
            codes=labelled.codes,
            n_neighbors=n_neighbors,
            unknown_threshold=float(unknown_threshold),
            distance_threshold=float(distance_threshold),
            n_unlabelled=int((~known).sum()),
            labels_key=labels_key,
            model=model,
            seed=seed,
            **found._asdict(),
        )

    def predict(
        self,
        embedding: ArrayLike,
        *,
        unknown_threshold: float | None = None,
        distance_threshold: float | None = None,
    ) -> LabelPredictions:
        """Name cells.

        The distance of a cell is the mean over its nearest cells of the reference. Its percentile
        is among the reference's cells of the type that is most probable for it: the share of them
        that are no farther from the *other batches* of the reference (from other cells, where there
        is one batch). A type with fewer than 20 such cells is judged by those of all types. A cell
        without counts, embedded as zeros, is "Unknown" with a confidence of 0.

        Parameters
        ----------
        embedding
            Shape ``(n_cells, n_dims)``.
        unknown_threshold, distance_threshold
            As in `fit`; ``None``: those given there.

        Raises
        ------
        ValueError
            The embedding has another number of dimensions or is not finite, or a number is out of
            its range.
        """
        least = self.unknown_threshold if unknown_threshold is None else unknown_threshold
        most = self.distance_threshold if distance_threshold is None else distance_threshold
        _check_numbers(least, most, self.n_neighbors, 1.0)
        cells = as_embedding(embedding, "the query")
        if cells.shape[1] != self.embedding.shape[1]:
            raise ValueError(
                f"The classifier was fitted to embeddings of {self.embedding.shape[1]} dimensions, "
                f"and these have {cells.shape[1]}: embed the cells by the same model."
            )
        rows, distances = nearest(self.embedding, cells, self.n_neighbors, self.seed)
        if self.directions is None:
            logits = vote_logits(self.codes[rows], distances, len(self.classes))
        else:
            logits = self.directions.scores(cells)
        probabilities = softmax(logits / self.temperature, axis=1).astype(np.float32)
        best = probabilities.argmax(axis=1)
        distance = self._percentiles(distances.mean(axis=1), best)
        empty = ~cells.any(axis=1)
        probabilities[empty], distance[empty] = 0, 100
        confidence = probabilities.max(axis=1)
        labels = np.array(self.classes, dtype=object)[best]
        labels[empty | (confidence < least) | (distance > most)] = UNKNOWN_LABEL
        return LabelPredictions(labels, confidence, distance, probabilities, self.classes)

    def _percentiles(
        self, distances: NDArray[np.float32], codes: NDArray[np.intp]
    ) -> NDArray[np.float32]:
        """Return the percentile of each distance among those of cells of its type."""
        found = np.zeros(len(distances), np.float32)
        everything = np.sort(self.distances)
        ends = np.searchsorted(self.distance_codes, np.arange(len(self.classes) + 1))
        for code in np.unique(codes):
            own = self.distances[ends[code] : ends[code + 1]]
            among = own if len(own) >= _LEAST_OF_TYPE else everything
            found[codes == code] = percentile(distances[codes == code], among)
        return found

    def save(self, path: str | os.PathLike[str], overwrite: bool = False) -> None:
        """Write the classifier into a folder: ``classifier.json`` and ``classifier.safetensors``.

        Parameters
        ----------
        path
            The folder, such as ``"pbmc_model/classifiers/cell_type"``, where ``scenc annotate``
            looks for it. It appears whole or not at all.
        overwrite
            Whether a classifier that is there may be replaced.

        Raises
        ------
        FileExistsError
            The folder exists.
        """
        folder = Path(path)
        if folder.exists() and not (overwrite and is_classifier(folder)):
            remedy = "pass overwrite=True to replace it" if not overwrite else "it is no classifier"
            raise FileExistsError(f"{folder} exists: {remedy}.")
        arrays = {name: getattr(self, name) for name in _OWN_ARRAYS}
        if self.directions is not None:
            arrays |= {name: getattr(self.directions, name) for name in _LINEAR_ARRAYS}
        write_classifier(folder, {name: getattr(self, name) for name in _KINDS}, arrays)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> LabelClassifier:
        """Read a classifier from a folder. Nothing in it is executed.

        Raises
        ------
        FileNotFoundError
            The folder or one of its files is missing.
        ModelFileError
            A file is damaged, foreign, of a newer version, or does not hold what it says.
        """
        folder = Path(path)
        card, arrays = read_classifier(folder)
        try:
            plain: dict[str, Any] = {name: kind(card[name]) for name, kind in _KINDS.items()}
            plain["classes"] = tuple(str(name) for name in card["classes"])
            own: dict[str, Any] = {name: arrays.pop(name) for name in _OWN_ARRAYS}
            choose(plain["method"], METHODS, "method")
            directions = None
            if plain["method"] == "logreg":
                of_types = (arrays.pop(name) for name in _LINEAR_ARRAYS)
                directions = Directions(pd.Index(plain["classes"]), *of_types)
            if arrays:
                raise ValueError(f"there are further arrays: {list_some(sorted(arrays))}")
            loaded = cls(**plain, **own, directions=directions)
            _check_parts(loaded)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise ModelFileError(
                f"{folder} does not hold what a classifier does: {error}."
            ) from None
        return loaded

    def _table(self) -> PrintedTable:
        sizes = np.bincount(self.codes, minlength=len(self.classes))
        rows = [(name, f"{size:,}") for name, size in zip(self.classes, sizes, strict=True)]
        way = "logistic regression" if self.method == "logreg" else "nearest neighbours"
        title = f"LabelClassifier of {len(self.classes)} types by {way}, {len(self.codes):,} cells"
        held = f"{self.n_batches} batches" if self.n_batches > 1 else "cells of one batch"
        notes = [f"Calibrated on {held} (temperature {self.temperature:.2f})."]
        if self.n_unlabelled:
            notes.append(f"Left out: {self.n_unlabelled:,} cells without a label.")
        return PrintedTable(title, rows, "<>", notes=notes)

    def __repr__(self) -> str:
        return f"<{self._table().title}>"


_OWN_ARRAYS = ("embedding", "codes", "distances", "distance_codes")
_LINEAR_ARRAYS = ("weights", "offsets")
# What stands in the JSON file, beside the format, and what it is.
_KINDS: dict[str, Any] = {
    "classes": list,
    "method": str,
    "temperature": float,
    "n_neighbors": int,
    "unknown_threshold": float,
    "distance_threshold": float,
    "n_unlabelled": int,
    "n_batches": int,
    "labels_key": str,
    "model": str,
    "seed": int,
}


def as_embedding(embedding: ArrayLike, whose: str) -> NDArray[np.float32]:
    """Return an embedding as float32, if it is one.

    Raises
    ------
    ValueError
        It is no matrix, has no cells, or a value is not finite.
    """
    cells = np.asarray(embedding, dtype=np.float32)
    if cells.ndim != 2 or not cells.size:
        raise ValueError(
            f"An embedding is a matrix of cells x dimensions; that of {whose} has shape "
            f"{cells.shape}."
        )
    finite = np.isfinite(cells).all(axis=1)
    if not finite.all():
        raise ValueError(
            f"The embedding of {whose} has NaN or infinite values, first in row "
            f"{int(np.argmin(finite))}."
        )
    return cells


def label_names(labels: ArrayLike) -> NDArray[np.object_]:
    """Return labels as names; None where one is missing or stands for "not known"."""
    series = pd.Series(np.asarray(labels, dtype=object))
    missing = series.isna() | series.astype(str).isin({*MISSING, UNKNOWN_LABEL})
    names = series.astype(str).to_numpy(dtype=object)
    names[missing.to_numpy()] = None
    return names


def _check_numbers(least: float, most: float, n_neighbors: int, C: float) -> None:
    if not 0 <= least <= 1:
        raise ValueError(f"unknown_threshold is a probability, 0 to 1, got {least}.")
    if not 0 <= most <= 100:
        raise ValueError(f"distance_threshold is a percentile, 0 to 100, got {most}.")
    if n_neighbors < 1:
        raise ValueError(f"n_neighbors must be at least 1, got {n_neighbors}.")
    if not C > 0:
        raise ValueError(f"C must be positive, got {C}.")


def _check_parts(loaded: LabelClassifier) -> None:
    """Refuse arrays that do not fit together, and numbers out of their range."""
    _check_numbers(loaded.unknown_threshold, loaded.distance_threshold, loaded.n_neighbors, 1.0)
    n_classes, n_dims = len(loaded.classes), loaded.embedding.shape[1]
    expected: dict[str, tuple[NDArray[Any], type, tuple[int, ...]]] = {
        "embedding": (loaded.embedding, np.float32, (len(loaded.codes), n_dims)),
        "codes": (loaded.codes, np.int64, (len(loaded.codes),)),
        "distances": (loaded.distances, np.float32, (len(loaded.distances),)),
        "distance_codes": (loaded.distance_codes, np.int64, (len(loaded.distances),)),
    }
    if (linear := loaded.directions) is not None:
        expected["weights"] = (linear.weights, np.float64, (n_classes, n_dims))
        expected["offsets"] = (linear.offsets, np.float64, (n_classes,))
    for name, (array, kind, shape) in expected.items():
        if array.shape != shape or array.dtype != kind or not array.size:
            raise ValueError(f"{name} has shape {array.shape} and holds {array.dtype}")
        if not np.isfinite(array).all():
            raise ValueError(f"{name} holds NaN or infinite values")
    for codes in (loaded.codes, loaded.distance_codes):
        if n_classes < 2 or codes.min() < 0 or codes.max() >= n_classes:
            raise ValueError("cells are of types that have no name")
    if (np.diff(loaded.distance_codes) < 0).any():
        raise ValueError("distances are not in the order of types")
    if not (np.isfinite(loaded.temperature) and loaded.temperature > 0):
        raise ValueError(f"the temperature is {loaded.temperature}")
