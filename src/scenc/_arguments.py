"""Checks of arguments: messages name the nearest right one, and what belongs together."""

from __future__ import annotations

from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

# Which encoders use an attribute of `scenc.nn.ModelConfig`. Hidden widths are not here: they are
# sizes of whichever encoder has an MLP.
OF_GENE_ENCODERS = {
    "protein_input": ("protein",),
    "protein_projection": ("protein",),
    "protein_output": ("protein",),
    "protein_missing": ("protein",),
}
OF_EXPRESSION_ENCODERS = {
    "n_bins": ("hard", "soft"),
    "hard_edges": ("hard",),
    "log_input": ("log",),
    "max_log_bin": ("log",),
    "soft_bias": ("soft",),
    "soft_slope": ("soft",),
    "soft_residual": ("soft",),
    "expression_input": ("raw", "soft"),
}


def refuse_unknown(given: Iterable[str], known: Iterable[str], what: str) -> None:
    """Raise for the first name that is not known.

    Raises
    ------
    TypeError
        Naming the argument, the nearest known one if any is near, and all known ones.
    """
    known = sorted(known)
    for name in given:
        if name not in known:
            raise TypeError(
                f"Unknown {what} {name!r}.{_hint(name, known)} Known: {', '.join(known)}."
            )


def choose(value: str, options: Iterable[str], what: str) -> str:
    """Return the value if it is one of the options.

    Raises
    ------
    ValueError
        Naming the value, the nearest option if any is near, and all options.
    """
    options = list(options)
    if value not in options:
        raise ValueError(
            f"{what} must be one of {', '.join(map(repr, options))}, got {value!r}."
            f"{_hint(str(value), options)}"
        )
    return value


def applicable(
    arguments: Mapping[str, Any], gene_encoder: str, expression_encoder: str
) -> dict[str, Any]:
    """Return those attributes of `scenc.nn.ModelConfig` that two encoders, or all, use."""
    return {
        name: value
        for name, value in arguments.items()
        if gene_encoder in OF_GENE_ENCODERS.get(name, (gene_encoder,))
        and expression_encoder in OF_EXPRESSION_ENCODERS.get(name, (expression_encoder,))
    }


def _hint(name: str, known: list[str]) -> str:
    near = get_close_matches(name, known, n=1)
    return f" Did you mean {near[0]!r}?" if near else ""
