"""Options that several commands take, and how they are checked."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperCommand

from scenc._arguments import choose

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence


def one_of(*names: str) -> Any:
    """Return the check of an option that takes one of some names."""

    def check(parameter: typer.CallbackParam, value: str | None) -> str | None:
        return value if value is None else choose(value, names, max(parameter.opts, key=len))

    return check


def flag(*names: str, help: str) -> Any:
    """Return an option that takes no value, and is shown without one."""
    return typer.Option(*names, help=help, metavar="")


# Text, not paths: paths of addresses would lose a slash.
Files = Annotated[
    list[str],
    typer.Argument(
        help="Files of cells, by path or address: .h5ad, zarr, 10x .h5, or a Cell Ranger folder of "
        "matrix.mtx."
    ),
]
Layer = Annotated[
    list[str] | None,
    typer.Option(
        help="X, raw or a layer; default: where there are counts. FILE=LAYER is for one file; "
        "several may be given."
    ),
]
GeneIds = Annotated[
    str | None, typer.Option(help="Column of var with the genes; default: var_names.")
]
Genes = Annotated[
    str,
    typer.Option(
        help="Genes of any file (union), or of all (intersection).",
        callback=one_of("union", "intersection"),
    ),
]
BatchKey = Annotated[str | None, typer.Option(help="Column of obs with batches.")]
LabelsKey = Annotated[str | None, typer.Option(help="Column of obs with labels.")]
SplitBy = Annotated[str, typer.Option(help="cell, file, or a column of obs such as donor_id.")]
ValidationSize = Annotated[float, typer.Option(help="Share of cells to validate on.")]
Check = Annotated[
    str,
    typer.Option(help="Look at all values, or at a sample.", callback=one_of("all", "sample")),
]
ExpressionEncoder = Annotated[
    str,
    typer.Option(help="raw, hard, log or soft.", callback=one_of("raw", "hard", "log", "soft")),
]
Rows = Annotated[str | None, typer.Option(help="Rows of pretraining, such as 1-5,9; default: all.")]


def given(context: typer.Context) -> dict[str, str]:
    """Return the options that the user has named: how each is written, by its parameter."""
    return {
        name: option
        for name, option in _spelled(context.command).items()
        if (source := context.get_parameter_source(name)) and source.name == "COMMANDLINE"
    }


class NumberLists(TyperCommand):
    """A command whose options of several whole numbers take them in a row: ``--seeds 0 1 2``."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Repeat such an option before each of its further numbers, as click wants it."""
        multiple = (one for one in self.params if getattr(one, "multiple", False))
        lists = {name for one in multiple for name in one.opts}
        spread: list[str] = []
        option = ""
        for word in args:
            follows = bool(option) and word.isdecimal()
            spread += [option, word] if follows and spread[-1] != option else [word]
            if not follows:
                option = word if word in lists else ""
        return super().parse_args(ctx, spread)


def refuse_given(context: typer.Context, names: Collection[str], why: str) -> None:
    """Refuse options that would be without effect.

    Raises
    ------
    ValueError
        Naming the first of them, and why.
    """
    wrong = [option for name, option in given(context).items() if name in names]
    if wrong:
        raise ValueError(f"{' and '.join(wrong)} cannot apply: {why}")


def layers(values: Sequence[str] | None, files: Sequence[str]) -> str | dict[str, str] | None:
    """Return what ``--layer`` names: one for all files, or one for each of some.

    Raises
    ------
    ValueError
        A file is none of those given, or there are two layers for one.
    """
    general: list[str] = []
    special: dict[str, str] = {}
    for value in values or ():
        file, equals, layer = value.rpartition("=")
        if not equals:
            general.append(value)
        elif file not in files:
            raise ValueError(f"--layer {value}: {file} is none of the files given.")
        elif file in special:
            raise ValueError(f"--layer names two layers for {file}.")
        else:
            special[file] = layer
    if len(general) > 1:
        raise ValueError(
            f"--layer names {' and '.join(general)} for all files: write FILE=LAYER for one file."
        )
    if not special:
        return general[0] if general else None
    return {**dict.fromkeys(files, general[0]), **special} if general else special


# What Python calls otherwise than the command line.
_RENAMED = {
    "accumulate_grad_batches": "--accumulate",
    "num_nodes": "--nodes",
    "format": "--format",
    "checkpoint_dir": "--out",
}


def in_own_words(message: str, command: Any) -> str:
    """Return a message of the package with the names of options instead of arguments.

    Parameters
    ----------
    message
        The message, in which ``overwrite=True`` stands for what is ``--overwrite`` here.
    command
        The command with all its subcommands.
    """
    for name, option in {**_spelled(command), **_RENAMED}.items():
        # Neither in paths nor in quoted names.
        start = rf"(?<![\w'\"/.=-]){name}"
        message = re.sub(rf"{start}=True\b", option, message)
        message = re.sub(rf"{start}=\.\.\.", option, message)
        message = re.sub(rf"{start}='([^']*)'", rf"{option} \1", message)
        if "_" in name:
            message = re.sub(rf"{start}(?![\w'\"/=]|\.\w)", option, message)
    return message


def _spelled(command: Any) -> dict[str, str]:
    """Return how each option of a command and its subcommands is written, by its parameter."""
    found: dict[str, str] = {}
    for inner in getattr(command, "commands", {}).values():
        found |= _spelled(inner)
    options = (one for one in command.params if one.param_type_name == "option")
    return found | {str(option.name): max(option.opts, key=len) for option in options}
