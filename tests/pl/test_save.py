"""Figures as files for a paper."""

from __future__ import annotations

import re

import matplotlib.pyplot as plt
import numpy as np
import pytest

from scenc import pl


@pytest.fixture
def ax():
    _, ax = plt.subplots()
    ax.set_title("a title")
    return ax


def test_text_of_an_svg_is_text(ax, tmp_path):
    path = pl.save(ax, tmp_path / "figure.svg")
    assert re.search(r"<text[^>]*>a title</text>", path.read_text("utf-8"))


def test_fonts_of_a_pdf_are_truetype(ax, tmp_path):
    content = pl.save(ax, tmp_path / "figure.pdf").read_bytes()
    assert b"/CIDFontType2" in content
    assert b"/Type3" not in content


def test_a_png_has_the_resolution_asked_for(ax, tmp_path):
    image = plt.imread(pl.save(ax, tmp_path / "figure.png", dpi=50))
    assert image.shape[:2] == (240, 320)  # 6.4 x 4.8 inches


@pytest.mark.parametrize("kind", ["svg", "pdf", "png"])
def test_the_same_figure_is_the_same_file(ax, tmp_path, kind):
    one, other = (pl.save(ax, tmp_path / f"{i}.{kind}").read_bytes() for i in range(2))
    assert one == other == pl.render(ax, kind)


def test_whatever_was_drawn_can_be_written(ax, tmp_path):
    part = plt.figure().subfigures(1, 2)[0]
    for drawn in (ax, np.array([ax], dtype=object), ax.get_figure(), part):
        assert pl.save(drawn, tmp_path / "new" / "figure.PNG").stat().st_size > 0
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["figure.PNG"]


def test_other_endings_are_refused(ax, tmp_path):
    with pytest.raises(ValueError, match=r"ending of figure\.pfd .* Did you mean 'pdf'"):
        pl.save(ax, tmp_path / "figure.pfd")


def test_what_is_no_figure_is_refused(tmp_path):
    with pytest.raises(TypeError, match="got list"):
        pl.save([], tmp_path / "figure.pdf")
