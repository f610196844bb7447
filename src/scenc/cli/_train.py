"""``scenc train`` and ``scenc embed``: models of files of cells."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from scenc._distributed import is_first
from scenc._paths import (
    STORE_CARD,
    is_store,
    output_paths,
    refuse_store,
    require_files,
    require_model,
)
from scenc.cli import _options as options

# What is decided when a store is built.
_OF_STORES = ("layer", "gene_ids", "genes", "batch_key", "labels_key", "split_by",
              "validation_size", "check")  # fmt: skip
_NO_MODEL = "name the one that a model was saved in, or the --revision of a repository"
_FLAG_VALUES = ("true", "false", "yes", "no", "1", "0")


def train(
    context: typer.Context,
    files: options.Files,
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for the model.")],
    gene_encoder: Annotated[
        str,
        typer.Option(help="learned or protein.", callback=options.one_of("learned", "protein")),
    ] = "learned",
    expression_encoder: options.ExpressionEncoder = "soft",
    preset: Annotated[
        str,
        typer.Option(
            help="small, base or paper.", callback=options.one_of("small", "base", "paper")
        ),
    ] = "small",
    objective: Annotated[
        str | None,
        typer.Option(
            help="generative or contrastive (in memory), or masked (streamed); default: the "
            "preset's.",
            callback=options.one_of("generative", "contrastive", "masked"),
        ),
    ] = None,
    protein_embeddings: Annotated[
        Path | None, typer.Option(help="Gene vectors for --gene-encoder protein.")
    ] = None,
    layer: options.Layer = None,
    gene_ids: options.GeneIds = None,
    genes: options.Genes = "union",
    batch_key: options.BatchKey = None,
    labels_key: options.LabelsKey = None,
    split_by: options.SplitBy = "cell",
    validation_size: options.ValidationSize = 0.1,
    max_epochs: Annotated[int | None, typer.Option(min=1, help="Passes over the cells.")] = None,
    cell_visits: Annotated[
        int | None,
        typer.Option(min=1, help="Cells to train on, each visit counted; not with --max-epochs."),
    ] = None,
    batch_size: Annotated[int | None, typer.Option(min=1, help="Cells a batch and device.")] = None,
    accumulate: Annotated[
        int | None, typer.Option(min=1, help="Batches whose gradients make one optimizer step.")
    ] = None,
    devices: Annotated[int, typer.Option(min=1, help="GPUs or processes of each machine.")] = 1,
    nodes: Annotated[int, typer.Option(min=1, help="Number of machines.")] = 1,
    strategy: Annotated[str, typer.Option(help="Lightning's, such as ddp.")] = "auto",
    precision: Annotated[str, typer.Option(help="Lightning's; auto: FP16 on a GPU.")] = "auto",
    checkpoint_every: Annotated[int, typer.Option(min=1, help="Steps between checkpoints.")] = 500,
    resume: Annotated[
        bool, options.flag("--resume", help="Go on with a training that was broken off.")
    ] = False,
    check: options.Check = "all",
    seed: Annotated[int, typer.Option(help="Seed of split, order, weights and draws.")] = 0,
    overwrite: Annotated[
        bool,
        options.flag(
            "--overwrite",
            help="Train anew, and replace the model and checkpoints that are there; with --resume "
            "only those of a training that has ended.",
        ),
    ] = False,
) -> None:
    """Train a model on files of cells, or on one store of them, and save it."""
    _require_inputs(files)
    if max_epochs is not None and cell_visits is not None:
        raise ValueError(
            "Give --max-epochs or --cell-visits, not both: each says how long to train."
        )
    _refuse_unused_vectors(gene_encoder, protein_embeddings)
    if len(files) == 1 and is_store(files[0]):
        _refuse_for_store(context, files[0], batch_key, labels_key)
    else:
        for file in files:
            refuse_store(file, "train on it by itself, without further files")
    layers = options.layers(layer, files)
    checkpoints = out.with_name(f"{out.name}.checkpoints")
    resume = _choose_start(out, checkpoints / "last.ckpt", resume, overwrite)
    import scenc

    cells = _open(
        files,
        layer=layers,
        gene_ids=gene_ids,
        genes=genes,
        batch_key=batch_key,
        labels_key=labels_key,
        split_by=split_by,
        validation_size=validation_size,
        check=check,
        seed=seed,
    )
    typer.echo(f"{cells.n_obs:,} cells; choosing genes and the first weights ...")
    model = scenc.Model(
        gene_encoder=gene_encoder,
        expression_encoder=expression_encoder,
        preset=preset,
        protein_embeddings=protein_embeddings,
        objective=objective,
        datamodule=cells,
        seed=seed,
    )
    sizes = ", ".join(f"{n:,} {split}" for split, n in cells.split_sizes.items())
    visits: dict[str, Any] = {} if cell_visits is None else {"cell_visits": cell_visits}
    typer.echo(f"{sizes} cells, {len(model.vocabulary):,} genes; preparing batches ...")
    model.train(
        max_epochs=max_epochs,
        batch_size=batch_size,
        accumulate_grad_batches=accumulate,
        devices=devices,
        num_nodes=nodes,
        strategy=strategy,
        precision=precision,
        checkpoint_dir=checkpoints,
        checkpoint_every=checkpoint_every,
        resume=resume,
        overwrite=overwrite and not resume,
        logger="csv",
        **visits,
    )
    if is_first():
        model.save(out, overwrite=overwrite)
        typer.echo(f"wrote {out}; checkpoints and curves are in {checkpoints}")


def embed(
    model: Annotated[
        str,
        typer.Argument(help="Folder of a saved model; with --revision a Hugging Face repository."),
    ],
    files: options.Files,
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for the embedded files.")],
    revision: Annotated[
        str | None, typer.Option(help="Commit, tag or branch of the repository MODEL.")
    ] = None,
    layer: options.Layer = None,
    gene_ids: options.GeneIds = None,
    file_format: Annotated[
        str,
        typer.Option("--format", help="h5ad or zarr.", callback=options.one_of("h5ad", "zarr")),
    ] = "h5ad",
    key_added: Annotated[str, typer.Option(help="Where in obsm it goes.")] = "X_scenc",
    batch_size: Annotated[int | None, typer.Option(min=1, help="Cells a batch.")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, ...")] = "auto",
    overwrite: Annotated[bool, options.flag("--overwrite", help="Replace files.")] = False,
) -> None:
    """Embed files of cells by a saved model, each into a file of its own."""
    if revision is None:
        require_model(Path(model), _NO_MODEL)
    _require_inputs(files)
    for file in files:
        refuse_store(file, "embed the files that it was built from")
    layers = options.layers(layer, files)
    output_paths(files, out, file_format, overwrite)
    import torch

    import scenc

    network = scenc.Model.from_pretrained(model, revision)
    chosen = device
    if device == "auto":
        chosen = "cuda" if torch.cuda.is_available() else "cpu"
    network.module.to(chosen)
    written = network.embed_files(
        files,
        out,
        format=file_format,  # type: ignore[arg-type]  # checked above
        key_added=key_added,
        batch_size=batch_size,
        layer=layers,
        gene_ids=gene_ids,
        overwrite=overwrite,
    )
    for path in written:
        typer.echo(f"wrote {path}")


def _require_inputs(files: list[str]) -> None:
    """Refuse files that are not there, or of another kind."""
    for file in files:
        if file.lower() in _FLAG_VALUES and not Path(file).exists():
            raise ValueError(
                f"{file!r} was taken for a file: options such as --resume and --overwrite take no "
                "value."
            )
    require_files(files)


def _refuse_unused_vectors(gene_encoder: str, vectors: Path | None) -> None:
    if gene_encoder == "protein" and vectors is None:
        raise ValueError("--gene-encoder protein needs --protein-embeddings, a vector per gene.")
    if gene_encoder != "protein" and vectors is not None:
        raise ValueError("--protein-embeddings cannot apply without --gene-encoder protein.")
    if vectors is not None and not vectors.exists():
        raise FileNotFoundError(f"There is no file {vectors}.")


def _refuse_for_store(
    context: typer.Context, store: str, batch_key: str | None, labels_key: str | None
) -> None:
    """Refuse options about what a store has from its building, unless they say the same."""
    try:
        card = json.loads((Path(store) / STORE_CARD).read_text(encoding="utf-8"))
        has = {"batch_key": card["batch_key"], "labels_key": card["labels_key"]}
    except (ValueError, KeyError, TypeError, RecursionError):
        return  # `CellStore` says what is damaged
    wanted = {"batch_key": batch_key, "labels_key": labels_key}
    others = [name for name in _OF_STORES if name not in has or has[name] != wanted[name]]
    keys = ", ".join(
        f"no {what}" if has[key] is None else f"{what} in {has[key]!r}"
        for key, what in (("batch_key", "batches"), ("labels_key", "labels"))
    )
    options.refuse_given(
        context,
        others,
        f"{store} is a store, whose counts, genes, batches, labels and split are those it was "
        f"built with ({keys}). Leave it out, or build another store (scenc data build).",
    )


def _choose_start(out: Path, checkpoint: Path, resume: bool, overwrite: bool) -> bool:
    """Return whether to go on from a checkpoint, where the user is clear about what is there.

    Raises
    ------
    FileExistsError
        There is something that neither ``--resume`` nor ``--overwrite`` was said of.
    """
    model, written = out / "model.json", checkpoint.is_file()
    # A model is saved after the last checkpoint of its training.
    broken_off = written and not (
        model.is_file() and model.stat().st_mtime_ns >= checkpoint.stat().st_mtime_ns
    )
    if model.is_file() and not overwrite:
        go_on = "; with --resume, to go on with the training that was broken off"
        raise FileExistsError(
            f"{out} has a model: pass --overwrite to train anew and replace it"
            f"{go_on if broken_off else ''}."
        )
    if out.exists() and not model.is_file():
        raise FileExistsError(f"{out} exists and holds no scenc model: name another --out.")
    if written and not resume and not overwrite:
        raise FileExistsError(
            f"{checkpoint} is of a training that was broken off: pass --resume to go on with it, "
            "or --overwrite to train anew."
        )
    return resume and (broken_off or not overwrite)


def _open(files: list[str], **settings: Any) -> Any:
    """Open files, or the one store."""
    from scenc import data

    if len(files) == 1 and is_store(files[0]):
        return data.CellStore(files[0], seed=settings["seed"])
    return data.CellFiles(files, **settings)
