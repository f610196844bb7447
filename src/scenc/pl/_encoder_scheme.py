"""Schemes of the gene and expression encoders, drawn for one example cell."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.patches import FancyArrowPatch, Rectangle

from scenc.pl._canvas import panels, plain
from scenc.pl._looks import EXPRESSION_COLORS, FAINT, INK, MUTED

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes
    from matplotlib.figure import FigureBase
    from numpy.typing import NDArray


# Counts of the example cell, and a scale (c_norm / library size) with which x~ of one count is 1.8.
_COUNTS = np.array([1, 1, 2, 2, 3, 3, 4, 6, 9, 14, 22, 40, 75])
_SCALE = 5.0
_N_HARD, _N_SOFT = 5, 6


def encodings(
    ax: Axes | Sequence[Axes] | NDArray[np.object_] | FigureBase | None = None,
) -> NDArray[np.object_]:
    """Draw what the two gene and the four expression encoders do (Figure 4 of the paper).

    The gene encoders are sketched. The expression encoders are computed, for one example cell and
    with fewer bins than the models have: a few output coordinates of an MLP with fixed random
    weights (eq. 13), quantile bins (eq. 14), doubling bins (eq. 16), and the mixture weights of
    soft bins whose logits are linear in the value, which is one case of eq. 18.

    Parameters
    ----------
    ax
        Six axes, a figure or subfigure to divide, or ``None``: a new figure.

    Returns
    -------
    The axes, shape ``(6,)``: learned, raw, hard, protein, log, soft.

    Raises
    ------
    TypeError, ValueError
        Not six axes.

    Examples
    --------
    >>> axes = scenc.pl.encodings()
    """
    axes = panels(ax, (2, 3), 6, (8.4, 5.0))
    for on, draw in zip(axes, (_learned, _raw, _hard, _protein, _log, _soft), strict=True):
        draw(on)
    return np.array(axes, dtype=object)


def published_encodings(
    ax: Axes | Sequence[Axes] | NDArray[np.object_] | FigureBase | None = None,
) -> NDArray[np.object_]:
    """Draw what published systems do with a value, and the token of a cell's depth.

    These are the recipes of `scenc.benchmark.published_encodings`, for the example cell of
    `encodings`, with fewer bins than the systems have and fixed numbers in the place of trained
    ones. Titles say which gene vectors the value's vector is added to.

    Parameters
    ----------
    ax
        Six axes, a figure or subfigure to divide, or ``None``: a new figure.

    Returns
    -------
    The axes, shape ``(6,)``: scBERT, scGPT and Tahoe-x1, scFoundation, STATE, Heimdall, depth.

    Raises
    ------
    TypeError, ValueError
        Not six axes.

    Examples
    --------
    >>> axes = scenc.pl.published_encodings()
    """
    axes = panels(ax, (2, 3), 6, (9.6, 5.2))
    draws = (_scbert, _scgpt, _scfoundation, _state, _heimdall, _depth)
    for on, draw in zip(axes, draws, strict=True):
        draw(on)
    return np.array(axes, dtype=object)


def _name(ax: Axes, name: str, says: str) -> None:
    ax.set_title(f"{name}: {says}", loc="left", fontsize="medium")


def _name_system(ax: Axes, name: str, says: str) -> None:
    ax.set_title(f"{name}\n", loc="left", fontsize="medium")
    where: dict[str, Any] = {"xycoords": "axes fraction", "textcoords": "offset points"}
    ax.annotate(says, (0, 1), xytext=(0, 6), fontsize="small", color=MUTED, **where)


def _learned(ax: Axes) -> None:
    _name(ax, "learned genes", "a trained table")
    _blank(ax)
    for row, gene in enumerate(("CD3E", "CD19", "LYZ", "GNLY")):
        y = 3.1 - row
        chosen = gene == "LYZ"
        ax.text(1.2, y + 0.35, gene, ha="right", va="center", fontsize="small")
        for column in range(5):
            style: dict[str, Any] = {"facecolor": MUTED if chosen else "white", "edgecolor": INK}
            ax.add_patch(Rectangle((1.5 + 0.6 * column, y), 0.6, 0.7, linewidth=0.7, **style))
    _arrow(ax, (4.7, 1.45), (5.8, 1.45))
    ax.text(5.95, 1.45, r"$\mathbf{e}_g$", va="center")
    ax.text(3.0, -0.4, "trained with the model", ha="center", fontsize="x-small", color=MUTED)


def _protein(ax: Axes) -> None:
    _name(ax, "protein genes", "MLP of a fixed vector")
    _blank(ax)
    ax.text(0.1, 3.0, "LYZ:  M K A L I V L G ...", family="monospace", fontsize="small")
    _arrow(ax, (1.5, 2.8), (1.5, 2.2))
    _box(ax, (0.1, 1.35), 2.65, "protein language\nmodel (frozen)", MUTED)
    _arrow(ax, (2.8, 1.75), (3.3, 1.75))
    ax.text(3.35, 1.75, "$E(g)$", va="center")
    _arrow(ax, (4.2, 1.75), (4.6, 1.75))
    _box(ax, (4.7, 1.35), 0.9, "MLP", INK)
    _arrow(ax, (5.6, 1.75), (5.95, 1.75))
    ax.text(6.0, 1.75, r"$\mathbf{e}_g$", va="center")
    ax.text(5.15, 0.95, "trained", ha="center", fontsize="x-small", color=MUTED)


def _raw(ax: Axes) -> None:
    _name(ax, "raw", "MLP of the value")
    x = _values()
    _coordinates(ax, x, _mlp(x))


def _hard(ax: Axes) -> None:
    _name(ax, "hard", "quantile bins of the cell")
    values = np.log1p(_SCALE * _COUNTS)
    x = _values()
    _steps(ax, x, 1 + np.searchsorted(_quantile_edges(), x), "hard")
    ax.plot(values, np.full(len(values), 0.45), "|", color=INK, markersize=6)
    ax.text(x[-1], 0.62, "values of the cell", ha="right", fontsize="x-small", color=MUTED)
    ax.set(xlabel=r"normalised value $\tilde x$", ylabel="row of a trained table", ylim=(0.2, 5.6))


def _log(ax: Axes) -> None:
    _name(ax, "log", "a bin for each doubling")
    counts = np.linspace(1, 80, 800)
    _steps(ax, counts, np.floor(np.log2(np.floor(counts) + 1)), "log")
    ax.set(xlabel="raw count $x$", ylabel="row of a trained table", ylim=(0.2, 7))


def _soft(ax: Axes) -> None:
    _name(ax, "soft", "a trained mixture of bins")
    x = _values()
    centres = np.linspace(x.min(), x.max(), _N_SOFT)
    # A Gaussian of fixed width around each centre, up to a factor common to all: linear logits.
    logits = (np.outer(x, centres) - centres**2 / 2) / 0.28
    _mixture(ax, x, logits)
    ax.set(xlabel=r"normalised value $\tilde x$")


def _scbert(ax: Axes) -> None:
    _name_system(ax, "scBERT", "fixed genes + doublings at equal depth")
    scaled = np.linspace(0, 80, 2000)
    _steps(ax, scaled, np.floor(np.minimum(np.log2(1 + scaled), 5)), "log")
    ax.set(xlabel="count at a library size of 10,000", ylabel="row of a trained table")
    ax.set(ylim=(-0.4, 6))


def _scgpt(ax: Axes) -> None:
    _name_system(ax, "scGPT and Tahoe-x1", "learned genes + MLP of the bin's number")
    x = _values()
    bins = 1 + np.searchsorted(_quantile_edges(), x)
    outputs = _mlp(np.arange(1.0, _N_HARD + 1))
    # Both vectors are layer-normalised.
    outputs = (outputs - outputs.mean(axis=1, keepdims=True)) / outputs.std(axis=1, keepdims=True)
    _coordinates(ax, x, np.where(np.diff(bins, prepend=1)[:, None], np.nan, outputs[bins - 1]))


def _scfoundation(ax: Axes) -> None:
    _name_system(ax, "scFoundation", "learned genes + soft bins with a residual")
    x = _values()
    centres = np.linspace(x.min(), x.max(), _N_SOFT)
    step = centres[1] - centres[0]
    # h = LeakyReLU(W1 x + b1) has a kink at each centre; the residual adds h itself to W2 h + b2.
    linear = x[:, None] - centres
    hidden = np.where(linear > 0, linear, 0.1 * linear)
    # One case of W2 and b2: with the residual, each bin's logit is a tent over its centre.
    second = np.eye(_N_SOFT, k=1) + np.eye(_N_SOFT, k=-1) - 3 * np.eye(_N_SOFT)
    second[[0, -1], [0, -1]] += 1
    bias = np.zeros(_N_SOFT)
    bias[[0, -1]] = step, -0.1 * step
    _mixture(ax, x, 4 / step * (hidden + hidden @ second + bias))
    ax.set(xlabel=r"normalised value $\tilde x$")


def _state(ax: Axes) -> None:
    _name_system(ax, "STATE", "linear layer of proteins + soft bins of shares")
    share = 100 / np.log1p(_COUNTS).sum() * np.log1p(np.linspace(1, _COUNTS[-1], 600))
    centres = np.linspace(share.min(), share.max(), _N_SOFT - 1)
    _mixture(ax, share, (np.outer(share, centres) - centres**2 / 2) / 4.0)
    ax.set(xlabel="share of the cell's logged counts, %")


def _heimdall(ax: Axes) -> None:
    _name_system(ax, "Heimdall", "learned genes + MLP of the value")
    x = _values()
    _coordinates(ax, x, _mlp(x, seed=3))


def _depth(ax: Axes) -> None:
    _name_system(ax, "depth token", "the library size beside the genes")
    _blank(ax)
    for place, text in enumerate(("LYZ", "CD3E", "...", "GNLY")):
        _box(ax, (0.2 + 1.15 * place, 2.2), 1.0, text, INK)
    _box(ax, (5.1, 2.2), 1.3, "depth", EXPRESSION_COLORS["log"])
    _arrow(ax, (5.75, 1.5), (5.75, 2.1))
    ax.text(5.75, 1.2, r"MLP$(\log\,L / c_\mathrm{norm})$", ha="center", va="center")
    note = "all tokens attend to it; neither masked\nnor part of the cell's mean"
    ax.text(3.3, 0.1, note, ha="center", fontsize="x-small", color=MUTED)


def _mlp(x: NDArray[np.float64], seed: int = 1) -> NDArray[np.float64]:
    """Return three outputs of an MLP with fixed random weights, ``(len(x), 3)``."""
    rng = np.random.default_rng(seed)
    slopes, kinks = rng.normal(0, 1, 40), rng.uniform(x[0], x[-1], 40)
    hidden = np.maximum(0, slopes * (x[:, None] - kinks))
    outputs: NDArray[np.float64] = hidden @ rng.normal(0, 0.25, (40, 3))
    return outputs


def _coordinates(ax: Axes, x: NDArray[np.float64], outputs: NDArray[np.float64]) -> None:
    """Draw a few coordinates of the vectors that values get."""
    for column, dashes in enumerate(((), (4, 1.5), (1, 1.2))):
        style: dict[str, Any] = {"dashes": dashes} if dashes else {}
        ax.plot(x, outputs[:, column], color=EXPRESSION_COLORS["raw"], **style)
    ax.set(xlabel=r"normalised value $\tilde x$", ylabel=r"coordinates of $\mathbf{e}_x$")
    ax.set_yticks([])
    plain(ax)


def _mixture(ax: Axes, x: NDArray[np.float64], logits: NDArray[np.float64]) -> None:
    """Draw the weights of soft bins, which logits give."""
    weights = np.exp(logits - logits.max(axis=1, keepdims=True))
    weights /= weights.sum(axis=1, keepdims=True)
    for curve in weights.T:
        ax.fill_between(x, curve, color=EXPRESSION_COLORS["soft"], alpha=0.12)
        ax.plot(x, curve, color=EXPRESSION_COLORS["soft"], linewidth=1.2)
    ax.set(ylabel=r"weights $\alpha_k$ of the rows", ylim=(0, 1.08), yticks=[0, 0.5, 1])
    plain(ax)


def _quantile_edges() -> NDArray[np.float64]:
    """Return the inner edges of the example cell's quantile bins, on the scale of x~."""
    edges: NDArray[np.float64] = np.quantile(
        np.log1p(_SCALE * _COUNTS), np.arange(1, _N_HARD) / _N_HARD
    )
    return edges


