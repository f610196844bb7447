"""``scenc data``: the paper's data sets and their files, and stores made of files."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from scenc._paths import refuse_store, require_files, require_free_store
from scenc.cli import _options as options

if TYPE_CHECKING:
    import pandas as pd

data_app = typer.Typer(
    help="The paper's data sets, their files, and stores made of files.",
    no_args_is_help=True,
    rich_markup_mode="rich",
)
_COLUMNS = ("status", "kind", "paper_cells", "dataset_id", "title")


@data_app.command("list")
def list_(
    what: Annotated[str, typer.Argument(help="pretraining or tabula-sapiens.")] = "pretraining",
    rows: options.Rows = None,
    kind: Annotated[
        str | None, typer.Option(help="rna, slide, methylation or unclear; default: all.")
    ] = None,
    tsv: Annotated[bool, options.flag("--tsv", help="Print all columns, tab-separated.")] = False,
) -> None:
    """Print the paper's data sets."""
    table = _table(what, rows, kind)
    if tsv:
        typer.echo(table.to_csv(sep="\t").rstrip("\n"))
        return
    if what == "pretraining":
        cells = int(table["paper_cells"].sum())
        table = table[list(_COLUMNS)].fillna("")
        table["title"] = table["title"].str.slice(0, 60)
        typer.echo(table.to_string())
        typer.echo(f"{len(table)} data sets, {cells:,} cells")
    else:
        typer.echo("\n".join(table.index))


@data_app.command()
def download(
    what: Annotated[
        list[str],
        typer.Argument(help="pretraining, tabula-sapiens, tissues, or ids of CELLxGENE."),
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for the files.")] = Path(
        "scenc-data"
    ),
    rows: options.Rows = None,
    kind: Annotated[
        str | None, typer.Option(help="Rows of pretraining of a kind: rna, slide, ...")
    ] = None,
    dry_run: Annotated[
        bool, options.flag("--dry-run", help="Say what would come and how large it is.")
    ] = False,
    update: Annotated[
        bool, options.flag("--update", help="Look for newer versions than the lock file's.")
    ] = False,
    verify: Annotated[
        bool, options.flag("--verify", help="Check the checksums of files that are there.")
    ] = False,
    workers: Annotated[int, typer.Option(min=1, help="Files to download at once.")] = 4,
    retries: Annotated[int, typer.Option(min=0, help="Failures in a row to put up with.")] = 5,
    api: Annotated[
        str | None, typer.Option(help="Base address of CELLxGENE's Curation API.")
    ] = None,
) -> None:
    """Download data sets, or the rest of a download that was broken off."""
    from scenc import datasets
    from scenc.datasets._catalogue import API

    asked: list[str] | pd.DataFrame = what
    if rows is not None or kind is not None:
        if what != ["pretraining"]:
            raise ValueError("--rows and --kind choose among the rows of 'pretraining' only.")
        asked = _table("pretraining", rows, kind)
    try:
        report = datasets.download(
            asked,
            out,
            dry_run=dry_run,
            update=update,
            verify=verify,
            workers=workers,
            retries=retries,
            api=api or API,
        )
    except datasets.DownloadError as error:
        typer.echo(str(error.report))
        raise
    typer.echo(str(report))


@data_app.command()
def build(
    files: options.Files,
    out: Annotated[Path, typer.Option("--out", "-o", help="The store to write, in .zarr.")],
    layer: options.Layer = None,
    gene_ids: options.GeneIds = None,
    genes: options.Genes = "union",
    batch_key: options.BatchKey = None,
    labels_key: options.LabelsKey = None,
    split_by: options.SplitBy = "cell",
    validation_size: options.ValidationSize = 0.1,
    test_size: Annotated[float, typer.Option(help="Share of cells to leave alone.")] = 0.0,
    dataset_size: Annotated[
        int, typer.Option(min=1, help="Cells to shuffle together, in memory.")
    ] = 65_536,
    check: options.Check = "all",
    seed: Annotated[int, typer.Option(help="Seed of split and order.")] = 0,
    overwrite: Annotated[bool, options.flag("--overwrite", help="Replace a store.")] = False,
) -> None:
    """Write cells of many files into one zarr store that is quick to train on."""
    require_files(files)
    for file in files:
        refuse_store(file, "name the files that it was built from")
    layers = options.layers(layer, files)
    require_free_store(out, overwrite)
    from scenc import data

    path = data.build_store(
        files,
        out,
        dataset_size=dataset_size,
        overwrite=overwrite,
        layer=layers,
        gene_ids=gene_ids,
        genes=genes,
        batch_key=batch_key,
        labels_key=labels_key,
        split_by=split_by,
        validation_size=validation_size,
        test_size=test_size,
        check=check,
        seed=seed,
    )
    store = data.CellStore(path)
    sizes = ", ".join(f"{n:,} {split}" for split, n in store.split_sizes.items())
    typer.echo(f"wrote {path}: {store.n_obs:,} cells ({sizes}) x {store.n_vars:,} genes")


def _table(what: str, rows: str | None, kind: str | None) -> pd.DataFrame:
    from scenc import datasets
    from scenc._arguments import choose

    choose(what, ["pretraining", "tabula-sapiens"], "What to list")
    if what == "tabula-sapiens":
        if rows is not None or kind is not None:
            raise ValueError("--rows and --kind choose among the rows of 'pretraining' only.")
        return datasets.tissues()
    table = datasets.pretraining()
    if rows is not None:
        table = table.loc[_numbers(rows, len(table))]
    if kind is not None:
        choose(kind, table["kind"].unique(), "--kind")
        table = table[table["kind"] == kind]
    return table


def _numbers(text: str, most: int) -> list[int]:
    """Read numbers and ranges, such as ``1-5,9``."""
    found: list[int] = []
    for part in text.split(","):
        first, _, last = part.strip().partition("-")
        if not (first.isdecimal() and (last or first).isdecimal()):
            raise ValueError(f"--rows must look like 1-5,9; {part!r} does not.")
        found += range(int(first), int(last or first) + 1)
    wrong = [number for number in found if not 1 <= number <= most]
    if wrong:
        raise ValueError(f"--rows: there are rows 1 to {most}, not {wrong[0]}.")
    return list(dict.fromkeys(found))
