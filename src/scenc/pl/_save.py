"""Figures as files that are the same at every run."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import FigureBase

from scenc._arguments import choose
from scenc.io import atomic_path

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

# Text stays text; the same figure gives the same file.
_STYLE: Any = {
    "pdf.fonttype": 42,
    "ps.fonttype": 42,
    "svg.fonttype": "none",
    "svg.hashsalt": "scenc",
}
_UNDATED: dict[str, dict[str, Any]] = {
    "pdf": {"CreationDate": None},
    "svg": {"Date": None},
    "png": {},
}


def save(drawn: Axes | NDArray[np.object_] | FigureBase, path: str | Path, dpi: int = 300) -> Path:
    """Write a figure as PDF, SVG or PNG, ready for a paper.

    Text in PDF and SVG stays text that can be searched and edited; the same figure gives the same
    file, byte for byte.

    Parameters
    ----------
    drawn
        What a function of this module returned, or a figure.
    path
        Where to write; the ending is the format: ``.pdf``, ``.svg`` or ``.png``.
    dpi
        Resolution of a PNG.

    Returns
    -------
    The path.

    Raises
    ------
    ValueError
        The ending is another one.
    TypeError
        There is nothing to write in `drawn`.

    Examples
    --------
    >>> scenc.pl.save(scenc.pl.integration(results), "figure1.pdf")
    """
    path = Path(path)
    kind = choose(path.suffix.removeprefix(".").lower(), _UNDATED, f"the ending of {path.name}")
    content = render(drawn, kind, dpi)
    with atomic_path(path) as draft:
        draft.write_bytes(content)
    return path


def render(drawn: Axes | NDArray[np.object_] | FigureBase, kind: str, dpi: int = 300) -> bytes:
    """Return a figure as the contents of a PDF, SVG or PNG file; `save` writes it.

    Parameters
    ----------
    drawn, dpi
        As in `save`.
    kind
        ``"pdf"``, ``"svg"`` or ``"png"``.

    Raises
    ------
    ValueError, TypeError
        As in `save`.

    Examples
    --------
    >>> svg = scenc.pl.render(scenc.pl.integration(results), "svg")
    """
    choose(kind, _UNDATED, "kind")
    file = BytesIO()
    with plt.rc_context(_STYLE):
        _figure(drawn).savefig(file, format=kind, dpi=dpi, metadata=_UNDATED[kind])
    return file.getvalue()


def _figure(drawn: Any) -> Figure:
    if isinstance(drawn, np.ndarray) and drawn.size:
        drawn = drawn.flat[0]
    if isinstance(drawn, FigureBase):
        return drawn.figure  # type: ignore[return-value]
    figure = drawn.get_figure(root=True) if isinstance(drawn, Axes) else None
    if figure is None:
        raise TypeError(f"drawn must be axes or a figure, got {type(drawn).__name__}.")
    return figure
