from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from scenc._printing import Printed, PrintedTable
from scenc.metrics._embedded_cells import MISSING, prepare

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from numpy.typing import ArrayLike, NDArray

    from scenc.metrics._embedded_cells import Groups


@dataclass(frozen=True, eq=False)
class ClassificationScores(Printed):
    """Scores of `scenc.metrics.knn_classification`; prints as a table.

    Attributes
    ----------
    accuracy, macro_f1
        Means over the splits; NaN where undefined.
    accuracy_std, macro_f1_std
        Standard deviations over the splits (``ddof=1``); NaN for a single split.
    per_class
        One row per type: ``precision``, ``recall``, ``f1`` and ``support`` (cells tested), means
        over the splits, and ``f1_std``.
    splits
        One row per split: ``accuracy``, ``macro_f1``.
    reasons
        Why a score is NaN, for each that is: name -> reason.
    dropped
        Types with too few cells, and how many they have.
    n_cells, n_classes
        Numbers of cells and of types that were scored, after dropping.
    n_train, n_test
        Number of cells on each side of a split.
    n_unlabelled
        Number of cells left out because they had no label.
    k, min_cells
        As given.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> labels = np.repeat(["B", "T"], 300)
    >>> cells = rng.normal(size=(600, 5)) + 9 * (labels == "T")[:, None]
    >>> scores = scenc.metrics.knn_classification(cells, labels)
    >>> scores.macro_f1, scores.n_classes
    (1.0, 2)
    >>> scores.per_class["f1"].to_dict()
    {'B': 1.0, 'T': 1.0}
    """

    accuracy: float
    macro_f1: float
    accuracy_std: float
    macro_f1_std: float
    per_class: pd.DataFrame
    splits: pd.DataFrame
    reasons: Mapping[str, str]
    dropped: Mapping[str, int]
    n_cells: int
    n_classes: int
    n_train: int
    n_test: int
    n_unlabelled: int
    k: int
    min_cells: int

    def to_dict(self) -> dict[str, float]:
        """Return accuracy and macro F1 with their spreads, by name, as plain floats."""
        names = ("accuracy", "macro_f1", "accuracy_std", "macro_f1_std")
        return {name: float(getattr(self, name)) for name in names}

    def to_series(self) -> pd.Series[float]:
        """Return accuracy and macro F1 with their spreads, indexed by name."""
        return pd.Series(self.to_dict(), name="score")

    def _header(self) -> str:
        text = f"{self.n_cells:,} cells, {self.n_classes} types, k = {self.k}"
        if len(self.splits):
            text += f", {len(self.splits)} x {self.n_train:,}/{self.n_test:,}"
        if self.n_unlabelled:
            text += f", {self.n_unlabelled:,} cells without label left out"
        return text

    def _footer(self) -> list[str]:
        footer = []
        if self.dropped:
            types = ", ".join(f"{name} ({n})" for name, n in self.dropped.items())
            footer.append(f"Dropped, fewer than {self.min_cells} cells: {types}.")
        footer += [f"Undefined: {reason}." for reason in dict.fromkeys(self.reasons.values())]
        return footer

    def _table(self) -> PrintedTable:
        title = [self._header()]
        for name, value, spread in (
            ("accuracy", self.accuracy, self.accuracy_std),
            ("macro F1", self.macro_f1, self.macro_f1_std),
        ):
            text = "-" if math.isnan(value) else f"{value:.3f}"
            title.append(f"{name:<10}{text}" + ("" if math.isnan(spread) else f" +- {spread:.3f}"))
        scores = ["precision", "recall", "f1", *(["f1_std"] if len(self.splits) > 1 else [])]
        rows = [
            (str(label), *(f"{value:.3f}" for value in row[scores]), f"{row['support']:g}")
            for label, row in self.per_class.iterrows()
        ]
        header = ["", *scores, "support"]
        align = "<" + ">" * (len(header) - 1)
        return PrintedTable("\n".join(title), rows, align, header, notes=self._footer())

    def __repr__(self) -> str:
        scores = ", ".join(f"{name}={value:.4g}" for name, value in self.to_dict().items())
        return f"ClassificationScores({scores}, n_cells={self.n_cells})"


