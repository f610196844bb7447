import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

import scenc
from scenc.tasks import Attributions


@pytest.fixture
def found():
    rng = np.random.default_rng(0)
    genes = [f"G{i}" for i in range(40)]
    types = ["B", "T $x$", "NK", "one cell"]
    table = pd.DataFrame(rng.normal(size=(40, 4)), genes, types)
    wilcoxon = table * 10 + 10 * rng.normal(size=(40, 4))
    wilcoxon["one cell"] = np.nan
    return Attributions(
        table, wilcoxon, pd.Series(0.012, types), pd.Series([100, 100, 7, 1], types)
    )


@pytest.fixture(autouse=True)
def closed():
    yield
    plt.close("all")


def lengths(ax):
    return [bar.get_width() for bar in ax.patches]


def test_bars_are_the_largest_contributions_and_their_z_scores(found):
    axes = scenc.pl.attributions(found, n=5)
    assert axes.shape == (4, 2)
    for name, (left, right) in zip(found.table, axes, strict=True):
        first = found.table[name].nlargest(5)
        assert [text.get_text() for text in left.get_yticklabels()] == first.index.tolist()
        np.testing.assert_allclose(lengths(left), first)
        np.testing.assert_allclose(lengths(right), found.wilcoxon[name][first.index].fillna(0))
    assert [text.get_text() for text in axes[0, 0].texts] == ["100 cells, error 1.2%"]
    assert axes[3, 1].get_xlabel() == "Wilcoxon z: not tested"


def test_dark_bars_are_genes_of_both_lists(found):
    left, right = scenc.pl.attributions(found, 6, "B")[0]
    first = found.table["B"].nlargest(6).index
    shared = first.isin(found.wilcoxon["B"].nlargest(6).index)
    assert 0 < shared.sum() < 6
    for ax in (left, right):
        colors = [bar.get_facecolor() for bar in ax.patches]
        assert len({color for color, both in zip(colors, shared, strict=True) if both}) == 1
        assert len(set(colors)) == 2


def test_figures_and_axes_of_ones_own(found):
    _, own = plt.subplots(1, 2)
    axes = scenc.pl.attributions(found, types=["NK"], ax=own)
    assert axes[0, 0] is own[0]
    fig = plt.figure()
    assert scenc.pl.attributions(found, ax=fig)[0, 0].figure is fig
    with pytest.raises(ValueError, match="8 panels, got 2 axes"):
        scenc.pl.attributions(found, ax=own)


def test_errors_name_what_is_right(found):
    with pytest.raises(TypeError, match=r"model\.attributions returned, got DataFrame"):
        scenc.pl.attributions(found.table)
    with pytest.raises(ValueError, match="got 'NKT'. Did you mean 'NK'"):
        scenc.pl.attributions(found, types="NKT")
    with pytest.raises(ValueError, match="n must be at least 1"):
        scenc.pl.attributions(found, 0)
