"""``scenc annotate``: types of the cells of a file, after a labelled reference."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from scenc._paths import refuse_store, require_files, require_model
from scenc.cli import _options as options

# Where a classifier lies in a model's folder, by the column of its labels.
CLASSIFIERS = "classifiers"


def annotate(
    context: typer.Context,
    model: Annotated[Path, typer.Argument(help="Folder of a saved model.")],
    query: Annotated[str, typer.Argument(help="File of cells: .h5ad or zarr.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="The .h5ad file to write.")],
    reference: Annotated[
        str | None,
        typer.Option(help="File of cells with labels; default: the classifier that was saved."),
    ] = None,
    labels_key: Annotated[str, typer.Option(help="Column of obs with the labels.")] = "cell_type",
    classifier: Annotated[
        Path | None,
        typer.Option(help="Folder of a saved classifier; default: MODEL/classifiers/LABELS_KEY."),
    ] = None,
    method: Annotated[
        str,
        typer.Option(
            help="logreg (logistic regression) or knn (neighbours vote).",
            callback=options.one_of("logreg", "knn"),
        ),
    ] = "logreg",
    batch_key: options.BatchKey = None,
    unknown_threshold: Annotated[
        float | None,
        typer.Option(min=0, max=1, help="Least confidence of cells that are named."),
    ] = None,
    distance_threshold: Annotated[
        float | None,
        typer.Option(min=0, max=100, help="Largest percentile of the distance of such cells."),
    ] = None,
    majority_voting: Annotated[
        bool, options.flag("--majority-voting", help="Let the cells of small clusters vote.")
    ] = False,
    key_added: Annotated[
        str | None, typer.Option(help="Beginning of the names of columns; default: the labels'.")
    ] = None,
    save_classifier: Annotated[
        bool,
        options.flag("--save-classifier", help="Keep the classifier of --reference with MODEL."),
    ] = False,
    batch_size: Annotated[int | None, typer.Option(min=1, help="Cells a batch.")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, ...")] = "auto",
    overwrite: Annotated[
        bool, options.flag("--overwrite", help="Replace the file, and the classifier.")
    ] = False,
) -> None:
    """Name the types of cells by a saved model, after a reference or a saved classifier."""
    require_model(model)
    files = [query] if reference is None else [query, reference]
    require_files(files)
    for file in files:
        refuse_store(file, "name one of the files that it was built from")
    _check_out(out, files, overwrite)
    place = model / CLASSIFIERS / labels_key
    if reference is None:
        options.refuse_given(
            context,
            ("method", "batch_key", "save_classifier"),
            "these belong to a classifier that is fitted: name a --reference.",
        )
        place = classifier or place
        if not (place / "classifier.json").is_file():
            raise FileNotFoundError(
                f"There is no classifier in {place}: name a --reference with labels, or a "
                "--classifier."
            )
    elif classifier is not None:
        raise ValueError("--classifier cannot apply beside --reference, which fits another.")
    elif save_classifier and place.exists() and not overwrite:
        raise FileExistsError(f"{place} exists; pass --overwrite to replace the classifier there.")
    _run(
        model, query, out, reference, place, labels_key, device,
        save=save_classifier,
        overwrite=overwrite,
        fit={"method": method, "batch_key": batch_key, "batch_size": batch_size},
        name={
            "unknown_threshold": unknown_threshold,
            "distance_threshold": distance_threshold,
            "majority_voting": majority_voting or None,
            "key_added": key_added,
            "batch_size": batch_size,
        },
    )  # fmt: skip


def _run(
    folder: Path,
    query: str,
    out: Path,
    reference: str | None,
    place: Path,
    labels_key: str,
    device: str,
    *,
    save: bool,
    overwrite: bool,
    fit: dict[str, Any],
    name: dict[str, Any],
) -> None:
    """Do it, all arguments being checked."""
    import torch

    import scenc
    from scenc.io import atomic_path
    from scenc.tasks import LabelClassifier

    model = scenc.Model.load(folder)
    model.module.to(device if device != "auto" else "cuda" if torch.cuda.is_available() else "cpu")
    if reference is None:
        classifier = LabelClassifier.load(place)
    else:
        labelled = _read(reference)
        classifier = model.fit_classifier(labelled, labels_key, **fit)
        if save:
            classifier.save(place, overwrite=overwrite)
            typer.echo(f"wrote {place}")
    cells = _read(query)
    result = model.annotate(cells, classifier=classifier, labels_key=labels_key, **name)
    with atomic_path(out) as draft:
        cells.write_h5ad(draft)
    counts = result.iloc[:, 0].value_counts()
    for label, n_cells in counts[counts > 0].items():
        typer.echo(f"{n_cells:>9,}  {label}")
    typer.echo(f"wrote {out}")


def _read(path: str) -> Any:
    """Read a file whole, with all that it has: it is written again with what is added."""
    import anndata

    name = path.rstrip("/")
    if name.endswith(".zarr"):
        return anndata.read_zarr(path)
    if not name.endswith(".h5ad"):
        raise ValueError(f"{path} is neither .h5ad nor .zarr: convert it, or use Python.")
    return anndata.read_h5ad(path)


def _check_out(out: Path, files: list[str], overwrite: bool) -> None:
    if out.suffix != ".h5ad":
        raise ValueError(f"{out}: what is written is an .h5ad file; give it that ending.")
    if any(Path(file).resolve() == out.resolve() for file in files):
        raise ValueError(f"{out} is one of the files to read: name another --out.")
    if out.exists() and not overwrite:
        raise FileExistsError(f"{out} exists; pass --overwrite to replace it.")