def knn_classification(
    embedding: ArrayLike,
    labels: ArrayLike,
    *,
    min_cells: int = 250,
    k: int = 10,
    test_size: float = 0.2,
    seed: int = 0,
    n_repeats: int = 1,
    missing: Collection[str] = MISSING,
) -> ClassificationScores:
    """Classify held-out cells by their nearest neighbours in the embedding.

    Cells without label and types with fewer than ``min_cells`` cells are dropped; the others are
    split into training and test cells, each type in proportion; each test cell gets the most
    frequent label among its ``k`` nearest training cells. The split depends on the labels, their
    order and the seed only, so two embeddings of the same cells are tested on the same cells.

    Parameters
    ----------
    embedding
        Shape ``(n_cells, n_dims)``.
    labels
        Label (cell type) of each cell, shape ``(n_cells,)``.
    min_cells
        Types with fewer cells are dropped, and listed. At least 2.
    k
        Number of neighbours, Euclidean, each with one vote.
    test_size
        Share of the cells that is tested.
    seed
        Of the splits.
    n_repeats
        Number of random stratified splits; the scores are means over them.
    missing
        Names that stand for "no label", beside NaN, None and NA themselves.

    Returns
    -------
    Accuracy, macro F1 (the unweighted mean of the types' F1) and a report per type. NaN with a
    reason if fewer than two types are left, or the split cannot be made.

    Raises
    ------
    TypeError, ValueError
        If the arrays do not fit together, the embedding has NaN or infinite values (the message
        names the first such row), or a number is out of its range.

    Notes
    -----
    The rule of the encoding benchmark that this package implements: 250 cells, k = 10, 80/20.
    The splits are those of scikit-learn's ``StratifiedShuffleSplit``; with one repeat, of
    ``train_test_split(..., stratify=labels)``.

    Examples
    --------
    >>> import numpy as np
    >>> from scenc.metrics import knn_classification
    >>> rng = np.random.default_rng(0)
    >>> labels = np.repeat(["B", "T", "rare"], [300, 300, 9])
    >>> cells = rng.normal(size=(609, 5)) + 9 * (labels == "T")[:, None]
    >>> scores = knn_classification(cells, labels)
    >>> scores.accuracy, dict(scores.dropped)
    (1.0, {'rare': 9})
    """
    _check(min_cells=(min_cells, 2), k=(k, 1), n_repeats=(n_repeats, 1))
    if not 0 < test_size < 1:
        raise ValueError(f"test_size is a share, above 0 and below 1, got {test_size}.")
    cells = prepare(embedding, labels=labels, missing=missing, in_given_order=True)

    labelled = cells.labels
    sizes = labelled.sizes if labelled else np.zeros(0, dtype=np.intp)
    names = labelled.names if labelled else ()
    enough = sizes >= min_cells
    dropped = {n: int(s) for n, s, ok in zip(names, sizes, enough, strict=True) if not ok}
    rows = np.flatnonzero(enough[labelled.codes]) if labelled else np.zeros(0, dtype=np.intp)
    kept = np.flatnonzero(enough)

    n_test = math.ceil(test_size * len(rows))
    n_train = len(rows) - n_test
    reason = None
    if labelled is None:
        reason = cells.absent["label"]
    elif not len(kept):
        reason = f"no type has {min_cells} cells or more"
    elif len(kept) == 1:
        reason = f"only one type, {names[kept[0]]!r}, has {min_cells} cells or more"
    elif min(n_test, n_train) < len(kept):
        reason = (
            f"a split of {n_train} training and {n_test} test cells is too small "
            f"for {len(kept)} types"
        )
    elif n_train < k:
        reason = f"there are {n_train} training cells, fewer than k = {k}"
    elif cells.collapsed:
        reason = "all cells have the same embedding"

    if reason is None:
        assert labelled is not None
        splits, per_class = _run(
            cells.embedding[rows], labelled, rows, kept, k, n_test, seed, n_repeats
        )
    else:
        splits = pd.DataFrame({"accuracy": [], "macro_f1": []}, dtype=float)
        per_class = pd.DataFrame(
            {name: [] for name in (*_PER_CLASS, "f1_std")},
            dtype=float,
            index=pd.Index([], name="label"),
        )
    mean, spread = splits.mean(), splits.std()
    return ClassificationScores(
        accuracy=float(mean["accuracy"]),
        macro_f1=float(mean["macro_f1"]),
        accuracy_std=float(spread["accuracy"]),
        macro_f1_std=float(spread["macro_f1"]),
        per_class=per_class,
        splits=splits,
        reasons={"accuracy": reason, "macro_f1": reason} if reason else {},
        dropped=dropped,
        n_cells=len(rows),
        n_classes=len(kept),
        n_train=n_train,
        n_test=n_test,
        n_unlabelled=cells.n_unlabelled,
        k=k,
        min_cells=min_cells,
    )


_PER_CLASS = ("precision", "recall", "f1", "support")


def _check(**numbers: tuple[int, int]) -> None:
    for name, (value, least) in numbers.items():
        if value < least:
            raise ValueError(f"{name} must be at least {least}, got {value}.")


def _run(
    embedding: NDArray[np.float32],
    labelled: Groups,
    rows: NDArray[np.intp],
    kept: NDArray[np.intp],
    k: int,
    n_test: int,
    seed: int,
    n_repeats: int,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Score each split; return one row per split, and one per type."""
    from sklearn.model_selection import StratifiedShuffleSplit
    from sklearn.neighbors import KNeighborsClassifier

    codes = np.searchsorted(kept, labelled.codes[rows])
    shuffles = StratifiedShuffleSplit(n_repeats, test_size=n_test, random_state=seed)
    splits, reports = [], []
    for train, test in shuffles.split(codes, codes):
        classifier = KNeighborsClassifier(n_neighbors=k).fit(embedding[train], codes[train])
        predicted = classifier.predict(embedding[test])
        report = _scores_per_class(codes[test], predicted, len(kept))
        reports.append(report)
        splits.append(
            {
                "accuracy": float(np.mean(predicted == codes[test])),
                "macro_f1": float(np.nanmean(report[2])),
            }
        )
    stacked = np.stack(reports)  # (n_repeats, 4, n_classes)
    per_class = pd.DataFrame(
        {name: pd.DataFrame(stacked[:, i]).mean() for i, name in enumerate(_PER_CLASS)}
    )
    per_class["f1_std"] = pd.DataFrame(stacked[:, 2]).std()
    per_class.index = pd.Index([labelled.names[label] for label in kept], name="label")
    return pd.DataFrame(splits), per_class


def _scores_per_class(
    truth: NDArray[np.intp], predicted: NDArray[np.intp], n_classes: int
) -> NDArray[np.float64]:
    """Precision, recall, F1 and support of each class, shape ``(4, n_classes)``.

    A class that is never predicted has precision 0; one that is not tested has NaN.
    """
    from sklearn.metrics import precision_recall_fscore_support

    scores = np.array(
        precision_recall_fscore_support(truth, predicted, labels=range(n_classes), zero_division=0),
        dtype=np.float64,
    )
    scores[:3, scores[3] == 0] = np.nan
    return scores
