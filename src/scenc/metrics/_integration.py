from __future__ import annotations

import math
from dataclasses import dataclass, field
from time import perf_counter
from typing import TYPE_CHECKING

import pandas as pd

from scenc._arguments import choose
from scenc._printing import Printed, PrintedTable, list_some
from scenc.metrics._clusters import RESOLUTIONS
from scenc.metrics._embedded_cells import MISSING, Options, prepare
from scenc.metrics._graph_connectivity import graph_connectivity_score
from scenc.metrics._isolated_labels import (
    isolated_asw_score,
    isolated_f1_score,
    isolated_label_names,
)
from scenc.metrics._lisi import clisi_score, ilisi_score
from scenc.metrics._nmi_ari import ari_score, best_resolution, nmi_score
from scenc.metrics._score import Score
from scenc.metrics._silhouette import batch_asw_score, label_asw_score

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence

    from numpy.typing import ArrayLike

    from scenc.metrics._embedded_cells import EmbeddedCells

BATCH_CORRECTION = ("ilisi", "graph_connectivity", "batch_asw")
"""The scores averaged as batch correction."""

BIO_PRESERVATION = (
    "label_asw",
    "clisi",
    "nmi",
    "ari",
    "isolated_labels_f1",
    "isolated_labels_asw",
)
"""The scores averaged as preservation of biology."""

TITLES = {
    "batch_correction": "batch correction",
    "ilisi": "iLISI",
    "graph_connectivity": "graph connectivity",
    "batch_asw": "batch ASW",
    "bio_preservation": "biological preservation",
    "label_asw": "label ASW",
    "clisi": "cLISI",
    "nmi": "NMI",
    "ari": "ARI",
    "isolated_labels_f1": "isolated-label F1",
    "isolated_labels_asw": "isolated-label silhouette",
}

_SCORERS: dict[str, Callable[[EmbeddedCells], Score]] = {
    "ilisi": ilisi_score,
    "graph_connectivity": graph_connectivity_score,
    "batch_asw": batch_asw_score,
    "label_asw": label_asw_score,
    "clisi": clisi_score,
    "nmi": nmi_score,
    "ari": ari_score,
    "isolated_labels_f1": isolated_f1_score,
    "isolated_labels_asw": isolated_asw_score,
}


