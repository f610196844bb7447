"""An embedding beside principal components of the same cells: which is better at what."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd
import scipy.sparse as sp

from scenc._printing import Printed, PrintedTable
from scenc.metrics import MISSING, knn_classification

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import ArrayLike, NDArray

# Neighbours that are asked, and the least cells that a label or batch has to be asked for.
_K = 10
_MIN_CELLS = 20
# A difference counts if it is as large as this, with one sign in each of so many parts.
_LEAST_DIFFERENCE = 0.01
_N_PARTS = 5
# Cells whose expression is dense at a time.
_CHUNK = 256

_TITLES = {
    "label_f1": "labels told by neighbours (macro F1)",
    "held_out": "held-out counts told by neighbours (R2)",
    "batch_f1": "batches told by neighbours (macro F1)",
    "neighbor_overlap": "neighbours in common with the PCs",
}
_SEPARATION, _MIXING = ("label_f1", "held_out"), ("batch_f1",)


class Halves(NamedTuple):
    """Cells embedded by one part of their counts, and what the other part holds.

    Attributes
    ----------
    embedding, components
        Of the one part, shapes ``(n_cells, n_dims)``.
    held_out
        Normalised expression of the other part, cells x genes.

    Examples
    --------
    >>> import scipy.sparse as sp
    >>> rng = np.random.default_rng(0)
    >>> components = rng.normal(size=(200, 5)).astype("float32")  # of one half of the counts
    >>> held_out = sp.csr_matrix(components @ rng.normal(size=(5, 30)))  # of the other half
    >>> noise = rng.normal(size=(200, 5)).astype("float32")
    >>> halves = scenc.tasks.Halves(noise, components, held_out)
    >>> scenc.tasks.check_embedding(noise, components, None, None, halves).separation
    'worse'
    """

    embedding: NDArray[np.float32]
    components: NDArray[np.float32]
    held_out: sp.csr_matrix


@dataclass(frozen=True, eq=False, repr=False)
class EmbeddingCheck(Printed):
    """What `scenc.Model.check` finds; prints as a table.

    Attributes
    ----------
    scores
        One row per score. ``embedding`` and ``components`` are the scores of the two,
        ``verdict`` says how the embedding does: ``"better"``, ``"alike"`` or ``"worse"``, and
        ``""`` where a score judges nothing or is undefined.

        ``label_f1``: macro F1 of labels that a cell's ten nearest neighbours predict (the higher,
        the better types are separated). ``held_out``, where there are no labels: share of the
        variance of counts that neighbours explain, which are found by other counts of the same
        cells, within batches (the higher, the better). ``batch_f1``: macro F1 of batches that
        neighbours predict (the lower, the better batches are mixed). ``neighbor_overlap``: share of
        neighbours that the embedding and the components have in common.
    n_cells, n_batches, n_labels, n_components
        Number of cells that were looked at, of their batches and labels, and of the components.
    reasons
        Why a score is NaN, for each that is: name -> reason.

    Examples
    --------
    >>> found = model.check(labels_key="cell_type")
    >>> found.scores.columns.tolist()
    ['embedding', 'components', 'verdict']
    >>> found.n_cells, found.n_labels
    (700, 10)
    >>> print(found)
    """

    scores: pd.DataFrame
    n_cells: int
    n_batches: int
    n_labels: int
    n_components: int
    reasons: Mapping[str, str]

    @property
    def separation(self) -> str:
        """How cells are separated: ``"better"``, ``"alike"``, ``"worse"``; ``""``: unknown."""
        return self._verdict(_SEPARATION)

    @property
    def mixing(self) -> str:
        """How batches are mixed: ``"better"``, ``"alike"``, ``"worse"``; ``""``: unknown."""
        return self._verdict(_MIXING)

    @property
    def is_better(self) -> bool:
        """Whether the embedding is better than the components at one thing, and worse at none."""
        verdicts = {self.separation, self.mixing}
        return "better" in verdicts and "worse" not in verdicts

    def to_frame(self) -> pd.DataFrame:
        """Return a copy of the scores."""
        return self.scores.copy()

    def to_dict(self) -> dict[str, float]:
        """Return the embedding's scores that are defined, by name, as plain floats."""
        return {str(k): float(v) for k, v in self.scores["embedding"].items() if not math.isnan(v)}

    def conclude(self) -> str:
        """Return in one sentence how the embedding does beside the components."""
        than = f"{self.n_components} principal components of the same data"
        words = {"better": "better than", "alike": "about as well as", "worse": "worse than"}
        separates, mixes = words.get(self.separation), words.get(self.mixing)
        if separates and mixes:
            second = mixes.removesuffix(" than").removesuffix(" as")
            return f"The embedding separates cells {separates} {than}, and mixes batches {second}."
        if separates:
            return f"The embedding separates cells {separates} {than}."
        if mixes:
            return f"The embedding mixes batches {mixes} {than}."
        return f"Nothing here tells whether the embedding is better than {than}."

    def _verdict(self, names: Sequence[str]) -> str:
        known = self.scores["verdict"].reindex(list(names)).dropna()
        return next((str(verdict) for verdict in known if verdict), "")

    def _table(self) -> PrintedTable:
        parts = [f"{self.n_cells:,} cells"]
        for number, one, more in (
            (self.n_batches, "batch", "batches"),
            (self.n_labels, "label", "labels"),
        ):
            if number:
                parts.append(f"{number} {one if number == 1 else more}")
        rows = []
        for name, row in self.scores.iterrows():
            values = [
                "-" if math.isnan(row[column]) else f"{row[column]:.3f}"
                for column in ("embedding", "components")
            ]
            rows.append((_TITLES[str(name)], *values, str(row["verdict"])))
        notes = [f"Undefined: {reason}." for reason in dict.fromkeys(self.reasons.values())]
        if "held_out" in self.scores.index:
            notes.append(
                "Whether types are kept apart only labels tell: name their column (labels_key)."
            )
        header = ("", "embedding", f"{self.n_components} PCs", "")
        title = f"EmbeddingCheck: {', '.join(parts)}. {self.conclude()}"
        return PrintedTable(title, rows, "<>><", header, notes=notes)


