"""``scenc report``: a benchmark's results as one HTML page."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def report(
    results: Annotated[Path, typer.Argument(help="Output folder of a benchmark.")],
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="The page; default: report.html in there.")
    ] = None,
    figures: Annotated[
        Path | None, typer.Option(help="Folder for the figures as PDF, SVG and PNG as well.")
    ] = None,
) -> None:
    """Write a benchmark's results as one HTML page, with the paper's numbers beside them."""
    if not results.is_dir():
        what = "is a file; give the folder it is in" if results.exists() else "does not exist"
        raise ValueError(f"{results} {what}.")
    from scenc.benchmark import write_report

    out = write_report(results, out, figures)
    typer.echo(f"wrote {out} ({out.stat().st_size / 1e6:.1f} MB)")
    if figures is not None:
        typer.echo(f"wrote the figures to {figures}")