@dataclass(frozen=True)
class IntegrationScores(Printed):
    """Scores of `scenc.metrics.integration`; prints as a table.

    Attributes
    ----------
    ilisi, graph_connectivity, batch_asw
        How well batches mix. All scores are floats, higher is better, NaN where undefined.
    label_asw, clisi, nmi, ari, isolated_labels_f1, isolated_labels_asw
        How much of the biology is kept.
    reasons
        Why a score is NaN, for each that is: name -> reason.
    notes
        Remarks on the numbers, in sentences.
    n_cells, n_batches, n_labels
        Numbers of cells, batches and labels that were scored.
    n_unlabelled, n_unbatched
        Number of cells left out because they had no label, or no batch.
    isolated_labels
        The labels that are in the fewest batches, or in at most ``iso_threshold``.
    resolution
        Leiden resolution with the best NMI, which ARI is taken at.
    seconds
        Time spent on each score and on each thing that several scores share.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> labels = np.repeat(["B", "T"], 100)
    >>> cells = rng.normal(size=(200, 2)) + 99 * (labels == "T")[:, None]
    >>> scores = scenc.metrics.integration(
    ...     cells, np.arange(200) % 2, labels, metrics=["nmi", "ari"]
    ... )
    >>> scores.nmi, scores.ari, scores.n_batches
    (1.0, 1.0, 2)
    >>> scores.reasons["ilisi"]
    'not asked for'
    """

    ilisi: float
    graph_connectivity: float
    batch_asw: float
    label_asw: float
    clisi: float
    nmi: float
    ari: float
    isolated_labels_f1: float
    isolated_labels_asw: float
    reasons: Mapping[str, str]
    notes: tuple[str, ...]
    n_cells: int
    n_batches: int
    n_labels: int
    n_unlabelled: int
    n_unbatched: int
    isolated_labels: tuple[str, ...]
    resolution: float
    seconds: Mapping[str, float] = field(repr=False, compare=False)

    @property
    def batch_correction(self) -> float:
        """Mean of the defined scores among iLISI, graph connectivity and batch ASW."""
        return self._mean(BATCH_CORRECTION)

    @property
    def bio_preservation(self) -> float:
        """Mean of the defined scores among the six that measure preservation of biology."""
        return self._mean(BIO_PRESERVATION)

    @property
    def n_batch_correction(self) -> int:
        """How many of the three scores of batch correction are defined."""
        return len(self._defined(BATCH_CORRECTION))

    @property
    def n_bio_preservation(self) -> int:
        """How many of the six scores of biological preservation are defined."""
        return len(self._defined(BIO_PRESERVATION))

    def to_dict(self) -> dict[str, float]:
        """Return the two means and the nine scores, by name, as plain floats."""
        return {name: float(getattr(self, name)) for name in TITLES}

    def to_series(self) -> pd.Series[float]:
        """Return the two means and the nine scores, indexed by name."""
        return pd.Series(self.to_dict(), name="score")

    def _defined(self, names: Sequence[str]) -> list[float]:
        return [value for name in names if not math.isnan(value := getattr(self, name))]

    def _mean(self, names: Sequence[str]) -> float:
        values = self._defined(names)
        return sum(values) / len(values) if values else math.nan

    def _header(self) -> str:
        text = f"{self.n_cells:,} cells, {self.n_batches} batches, {self.n_labels} labels"
        if self.n_unlabelled:
            text += f", {self.n_unlabelled:,} cells without label left out"
        if self.n_unbatched:
            text += f", {self.n_unbatched:,} cells without batch left out"
        return text

    def _table(self) -> PrintedTable:
        rows = []
        for name, value in self.to_dict().items():
            remark = self.reasons.get(name, "")
            if name == "batch_correction":
                remark = f"mean of {self.n_batch_correction} of {len(BATCH_CORRECTION)}"
            elif name == "bio_preservation":
                remark = f"mean of {self.n_bio_preservation} of {len(BIO_PRESERVATION)}"
            elif name == "ari" and not math.isnan(value):
                remark = f"at Leiden resolution {self.resolution:g}"
            elif name == "isolated_labels_f1" and not math.isnan(value):
                remark = list_some(self.isolated_labels, 5)
            # The two means stand above the scores that they average.
            title = TITLES[name] if name.endswith("tion") else f"  {TITLES[name]}"
            text = "-" if math.isnan(value) else f"{value:.3f}"
            rows.append((title, f"{text:>6}", remark))
        notes = [f"Note: {note}." for note in self.notes]
        return PrintedTable(self._header(), rows, "<><", notes=notes)


