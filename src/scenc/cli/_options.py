"""Options that several commands take."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Files = Annotated[list[Path], typer.Argument(help="Files of cells: .h5ad or zarr.")]
Layer = Annotated[
    str | None, typer.Option(help="X, raw or a layer; default: where there are counts.")
]
GeneIds = Annotated[
    str | None, typer.Option(help="Column of var with the genes; default: var_names.")
]
Genes = Annotated[str, typer.Option(help="Genes of any file (union), or of all (intersection).")]
BatchKey = Annotated[str | None, typer.Option(help="Column of obs with batches.")]
LabelsKey = Annotated[str | None, typer.Option(help="Column of obs with labels.")]
SplitBy = Annotated[str, typer.Option(help="cell, file, or a column of obs such as donor_id.")]
ValidationSize = Annotated[float, typer.Option(help="Share of cells to validate on.")]
Check = Annotated[str, typer.Option(help="Look at all values, or at a sample.")]
ExpressionEncoder = Annotated[str, typer.Option(help="raw, hard, log or soft.")]
Rows = Annotated[str | None, typer.Option(help="Rows of pretraining, such as 1-5,9; default: all.")]
