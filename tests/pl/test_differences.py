"""Relative differences with their intervals."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from scenc import pl


@pytest.fixture
def intervals():
    rows = [
        ("soft over hard", "learned", 0.5, 0.2, 0.8),
        ("soft over hard", "protein", -0.1, -0.3, 0.2),
        ("soft over raw", "learned", -0.2, -0.3, -0.1),
        ("soft over raw", "all", 0.3, 0.3, 0.3),
    ]
    columns = ["comparison", "within", "relative", "relative_low", "relative_high"]
    return pd.DataFrame(rows, columns=columns).assign(metric="accuracy")


def points(ax):
    """Position and whether it is filled, from top to bottom."""
    found = [line for line in ax.lines if line.get_marker() == "o"]
    found.sort(key=lambda line: -line.get_ydata()[0])
    return [
        (float(line.get_xdata()[0]), line.get_markerfacecolor() == line.get_markeredgecolor())
        for line in found
    ]


def test_only_what_leaves_zero_out_is_filled(intervals):
    ax = pl.differences(intervals, "accuracy")
    assert points(ax) == [(0.5, True), (-0.1, False), (-0.2, True), (0.3, False)]


def test_lines_are_the_intervals(intervals):
    ax = pl.differences(intervals, "accuracy")
    lines = {tuple(line.get_xdata()) for line in ax.lines if len(line.get_xdata()) == 2}
    assert lines == {(0.2, 0.8), (-0.3, 0.2), (-0.3, -0.1), (0.3, 0.3)}


def test_numbers_are_written(intervals):
    texts = [text.get_text() for text in pl.differences(intervals, "accuracy").texts]
    assert texts == ["+50.0 %", "−10.0 %", "−20.0 %", "+30.0 %"]


def test_comparisons_head_their_rows(intervals):
    ax = pl.differences(intervals, "accuracy")
    assert [label.get_text() for label in ax.get_yticklabels()] == [
        "soft over hard", "learned", "protein", "soft over raw", "learned", "all"
    ]  # fmt: skip


def test_nothing_to_draw_is_said(intervals):
    for table, metric in ((intervals, "nmi"), (intervals.assign(relative=np.nan), "accuracy")):
        ax = pl.differences(table, metric)
        assert "no difference in" in ax.texts[0].get_text()


def test_a_missing_column_is_named(intervals):
    with pytest.raises(ValueError, match="lack the column 'relative_low'"):
        pl.differences(intervals.drop(columns="relative_low"), "accuracy")