def integration(
    embedding: ArrayLike,
    batch: ArrayLike | None,
    labels: ArrayLike | None,
    *,
    metrics: Collection[str] | None = None,
    n_neighbors: int = 15,
    lisi_neighbors: int = 90,
    resolutions: Sequence[float] = RESOLUTIONS,
    leiden: str = "igraph",
    iso_threshold: int | None = None,
    missing: Collection[str] = MISSING,
    seed: int = 0,
) -> IntegrationScores:
    """Score how well an embedding mixes batches and keeps biology, as scib does.

    All scores share one neighbour search, one graph, one set of Leiden clusterings and one set
    of silhouettes. They do not depend on the order of the cells.

    Parameters
    ----------
    embedding
        Shape ``(n_cells, n_dims)``.
    batch
        Batch of each cell, shape ``(n_cells,)``, or None.
    labels
        Label (cell type) of each cell, shape ``(n_cells,)``, or None.
        Cells without a label, or without a batch, are left out of every score and counted.
    metrics
        Names of the scores wanted, from ``BATCH_CORRECTION`` and ``BIO_PRESERVATION``;
        the others are NaN. None: all nine.
    n_neighbors
        Number of neighbours in the graph behind graph connectivity and clusters, the cell itself
        included.
    lisi_neighbors
        Number of neighbours behind iLISI and cLISI, the cell itself included.
    resolutions
        Leiden resolutions that NMI and isolated-label F1 choose from.
    leiden
        ``"igraph"``, or ``"leidenalg"``, which scib uses; see `scenc.metrics.nmi`.
    iso_threshold
        A label is isolated if it is in at most this many batches. None: the labels that are in
        the fewest batches are isolated.
    missing
        Names in ``labels`` that stand for "no label", beside NaN, None and NA themselves.
    seed
        Of the clusterings.

    Returns
    -------
    The nine scores and the two means; what is undefined is NaN with its reason.

    Raises
    ------
    TypeError, ValueError
        If the arrays do not fit together, the embedding has NaN or infinite values (the message
        names the first such row), or an argument is not known.

    Notes
    -----
    The scores are those of Luecken et al., Nature Methods 2022,
    doi:10.1038/s41592-021-01336-8. The group means are those of the encoding benchmark that this
    package implements: batch correction is the mean of iLISI, graph connectivity and batch ASW;
    biological preservation that of label ASW, cLISI, NMI, ARI, isolated-label F1 and
    isolated-label silhouette. A mean is taken over the scores that are defined, so that a data
    set of one batch still has a score; compare means over equally many scores only.

    Examples
    --------
    >>> import numpy as np
    >>> from scenc.metrics import integration
    >>> rng = np.random.default_rng(0)
    >>> labels = np.repeat(["B", "T", "rare"], 100)
    >>> cells = rng.normal(size=(300, 2)) + 99 * np.repeat([0, 1, 2], 100)[:, None]
    >>> batch = np.where(labels == "rare", 0, np.arange(300) % 2)
    >>> scores = integration(cells, batch, labels)
    >>> round(scores.bio_preservation, 2), scores.isolated_labels
    (1.0, ('rare',))
    >>> integration(cells, None, labels, metrics=["ilisi"]).reasons["ilisi"]
    'no batch given'
    """
    wanted = list(_SCORERS) if metrics is None else [*metrics]
    for name in wanted:
        choose(name, _SCORERS, "metrics")
    choose(leiden, ("igraph", "leidenalg"), "leiden")
    options = Options(n_neighbors, lisi_neighbors, resolutions, leiden, iso_threshold, seed)
    cells = prepare(embedding, batch, labels, missing=missing, options=options)

    scores = {}
    seconds = {}
    for name, scorer in _SCORERS.items():
        if name in wanted:
            start, shared = perf_counter(), sum(cells.seconds.values())
            scores[name] = scorer(cells)
            spent_on_shared = sum(cells.seconds.values()) - shared
            seconds[name] = perf_counter() - start - spent_on_shared
        else:
            scores[name] = Score.undefined("not asked for")

    clustered = not math.isnan(scores["nmi"]) or not math.isnan(scores["ari"])
    return IntegrationScores(
        **{name: float(score) for name, score in scores.items()},
        reasons={name: score.reason for name, score in scores.items() if score.reason},
        notes=_notes(cells, wanted),
        n_cells=cells.n_cells,
        n_batches=len(cells.batch) if cells.batch else 0,
        n_labels=len(cells.labels) if cells.labels else 0,
        n_unlabelled=cells.n_unlabelled,
        n_unbatched=cells.n_unbatched,
        isolated_labels=isolated_label_names(cells),
        resolution=best_resolution(cells) if clustered else math.nan,
        seconds=cells.seconds | seconds,
    )


def _notes(cells: EmbeddedCells, wanted: Collection[str]) -> tuple[str, ...]:
    notes = []
    if cells.n_cells < cells.options.lisi_neighbors and {"ilisi", "clisi"} & {*wanted}:
        notes.append(
            f"LISI looks at {cells.n_cells} neighbours, all cells there are, "
            f"in place of {cells.options.lisi_neighbors}"
        )
    if cells.labels is not None:
        single = [
            name
            for name, size in zip(cells.labels.names, cells.labels.sizes, strict=True)
            if size == 1
        ]
        if single:
            notes.append(
                f"labels with a single cell ({', '.join(map(repr, single))}) count with "
                f"silhouette 0 in label ASW and with 1 in graph connectivity, and are left out "
                f"of isolated-label silhouette"
            )
    return tuple(notes)
