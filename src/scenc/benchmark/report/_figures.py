"""The figures of the page, each an image of its own."""

from __future__ import annotations

import base64
import warnings
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import matplotlib.pyplot as plt
import numpy as np

from scenc import pl
from scenc.results import title

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from scenc.results import Results


@dataclass(frozen=True)
class Picture:
    """One figure of the page.

    Attributes
    ----------
    name
        Name of its file, without ending.
    caption
        Text below it.
    alt
        Description for readers who cannot see it.
    svg
        The image.
    width, height
        In CSS pixels.
    """

    name: str
    caption: str
    alt: str
    svg: bytes
    width: int
    height: int

    @property
    def source(self) -> str:
        """The image as the address of an ``img``."""
        return "data:image/svg+xml;base64," + base64.b64encode(self.svg).decode("ascii")


@dataclass(frozen=True)
class FigureSpec:
    """A figure of the page, not drawn yet.

    Attributes
    ----------
    name, caption, alt
        As in `Picture`.
    draw
        Draws it, and returns its axes.
    """

    name: str
    caption: str
    alt: str
    draw: Callable[[], Any]


def figure_specs(results: Results, intervals: pd.DataFrame) -> list[FigureSpec]:
    """Return the figures that these results have something for."""
    return [
        *_budget_figures(results),
        *_score_figures(results),
        *_reconstruction_figures(results),
        *_difference_figures(intervals),
        _SCHEME,
    ]


def picture(spec: FigureSpec) -> Picture:
    """Draw a figure."""
    with _drawn(spec) as figure:
        width, height = (round(96 * inches) for inches in figure.get_size_inches())
        return Picture(spec.name, spec.caption, spec.alt, pl.render(figure, "svg"), width, height)


def save_all(results: Results, intervals: pd.DataFrame, folder: Path) -> list[Path]:
    """Write all figures as PDF, SVG and PNG."""
    paths = []
    for spec in figure_specs(results, intervals):
        with _drawn(spec) as figure:
            paths += [
                pl.save(figure, folder / f"{spec.name}.{kind}") for kind in ("pdf", "svg", "png")
            ]
    return paths


@contextmanager
def _drawn(spec: FigureSpec) -> Iterator[Figure]:
    """Draw in matplotlib's default style, not the user's, and do not show the figure."""
    with plt.style.context("default"), plt.ioff(), warnings.catch_warnings():
        # A name may be in a script that matplotlib's font lacks; readers of an SVG have others.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        axes = np.ravel(np.asarray(spec.draw(), dtype=object))
        figure = axes[0].get_figure(root=True)
        try:
            yield figure
        finally:
            plt.close(figure)


def _large() -> Axes:
    return plt.subplots(figsize=(7.4, 4.4), layout="constrained")[1]


def _score_figures(results: Results) -> Iterator[FigureSpec]:
    metrics = {*results.metrics}
    if metrics & {"batch_correction", "bio_preservation"}:
        yield FigureSpec(
            "integration",
            "Batch correction against biological preservation (the paper's Figure 1): means over "
            "data sets.",
            "Scatter plot of batch correction and biological preservation, one point for each "
            "encoding; the values are in the table of means.",
            lambda: pl.integration(results, _large()),
        )
    for metric in ("accuracy", "macro_f1"):
        if metric in metrics:
            yield FigureSpec(
                metric,
                f"{title(metric)[0].upper()}{title(metric)[1:]} of cell types told by the nearest "
                "neighbours (the paper's Figure 2). Points: data sets; of a single one, seeds.",
                f"Bars of {title(metric)}, one for each encoding; the values are in the table of "
                "means.",
                partial(pl.scores, results, metric),
            )


def _budget_figures(results: Results) -> Iterator[FigureSpec]:
    if len(results.budgets) > 1:
        yield FigureSpec(
            "budgets",
            "Scores by visits of cells in training: one training for each encoding and seed, whose "
            "learning rate is laid out for the largest budget. Grey: baselines, which have none.",
            "Lines of four scores by visits of cells, one for each encoding; the values are in the "
            "table of scores at each budget.",
            lambda: pl.budgets(results),
        )


def _reconstruction_figures(results: Results) -> Iterator[FigureSpec]:
    if "reconstruction_loss_validation" in {*results.curves["metric"]}:
        yield FigureSpec(
            "reconstruction",
            "Lowest validation error of masked genes in training (the paper's Figure 3). Points: "
            "seeds.",
            "Bars of the lowest validation error, one for each encoding.",
            lambda: pl.reconstruction(results, of="training"),
        )
    if results.scores.loc[results.scores["metric"] == "reconstruction_mse", "value"].notna().any():
        yield FigureSpec(
            "reconstruction_evaluation",
            "Error of masked genes on the evaluation sets. Points: data sets; of a single one, "
            "seeds.",
            "Bars of the error on the evaluation sets, one for each encoding.",
            lambda: pl.reconstruction(results, of="evaluation"),
        )
    if len(results.curves):
        yield FigureSpec(
            "training_curves",
            "Validation error by optimizer step, one line for each seed. A cross marks where a "
            "training diverged.",
            "Curves of the validation error, a panel for each expression encoder.",
            lambda: pl.training_curves(results),
        )


def _difference_figures(intervals: pd.DataFrame) -> Iterator[FigureSpec]:
    among = intervals[~intervals["comparison"].str.startswith("encoding over ")]
    for metric in ("bio_preservation", "batch_correction", "accuracy", "macro_f1"):
        if (among["metric"] == metric).any():
            yield FigureSpec(
                f"differences_{metric}",
                f"Relative differences in {title(metric)} with 95 % intervals.",
                f"Points and intervals of relative differences in {title(metric)}; the values are "
                "in the table of differences.",
                partial(pl.differences, among, metric),
            )


_SCHEME = FigureSpec(
    "encodings",
    "What the encoders do (the paper's Figure 4): a gene becomes a vector in one of two ways, its "
    "expression in one of four, computed here for one made-up cell.",
    "Six small panels: learned and pretrained gene vectors, and raw, hard, log and soft encodings "
    "of expression.",
    pl.encodings,
)
