"""The commands. Each imports heavy packages only when it runs, so that help comes at once."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from scenc.cli import _options as options
from scenc.cli._annotate import annotate
from scenc.cli._benchmark import benchmark, report
from scenc.cli._data import data_app
from scenc.cli._genes import genes_app
from scenc.cli._train import embed, train

app = typer.Typer(
    help="Single-cell transformers with the gene and expression encoding of your choice.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


app.command()(train)
app.command()(embed)
app.command()(annotate)
app.command()(benchmark)
app.command()(report)
app.add_typer(genes_app, name="genes")
app.add_typer(data_app, name="data")


@app.callback(invoke_without_command=True)
def _version(
    version: Annotated[bool, options.flag("--version", help="Print the version.")] = False,
) -> None:
    if version:
        from scenc import __version__

        typer.echo(__version__)
        raise typer.Exit


@app.command()
def demo(
    out: Annotated[
        Path, typer.Option("--out", "-o", help="Folder for the figures and the h5ad.")
    ] = Path("scenc-demo"),
    gene_encoder: Annotated[
        str,
        typer.Option(help="Only 'learned' needs no files.", callback=options.one_of("learned")),
    ] = "learned",
    expression_encoder: options.ExpressionEncoder = "soft",
    max_epochs: Annotated[
        int | None, typer.Option(min=1, help="Passes over the cells; default: the preset's.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of everything random.")] = 0,
) -> None:
    """Train on 700 blood cells that need no download, and score the embedding."""
    from scenc.cli._demo import run_demo

    run_demo(out, gene_encoder, expression_encoder, max_epochs, seed)


def main() -> None:
    """Run the command line; what the user can mend ends in one line and a non-zero exit."""
    try:
        app()
    except (ValueError, TypeError, KeyError, OSError, RuntimeError, ImportError) as error:
        text = error.args[0] if isinstance(error, KeyError) and error.args else error
        message = options.in_own_words(str(text), typer.main.get_command(app))
        typer.secho(f"Error: {message}", fg="red", err=True)
        sys.exit(1)
