"""``scenc train`` and ``scenc embed``: models of files of cells."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from scenc._distributed import is_first
from scenc.cli import _options as options


def train(
    files: options.Files,
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for the model.")],
    gene_encoder: Annotated[str, typer.Option(help="learned or protein.")] = "learned",
    expression_encoder: options.ExpressionEncoder = "soft",
    preset: Annotated[str, typer.Option(help="small, base or paper.")] = "small",
    objective: Annotated[
        str | None,
        typer.Option(help="contrastive (in memory) or masked (streamed); default: the preset's."),
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
    max_epochs: Annotated[int | None, typer.Option(help="Passes over the cells.")] = None,
    batch_size: Annotated[int | None, typer.Option(help="Cells a batch and device.")] = None,
    accumulate: Annotated[
        int | None, typer.Option(help="Batches whose gradients make one optimizer step.")
    ] = None,
    devices: Annotated[int, typer.Option(help="GPUs or processes of each machine.")] = 1,
    nodes: Annotated[int, typer.Option(help="Number of machines.")] = 1,
    strategy: Annotated[str, typer.Option(help="Lightning's, such as ddp.")] = "auto",
    precision: Annotated[str, typer.Option(help="Lightning's; auto: FP16 on a GPU.")] = "auto",
    checkpoint_every: Annotated[int, typer.Option(help="Steps between checkpoints.")] = 500,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with a training that was broken off.")
    ] = False,
    check: options.Check = "all",
    seed: Annotated[int, typer.Option(help="Seed of split, order, weights and draws.")] = 0,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a model.")] = False,
) -> None:
    """Train a model on files of cells, and save it."""
    if (out / "model.json").exists() and not overwrite:
        raise FileExistsError(f"{out} has a model: pass --overwrite to replace it.")
    import scenc

    cells = _open(
        files,
        layer=layer,
        gene_ids=gene_ids,
        genes=genes,
        batch_key=batch_key,
        labels_key=labels_key,
        split_by=split_by,
        validation_size=validation_size,
        check=check,
        seed=seed,
    )
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
    typer.echo(f"{cells.n_obs:,} cells ({sizes}), {len(model.vocabulary):,} genes")
    checkpoints = out.with_name(f"{out.name}.checkpoints")
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
        logger="csv",
    )
    if is_first():
        model.save(out, overwrite=overwrite)
        typer.echo(f"wrote {out}; checkpoints and curves are in {checkpoints}")


def embed(
    model: Annotated[Path, typer.Argument(help="Folder of a saved model.")],
    files: options.Files,
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for the embedded files.")],
    layer: options.Layer = None,
    gene_ids: options.GeneIds = None,
    file_format: Annotated[str, typer.Option("--format", help="h5ad or zarr.")] = "h5ad",
    key_added: Annotated[str, typer.Option(help="Where in obsm it goes.")] = "X_scenc",
    batch_size: Annotated[int | None, typer.Option(help="Cells a batch.")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, ...")] = "auto",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace files.")] = False,
) -> None:
    """Embed files of cells by a saved model, each into a file of its own."""
    import torch

    import scenc

    network = scenc.Model.load(model)
    chosen = device
    if device == "auto":
        chosen = "cuda" if torch.cuda.is_available() else "cpu"
    network.module.to(chosen)
    written = network.embed_files(
        files,
        out,
        format=file_format,  # type: ignore[arg-type]  # checked there
        key_added=key_added,
        batch_size=batch_size,
        layer=layer,
        gene_ids=gene_ids,
        overwrite=overwrite,
    )
    for path in written:
        typer.echo(f"wrote {path}")


def _open(files: list[Path], **settings: Any) -> Any:
    """Open files, or the one store."""
    from scenc import data
    from scenc.data.store import CARD

    if len(files) == 1 and (files[0] / CARD).is_file():
        return data.CellStore(files[0], seed=settings["seed"])
    return data.CellFiles(files, **settings)
