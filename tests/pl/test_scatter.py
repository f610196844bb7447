"""Figure 1: where markers and lines are, and what cannot be placed."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pytest

from scenc import pl

X, Y = "batch_correction", "bio_preservation"


def places(ax):
    """Positions of all markers, letters included."""
    return {
        tuple(float(v[0]) for v in line.get_data())
        for line in ax.lines
        if len(line.get_xdata()) == 1
    }


def notes(ax):
    return "\n".join(text.get_text() for text in ax.texts)


def test_markers_are_at_the_means(results, means_of):
    found = places(pl.integration(results))
    assert len(found) == 12
    for name in results.scores["encoding"].unique():
        x, y = (np.mean(means_of(results.scores, name, metric)) for metric in (X, Y))
        assert any(np.allclose((x, y), place) for place in found), name


def test_lines_are_one_standard_deviation_over_data_sets(results, means_of):
    ax = pl.integration(results)
    ends = np.array([segment for lines in ax.collections for segment in lines.get_segments()])
    assert len(ends) == 24
    x, y = (means_of(results.scores, "PCA", metric) for metric in (X, Y))
    low, high = (np.mean(x) + sign * np.std(x, ddof=1) for sign in (-1, 1))
    expected = [[low, np.mean(y)], [high, np.mean(y)]]
    assert any(np.allclose(segment, expected) for segment in ends)
    assert "1 standard deviation over 3 data sets" in notes(ax)


def test_one_data_set_is_spread_over_seeds(make_results):
    assert "over 2 seeds" in notes(pl.integration(make_results(datasets=["kang"])))


def test_one_seed_of_one_data_set_has_no_lines(make_results):
    ax = pl.integration(make_results(datasets=["kang"], seeds=[0]))
    assert len(places(ax)) == 12
    assert not ax.collections
    assert not notes(ax)


def test_every_encoding_is_in_the_legend(results):
    legend = pl.integration(results).get_legend()
    assert {text.get_text() for text in legend.get_texts()} == set(results.scores["encoding"])
    assert pl.integration(results, legend=False).get_legend() is None


def test_what_lacks_a_score_is_named_and_not_drawn(results):
    scores = results.scores
    scores.loc[(scores["encoding"] == "scVI") & (scores["metric"] == X), "value"] = np.nan
    ax = pl.integration(results)
    assert len(places(ax)) == 11
    assert "not drawn: scVI, batch correction undefined" in notes(ax)


def test_what_failed_is_named(results):
    results.scores = results.scores[results.scores["encoding"] != "scVI"]
    results.jobs.loc[results.jobs["encoding"] == "scVI", "status"] = "failed"
    assert "not drawn: scVI, failed" in notes(pl.integration(results))


@pytest.mark.parametrize("metric", [X, None])
def test_nothing_to_place_is_said(results, metric):
    scores = results.scores
    scores.loc[(scores["metric"] == metric) | (metric is None), "value"] = np.nan
    ax = pl.integration(results)
    assert "undefined" in notes(ax)
    assert not places(ax)
    without = results.scores[results.scores["metric"] == "nmi"]
    assert "in these results" in notes(pl.integration(without))


def test_axes_may_be_given(results):
    _, ax = plt.subplots()
    assert pl.integration(results, ax) is ax
    assert len(plt.get_fignums()) == 1
