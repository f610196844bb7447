"""Sections that the docstrings of all metrics share."""

from __future__ import annotations

from inspect import cleandoc, signature
from textwrap import fill, indent
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

PARAMETERS = {
    "embedding": "Shape ``(n_cells, n_dims)``, for example ``adata.obsm['X_scenc']``.",
    "batch": "Batch of each cell, shape ``(n_cells,)``. Cells without one are left out.",
    "labels": "Label of each cell, shape ``(n_cells,)``. Cells without one are left out.",
    "iso_threshold": "A label is isolated if it is in at most this many batches. None: the labels "
    "that are in the fewest batches are isolated.",
    "n_neighbors": "Number of neighbours, the cell itself included; all cells if there are fewer.",
    "resolutions": "Leiden resolutions to choose from.",
    "leiden": '``"igraph"``, or ``"leidenalg"`` on the directed graph, as scib calls it: some '
    "twenty times slower, for partitions of no higher modularity.",
    "missing": 'Names in ``labels`` that stand for "no label", beside NaN, None and NA themselves.',
    "seed": "Seed of the clustering.",
}

ERRORS = """Raises
------
TypeError, ValueError
    If the arrays do not fit together or the embedding has NaN or infinite values."""


def shared_docs[F: Callable[..., Any]](function: F) -> F:
    """Write the shared sections in place of ``{parameters}`` and ``{errors}`` in a docstring."""
    if function.__doc__ is None:  # under python -OO
        return function
    section = ["Parameters", "----------"]
    for name in signature(function).parameters:
        section += [name, indent(fill(PARAMETERS[name], 88), "    ")]
    doc = cleandoc(function.__doc__).replace("{parameters}", "\n".join(section))
    function.__doc__ = doc.replace("{errors}", ERRORS)
    return function
