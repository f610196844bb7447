"""``scenc genes``: check the gene names of a file, and compute protein vectors."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from scenc._paths import require_files, require_model
from scenc.cli import _options as options

genes_app = typer.Typer(
    help="Gene identifiers and protein embeddings.", no_args_is_help=True, rich_markup_mode="rich"
)


@genes_app.command()
def check(
    data: Annotated[
        str, typer.Argument(help="A file of cells as for train, or a .txt file of gene names.")
    ],
    model: Annotated[Path | None, typer.Option(help="Folder of a saved model.")] = None,
    protein: Annotated[Path | None, typer.Option(help="File of protein vectors.")] = None,
    gene_ids: Annotated[
        str | None, typer.Option(help="Column of var with the identifiers; default: var_names.")
    ] = None,
) -> None:
    """Print what a file's genes are, and what of a model or a protein file they cover."""
    require_files([data])
    if model is not None:
        require_model(model)
    if protein is not None and not protein.exists():
        raise FileNotFoundError(f"There is no file {protein}.")
    from scenc import genes

    vocabulary = None
    if model is not None:
        from scenc.io import read_vocabulary

        vocabulary = read_vocabulary(model)
    names = genes.read_gene_names(data, gene_ids)
    typer.echo(str(genes.check(names, vocabulary=vocabulary, proteins=protein)))


@genes_app.command()
def embed_proteins(
    fasta: Annotated[list[Path], typer.Argument(help="Protein FASTA, plain or gzipped.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="The .safetensors file to write.")],
    model: Annotated[
        str, typer.Option(help="An ESM-2 model: a name on the Hugging Face Hub or a folder.")
    ] = "facebook/esm2_t36_3B_UR50D",
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, mps ...")] = "auto",
    dtype: Annotated[str, typer.Option(help="auto, float32, float16 or bfloat16.")] = "auto",
    max_tokens_per_batch: Annotated[
        int, typer.Option(min=1, help="Lower it where memory runs out.")
    ] = 8192,
    window: Annotated[int, typer.Option(min=1, help="Residues shown at once.")] = 1022,
    overlap: Annotated[int, typer.Option(min=0, help="Context beside a window.")] = 128,
    overwrite: Annotated[
        bool, options.flag("--overwrite", help="Replace an existing file.")
    ] = False,
) -> None:
    """Compute one ESM-2 vector per gene; a stopped run goes on where it was."""
    from scenc import genes

    proteins = genes.embed_proteins(
        fasta,
        model,
        out=out,
        device=device,
        dtype=dtype,
        max_tokens_per_batch=max_tokens_per_batch,
        window=window,
        overlap=overlap,
        overwrite=overwrite,
    )
    typer.echo(f"wrote {out}: {len(proteins):,} genes x {proteins.dim:,}")