def _values() -> NDArray[np.float64]:
    low, high = np.log1p(_SCALE * _COUNTS[[0, -1]])
    return np.linspace(float(low), float(high), 600)


def _steps(ax: Axes, x: NDArray[Any], bins: NDArray[Any], encoder: str) -> None:
    """Draw a step function, without lines where it jumps."""
    plain(ax)
    for bin_ in np.unique(bins):
        piece = x[bins == bin_]
        style: dict[str, Any] = {"color": EXPRESSION_COLORS[encoder], "solid_capstyle": "butt"}
        ax.plot(piece[[0, -1]], [bin_, bin_], linewidth=3.5, **style)
        ax.axvline(piece[0], color=FAINT, linewidth=0.7, zorder=0)
    ax.set_yticks(np.unique(bins))


def _blank(ax: Axes) -> None:
    ax.set(xlim=(0, 6.6), ylim=(-0.6, 4.2))
    ax.set_axis_off()


def _arrow(ax: Axes, start: tuple[float, float], end: tuple[float, float]) -> None:
    style: dict[str, Any] = {"arrowstyle": "-|>", "mutation_scale": 9, "linewidth": 0.9}
    ax.add_patch(FancyArrowPatch(start, end, color=INK, shrinkA=0, shrinkB=0, **style))


def _box(ax: Axes, corner: tuple[float, float], width: float, text: str, color: str) -> None:
    ax.add_patch(Rectangle(corner, width, 0.8, facecolor="white", edgecolor=color, linewidth=1))
    x, y = corner[0] + width / 2, corner[1] + 0.4
    ax.text(x, y, text, ha="center", va="center", fontsize="x-small")
