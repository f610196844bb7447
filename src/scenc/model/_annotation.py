"""What a model says of new cells beside a reference: their types, and their place on its map."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd
from anndata import AnnData
from mudata import MuData
from scvi.model.base import BaseModelClass
from tqdm.auto import tqdm

from scenc import __version__
from scenc._printing import list_some
from scenc.io import column_names, group_names, weights_digest
from scenc.model._aligned_counts import require_data, rna_of
from scenc.model._inference import apply_to_cells
from scenc.model._initial import make_tokenizer
from scenc.model._provenance import UNS_KEY
from scenc.tasks import (
    UNKNOWN_LABEL,
    LabelClassifier,
    majority,
    map_to_reference,
    over_clusters,
)

if TYPE_CHECKING:
    import os
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from scenc.nn import CellTransformer, ModelConfig

# Cells that are embedded between two moves of the progress bar.
_CELLS_AT_ONCE = 2048
_UMAP, _JOINT = "X_umap", "X_umap_joint"
_KINDS = (AnnData, MuData)


class AnnotationMixin(BaseModelClass):
    """The methods of a model that lay a query beside a reference."""

    config: ModelConfig
    module: CellTransformer
    registry_: dict[str, Any]
    _adata: AnnData | MuData | None

    def fit_classifier(
        self,
        reference: AnnData | MuData | None = None,
        labels_key: str = "cell_type",
        method: Literal["logreg", "knn"] = "logreg",
        *,
        batch_key: str | None = None,
        use_rep: str | None = None,
        batch_size: int | None = None,
        progress: bool = True,
        **settings: Any,
    ) -> LabelClassifier:
        """Fit a classifier of cell types to the embedding of a labelled reference.

        Parameters
        ----------
        reference
            Cells with labels; ``None``: the data that the model was made with. Cells whose label is
            missing are left out, with a warning.
        labels_key
            Column of obs with the labels.
        method
            ``"logreg"``: logistic regression; ``"knn"``: the nearest cells vote.
        batch_key
            Column of obs with the batches, which are held out in turn for calibration; ``None``:
            the column that the model was set up with, if the reference has it.
        use_rep
            Key of obsm under which this model's embedding of the cells already is, as
            `get_latent_representation` writes ``"X_scenc"``; data without it are embedded.
            ``None``: all are embedded.
        batch_size
            Cells per batch; changes speed and memory only.
        progress
            Whether to show progress.
        **settings
            Further arguments of `scenc.tasks.LabelClassifier.fit`.

        Returns
        -------
        The classifier. ``classifier.save("pbmc_model/classifiers/cell_type")`` puts it where
        ``scenc annotate`` looks for it.

        Raises
        ------
        RuntimeError
            The model is not trained.
        KeyError
            The reference has no such column.
        ValueError
            There is no reference, it has fewer than two types, or its counts are unusable.

        Examples
        --------
        >>> classifier = model.fit_classifier(reference, labels_key="cell_type")
        >>> classifier.save("pbmc_model/classifiers/cell_type")
        """
        self._require_trained()
        data = self._reference(reference)
        labels = self._column(data, labels_key, "reference", "labels_key")
        batches = self._reference_batches(data, batch_key)
        cells = self._embedding(data, use_rep, "reference", batch_size, progress)
        classifier = LabelClassifier.fit(
            cells,
            labels,
            batches,
            method=method,
            labels_key=labels_key,
            model=self._fingerprint(),
            progress=progress,
            **settings,
        )
        if classifier.n_unlabelled:
            warnings.warn(
                f"{classifier.n_unlabelled:,} of {len(labels):,} cells of the reference have no "
                f"label in obs[{labels_key!r}], or no counts, and are left out.",
                UserWarning,
                stacklevel=2,
            )
        return classifier

    def annotate(
        self,
        query: AnnData | MuData | None = None,
        reference: AnnData | MuData | None = None,
        labels_key: str = "cell_type",
        method: Literal["logreg", "knn"] = "logreg",
        unknown_threshold: float | None = None,
        majority_voting: bool | str | None = None,
        *,
        distance_threshold: float | None = None,
        classifier: LabelClassifier | str | os.PathLike[str] | None = None,
        key_added: str | None = None,
        batch_key: str | None = None,
        use_rep: str | None = None,
        batch_size: int | None = None,
        progress: bool = True,
        **settings: Any,
    ) -> pd.DataFrame:
        """Name the types of cells after a labelled reference, and say how sure it is.

        Both are embedded by the model, whose training needs neither. What is written into the query
        is named after `labels_key` or `key_added`:

        - ``obs["cell_type_pred"]``: the type, or "Unknown";
        - ``obs["cell_type_conf"]``: the calibrated probability of the most probable type;
        - ``obs["cell_type_ref_dist"]``: how far the cell is from the reference, as a percentile of
          the distances of the reference's cells to its other batches (to its other cells, where
          there is one batch);
        - ``obs["cell_type_majority"]``: with `majority_voting`, the type of most cells of its
          cluster;
        - ``obsm["cell_type_prob"]``: the probability of each type, as a DataFrame (a slash in a
          type's name is ``|`` there, as files cannot hold it);
        - ``uns["scenc"]["annotate"]["cell_type"]``: settings and version.

        Parameters
        ----------
        query
            Cells to name; ``None``: those that the model was made with.
        reference, labels_key, method, batch_key, use_rep, batch_size, **settings
            As in `fit_classifier`.
        unknown_threshold
            Cells with less confidence are called "Unknown"; ``None``: the classifier's, 0.5 by
            default. 0: none is.
        majority_voting
            ``True``: cells of the query are clustered (Leiden, many small clusters), and each
            cluster gets the name that most of its cells have. The name of a column of obs: its
            groups are the clusters. ``None``: no vote.
        distance_threshold
            Cells farther away than this percentile are called "Unknown"; ``None``: the
            classifier's. 100: none is.
        classifier
            One that was fitted before, or the folder in which it was saved, instead of a reference.
        key_added
            Beginning of the names of what is written; ``None``: `labels_key`.
        progress
            Whether to show progress.

        Returns
        -------
        What was written to obs, one row per cell.

        Raises
        ------
        RuntimeError
            The model is not trained.
        KeyError
            The reference has no such column, or the query none for `majority_voting`.
        TypeError
            A classifier is given beside what would fit another.
        ValueError
            The query has columns of these names that `annotate` did not write; it is a view; the
            classifier is of another model; or as in `fit_classifier`.

        Examples
        --------
        >>> model.annotate(query, reference, labels_key="cell_type")
        >>> query.obs[["cell_type_pred", "cell_type_conf"]]
        """
        self._require_trained()
        if classifier is not None:
            given = {"reference": reference, "batch_key": batch_key, **settings}
            _refuse_beside_classifier({name: v for name, v in given.items() if v is not None})
            classifier = self._own_classifier(classifier)
            labels_key = labels_key if labels_key != "cell_type" else classifier.labels_key
        target = self._target(query)
        key = key_added or labels_key or "cell_type"
        if "/" in key:
            raise ValueError(
                f"{key!r} has a slash, which files cannot hold: pass key_added=... without one."
            )
        columns = [f"{key}_pred", f"{key}_conf", f"{key}_ref_dist"]
        columns += [f"{key}_majority"] if majority_voting else []
        _refuse_overwriting(target, key, columns, [f"{key}_prob"])
        clusters = None
        if isinstance(majority_voting, str):
            clusters = self._column(target, majority_voting, "query", "majority_voting")
        if classifier is None:
            classifier = self.fit_classifier(
                reference,
                labels_key,
                method,
                batch_key=batch_key,
                use_rep=use_rep,
                batch_size=batch_size,
                progress=progress,
                **settings,
            )
        cells = self._embedding(target, use_rep, "query", batch_size, progress)
        found = classifier.predict(
            cells, unknown_threshold=unknown_threshold, distance_threshold=distance_threshold
        )
        named = [*classifier.classes, UNKNOWN_LABEL]
        result = pd.DataFrame(
            {
                columns[0]: pd.Categorical(found.labels, named),
                columns[1]: found.confidence,
                columns[2]: found.distance,
            },
            index=target.obs_names,
        )
        if majority_voting:
            groups = over_clusters(cells, classifier.seed) if clusters is None else clusters
            result[columns[3]] = pd.Categorical(majority(found.labels, groups), named)
        record = _record(classifier, unknown_threshold, distance_threshold, majority_voting)
        _write(target, key, result, found.probabilities, classifier.classes, record)
        return result

    def map(
        self,
        query: AnnData | MuData,
        reference: AnnData | MuData | None = None,
        *,
        n_neighbors: int = 15,
        batch_key: str | None = None,
        use_rep: str | None = None,
        batch_size: int | None = None,
        seed: int = 0,
        progress: bool = True,
    ) -> None:
        """Lay a query on the map of a reference, and score how well each cell is at home there.

        Both are embedded by the model. Where the reference has ``obsm["X_umap"]``, that is the map,
        and a query cell goes to the weighted mean of its nearest cells' coordinates; else a UMAP is
        fitted to the reference's embedding, and umap-learn's transform places the query on it.
        Either way no cell of the reference moves. Written are

        - ``obsm["X_umap_joint"]`` of both: coordinates on the one map;
        - ``obs["mapping_score"]`` of the query, above 0 and up to 1: the share of the reference's
          cells that are at least as far from its other batches (other cells, where there is one
          batch) as this cell is from the reference; see `scenc.tasks.map_to_reference`. Cells that
          are like the reference have scores spread evenly from 0 to 1; what the reference has not
          has scores near 0;
        - ``uns["scenc"]["map"]`` of both: settings, version, and how the query was placed.

        Parameters
        ----------
        query
            Cells to lay on the map.
        reference
            The cells of the map; ``None``: those that the model was made with.
        n_neighbors
            Number of nearest cells of the reference, for the place and the score.
        batch_key, use_rep, batch_size
            As in `fit_classifier`.
        seed
            Of the UMAP and of the search for neighbours.
        progress
            Whether to show progress.

        Raises
        ------
        RuntimeError
            The model is not trained.
        ValueError
            What is to be written is there already and `map` did not write it; the query is the
            reference, or a view; or as in `get_latent_representation`.

        Examples
        --------
        >>> model.map(query, reference)
        >>> scenc.pl.mapping(reference, query, color="cell_type")
        """
        self._require_trained()
        data, target = self._reference(reference), self._target(query)
        if data is target:
            raise ValueError(
                "The query is the reference itself: name the cells of the map with reference=..."
            )
        for one, whose in ((data, "reference"), (target, "query")):
            _refuse_view(one, whose)
            columns = ["mapping_score"] if one is target else []
            _refuse_overwriting(one, "map", columns, [_JOINT], verb="map", whose=whose)
        coordinates = _own_map(data)
        if coordinates is None and isinstance(data, MuData):
            coordinates = _own_map(rna_of(data, self._setup_args))
        batches = self._reference_batches(data, batch_key)
        known = self._embedding(data, use_rep, "reference", batch_size, progress)
        new = self._embedding(target, use_rep, "query", batch_size, progress)
        with tqdm(total=1, desc="Mapping", delay=2, disable=not progress) as bar:
            mapping = map_to_reference(
                known, new, coordinates, batches, n_neighbors=n_neighbors, seed=seed
            )
            bar.update()
        settings = {
            "scenc": __version__,
            "model": self._fingerprint(),
            "n_neighbors": n_neighbors,
            "seed": seed,
            "placed_by": mapping.placed_by,
        }
        data.obsm[_JOINT], target.obsm[_JOINT] = mapping.reference, mapping.query
        target.obs["mapping_score"] = mapping.score
        _notes(data)["map"] = {**settings, "written": [_JOINT]}
        _notes(target)["map"] = {**settings, "written": [_JOINT, "mapping_score"]}

    def _reference(self, reference: AnnData | MuData | None) -> AnnData | MuData:
        data = self._adata if reference is None else reference
        if data is None:
            raise ValueError(
                "The model has no cells of its own to take as reference: pass reference=..., or a "
                "saved classifier to annotate (classifier=...). Of files that model.embed_files "
                "wrote, read one or several and pass use_rep='X_scenc'."
            )
        require_data(data, "reference", *_KINDS)
        return data

    def _target(self, query: AnnData | MuData | None) -> AnnData | MuData:
        target = self._adata if query is None else query
        if target is None:
            raise ValueError("The model has no cells of its own: pass the cells to name (query).")
        require_data(target, "query", *_KINDS)
        _refuse_view(target, "query")
        return target

    def _column(self, data: AnnData | MuData, key: str, whose: str, argument: str) -> Any:
        """Return a column of obs, which may be that of the modality with the counts."""
        frames = [data.obs]
        if isinstance(data, MuData):
            frames.append(rna_of(data, self._setup_args).obs)
        for frame in frames:
            if key in frame:
                return frame[key].to_numpy(dtype=object)
        there = list_some(column_names(data.obs), 10) or "none"
        raise KeyError(
            f"{whose}.obs has no column {key!r} (there: {there}); name yours with {argument}=..."
        )

    def _reference_batches(
        self, data: AnnData | MuData, batch_key: str | None
    ) -> NDArray[np.object_] | None:
        """Return the batches of the reference's cells, or None if there are none to be found."""
        if batch_key is None:
            own = self._setup_args.get("batch_key")
            try:
                values = None if own is None else self._column(data, own, "reference", "batch_key")
            except KeyError:
                values = None
        else:
            values = self._column(data, batch_key, "reference", "batch_key")
        if values is None:
            return None
        # Cells without a batch are one of their own.
        names = pd.Categorical(values)
        groups: NDArray[np.object_] = np.append(group_names(names.categories), "")[names.codes]
        return groups

    def _embedding(
        self,
        data: AnnData | MuData,
        use_rep: str | None,
        whose: str,
        batch_size: int | None,
        progress: bool,
    ) -> NDArray[np.float32]:
        """Embed all cells, or take their embedding from obsm."""
        if use_rep is not None and use_rep in data.obsm:
            there = np.asarray(data.obsm[use_rep], dtype=np.float32)
            if there.ndim != 2 or there.shape[1] != self.config.d_model:
                raise ValueError(
                    f"{whose}.obsm[{use_rep!r}] has shape {there.shape}; this model's embedding "
                    f"has {self.config.d_model} dimensions."
                )
            return there
        cells, rows = self._query(data, None)
        tokenizer = make_tokenizer(self.config)
        parts, n_empty = [], 0
        with tqdm(
            total=len(rows), desc=f"Embedding the {whose}", unit="cell", delay=2,
            disable=not progress,
        ) as bar:  # fmt: skip
            for start in range(0, len(rows), _CELLS_AT_ONCE):
                some = rows[start : start + _CELLS_AT_ONCE]
                values, empty = apply_to_cells(
                    self.module.embed_cells, self.config.d_model, self.module, cells, some,
                    tokenizer, batch_size,
                )  # fmt: skip
                parts.append(values)
                n_empty += len(empty)
                bar.update(len(some))
        if n_empty:
            warnings.warn(
                f"{n_empty:,} cells of the {whose} have no counts in the model's genes.",
                UserWarning,
                stacklevel=3,
            )
        return np.concatenate(parts)

    def _fingerprint(self) -> str:
        """Return what tells this model's weights from others, as ``weights_sha256`` in uns does."""
        return weights_digest(self.module.state_dict())

    def _own_classifier(
        self, classifier: LabelClassifier | str | os.PathLike[str]
    ) -> LabelClassifier:
        if not isinstance(classifier, LabelClassifier):
            classifier = LabelClassifier.load(Path(classifier))
        if classifier.model and classifier.model != self._fingerprint():
            raise ValueError(
                "The classifier was fitted to the embeddings of another model, or of this one "
                "before it was trained further: fit it again (model.fit_classifier)."
            )
        return classifier


def _refuse_beside_classifier(given: dict[str, Any]) -> None:
    if given:
        raise TypeError(
            f"{' and '.join(given)} would fit another classifier: give either classifier=... or "
            "these."
        )


def _refuse_view(data: AnnData | MuData, whose: str) -> None:
    if getattr(data, "is_view", False):
        raise ValueError(f"The {whose} is a view, into which nothing is written: use .copy().")


def _notes(data: AnnData | MuData) -> dict[str, Any]:
    """Return ``uns["scenc"]``, made if it is not there."""
    notes = data.uns.setdefault(UNS_KEY, {})
    if not hasattr(notes, "setdefault"):
        raise ValueError(
            "uns['scenc'] is taken by something else: rename it (adata.uns['other'] = "
            "adata.uns.pop('scenc'))."
        )
    own: dict[str, Any] = notes
    return own


def _refuse_overwriting(
    data: AnnData | MuData,
    key: str,
    columns: Sequence[str],
    arrays: Sequence[str],
    *,
    verb: str = "annotate",
    whose: str = "query",
) -> None:
    """Refuse to replace what the user has, and not an earlier call."""
    noted = data.uns.get(UNS_KEY, {})
    noted = noted.get(verb, {}) if hasattr(noted, "get") else {}
    noted = noted if verb == "map" else noted.get(key, {})
    ours = {str(name) for name in noted.get("written", ())}
    taken = [f"obs[{name!r}]" for name in columns if name in data.obs and name not in ours]
    taken += [f"obsm[{name!r}]" for name in arrays if name in data.obsm and name not in ours]
    if taken:
        remedy = "pass key_added=..., or rename it" if verb == "annotate" else "rename it"
        raise ValueError(
            f"The {whose} has {' and '.join(taken)} already, which {verb} did not write: {remedy}."
        )
    # Before work is lost.
    if UNS_KEY in data.uns:
        _notes(data)


def _own_map(data: AnnData | MuData) -> NDArray[np.float32] | None:
    """Return the UMAP that data have, if it is a plane."""
    if _UMAP not in data.obsm:
        return None
    coordinates = np.asarray(data.obsm[_UMAP], dtype=np.float32)
    return coordinates if coordinates.ndim == 2 and coordinates.shape[1] == 2 else None


def _record(
    classifier: LabelClassifier,
    unknown_threshold: float | None,
    distance_threshold: float | None,
    majority_voting: bool | str | None,
) -> dict[str, Any]:
    """Return settings as values that an .h5ad file can hold."""
    least = classifier.unknown_threshold if unknown_threshold is None else unknown_threshold
    most = classifier.distance_threshold if distance_threshold is None else distance_threshold
    return {
        "scenc": __version__,
        "model": classifier.model,
        "labels_key": classifier.labels_key,
        "method": classifier.method,
        "classes": list(classifier.classes),
        "n_reference": len(classifier.codes),
        "n_unlabelled": classifier.n_unlabelled,
        "n_batches": classifier.n_batches,
        "n_neighbors": classifier.n_neighbors,
        "temperature": classifier.temperature,
        "unknown_threshold": float(least),
        "distance_threshold": float(most),
        "majority_voting": str(majority_voting or ""),
        "seed": classifier.seed,
    }


def _write(
    target: AnnData | MuData,
    key: str,
    result: pd.DataFrame,
    probabilities: NDArray[np.float32],
    classes: tuple[str, ...],
    record: dict[str, Any],
) -> None:
    for name in result:
        target.obs[name] = result[name]
    # Files of anndata cannot hold a column with a slash in its name.
    columns = pd.Index([name.replace("/", "|") for name in classes])
    table = pd.DataFrame(probabilities, index=target.obs_names, columns=columns)
    target.obsm[f"{key}_prob"] = table
    written = [*result, f"{key}_prob"]
    _notes(target).setdefault("annotate", {})[key] = {**record, "written": written}