def check_embedding(
    embedding: NDArray[np.float32],
    components: NDArray[np.float32],
    batch: ArrayLike | None,
    labels: ArrayLike | None,
    halves: Halves | None = None,
    seed: int = 0,
) -> EmbeddingCheck:
    """Compare an embedding with principal components of the same cells.

    Parameters
    ----------
    embedding, components
        Shapes ``(n_cells, n_dims)``.
    batch, labels
        Of each cell, shape ``(n_cells,)``, or None.
    halves
        What separation is judged by without labels, of the same cells.
    seed
        Seed of the parts of the cells.

    Examples
    --------
    >>> labels = np.repeat(["B", "T"], 100)
    >>> rng = np.random.default_rng(0)
    >>> noise = rng.normal(size=(200, 5)).astype("float32")
    >>> apart = noise + 9 * (labels == "T")[:, None]
    >>> found = scenc.tasks.check_embedding(apart, noise, None, labels)
    >>> found.separation, found.is_better
    ('better', True)
    """
    rows: dict[str, tuple[float, float, str]] = {}
    reasons: dict[str, str] = {}
    batches = None if batch is None else _known(batch)
    if labels is not None:
        rows["label_f1"], reasons["label_f1"] = _told(embedding, components, labels, seed)
    elif halves is not None:
        codes = np.zeros(len(embedding), int) if batches is None else pd.factorize(batches)[0]
        ours = explained(halves.embedding, halves.held_out, codes, seed)
        theirs = explained(halves.components, halves.held_out, codes, seed)
        rows["held_out"] = (ours.mean(), theirs.mean(), _verdict(ours - theirs))
    if batches is not None and batches.nunique() > 1:
        values, reasons["batch_f1"] = _told(embedding, components, batches, seed)
        # Batches had better not be told.
        opposite = {"better": "worse", "worse": "better"}
        verdict = "" if reasons["batch_f1"] else opposite.get(values[2], values[2])
        rows["batch_f1"] = (*values[:2], verdict)
    rows["neighbor_overlap"] = (neighbor_overlap(embedding, components), 1.0, "")
    scores = pd.DataFrame.from_dict(
        rows, orient="index", columns=["embedding", "components", "verdict"]
    )
    scores.index.name = "score"
    return EmbeddingCheck(
        scores=scores,
        n_cells=len(embedding),
        n_batches=0 if batches is None else batches.nunique(),
        n_labels=0 if labels is None else len({*_known(labels).dropna()} - {*MISSING}),
        n_components=components.shape[1],
        reasons={name: reason for name, reason in reasons.items() if reason},
    )


def explained(
    embedding: NDArray[np.float32],
    held_out: sp.csr_matrix,
    batch: NDArray[np.int64],
    seed: int,
) -> NDArray[np.float64]:
    """Return how much of held-out expression the mean of a cell's neighbours explains.

    Neighbours are of the cell's own batch, so that what batches differ by counts for nothing.

    Parameters
    ----------
    embedding
        Made from other counts of the same cells, shape ``(n_cells, n_dims)``.
    held_out
        Normalised expression, cells x genes.
    batch
        Batch of each cell as a number, shape ``(n_cells,)``.
    seed
        Seed of the parts.

    Returns
    -------
    One minus the squared error over that of the batch's mean, of each of five parts of the cells.

    References
    ----------
    Batson et al. (2019), Molecular cross-validation for single-cell RNA-seq.
    """
    part = np.random.default_rng(seed).permutation(len(embedding)) % _N_PARTS
    errors = np.zeros((2, _N_PARTS))
    for code in np.unique(batch):
        rows = np.flatnonzero(batch == code)
        if len(rows) < 3:
            continue
        values = held_out[rows]
        mean = np.asarray(values.mean(axis=0))
        nearest = nearest_cells(embedding[rows], min(_K, len(rows) - 1))
        k = nearest.shape[1]
        weights = sp.csr_matrix(
            (
                np.full(nearest.size, 1 / k, np.float32),
                nearest.ravel(),
                np.arange(0, nearest.size + 1, k),
            ),
            (len(rows), len(rows)),
        )
        for start in range(0, len(rows), _CHUNK):
            some = slice(start, start + _CHUNK)
            true = values[some].toarray()
            for which, predicted in enumerate(((weights[some] @ values).toarray(), mean)):
                squares = ((true - predicted) ** 2).sum(axis=1)
                errors[which] += np.bincount(part[rows[some]], squares, minlength=_N_PARTS)
    told: NDArray[np.float64] = 1 - errors[0] / np.where(errors[1] > 0, errors[1], np.nan)
    return told


def neighbor_overlap(first: NDArray[np.float32], second: NDArray[np.float32]) -> float:
    """Return the mean share of a cell's nearest neighbours that two embeddings have in common."""
    k = min(_K, len(first) - 1)
    ours, theirs = nearest_cells(first, k), nearest_cells(second, k)
    return float((ours[:, :, None] == theirs[:, None, :]).any(axis=2).mean())


def nearest_cells(embedding: NDArray[np.float32], k: int) -> NDArray[np.int64]:
    """Return each cell's nearest others, shape ``(n_cells, k)``."""
    from sklearn.neighbors import NearestNeighbors

    # Asked without points, it leaves each point itself out.
    search = NearestNeighbors(n_neighbors=k, algorithm="brute").fit(embedding)
    nearest: NDArray[np.int64] = search.kneighbors(return_distance=False)
    return nearest


def _told(
    embedding: NDArray[np.float32], components: NDArray[np.float32], groups: ArrayLike, seed: int
) -> tuple[tuple[float, float, str], str]:
    """Return how well neighbours tell groups in both, how much better the first, and why not."""
    # Both are tested on the same cells.
    ours, theirs = (
        knn_classification(
            places, groups, min_cells=_MIN_CELLS, k=_K, n_repeats=_N_PARTS, seed=seed
        )
        for places in (embedding, components)
    )
    reason = ours.reasons.get("macro_f1") or theirs.reasons.get("macro_f1", "")
    if not reason:
        verdict = _verdict((ours.splits - theirs.splits)["macro_f1"].to_numpy())
    else:
        # Cells that are all in one place tell nothing.
        verdict = "worse" if ours.reasons and not theirs.reasons else ""
    return (ours.macro_f1, theirs.macro_f1, verdict), reason


def _verdict(differences: NDArray[np.float64]) -> str:
    """Return whether the first is better, by differences in several parts of the cells."""
    if abs(differences.mean()) < _LEAST_DIFFERENCE or len(set(np.sign(differences))) > 1:
        return "alike"
    return "better" if differences.mean() > 0 else "worse"


def _known(groups: ArrayLike) -> pd.Series[Any]:
    """Return groups of cells by name; missing ones stay missing."""
    values = pd.Series(np.asarray(groups, dtype=object))
    return values.where(values.isna(), values.astype(str))
