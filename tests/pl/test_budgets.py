"""Scores by visits of cells in training."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pytest

from scenc import pl


@pytest.fixture
def results(make_results, make_budget_tables):
    return make_results(make_budget_tables())


def lines(ax):
    """Return the lines of encodings as arrays of budgets and values."""
    return [line.get_xydata() for line in ax.lines if len(line.get_xdata()) == 3]


def across(ax):
    """Return the heights of the lines of baselines."""
    return [line.get_ydata()[0] for line in ax.lines if len(line.get_xdata()) == 2]


def test_lines_are_means_over_data_sets_of_means_over_seeds(results, means_of):
    axes = pl.budgets(results)
    labels = [ax.get_ylabel() for ax in axes]
    assert labels == ["batch correction", "biological preservation", "accuracy", "macro F1"]
    scores = results.scores
    metrics = ["batch_correction", "bio_preservation", "accuracy", "macro_f1"]
    for ax, metric in zip(axes, metrics, strict=True):
        found = lines(ax)
        assert len(found) == 10
        for name in ("learned + soft", "learned + hard (global edges)"):
            expected = [
                [budget, np.mean(means_of(scores[scores["budget"] == budget], name, metric))]
                for budget in (25_000, 100_000, 250_000)
            ]
            assert any(np.allclose(line, expected, rtol=1e-12) for line in found), name
        baselines = [np.mean(means_of(scores, name, metric)) for name in ("PCA", "scVI")]
        np.testing.assert_allclose(across(ax), baselines)
        assert ax.get_xscale() == "log"
        assert [text.get_text() for text in ax.get_xticklabels()] == ["25k", "100k", "250k"]
    (error,) = pl.budgets(results, metrics=["reconstruction_mse"])
    assert "lower is better" in error.get_ylabel()
    assert across(error) == []  # baselines predict nothing


def test_the_legend_names_encodings_and_baselines_and_the_note_what_is_averaged(results):
    axes = pl.budgets(results)
    names = [text.get_text() for text in axes[1].get_legend().get_texts()]
    assert names[:2] == ["learned + raw", "protein + raw"]
    assert names[-2:] == ["PCA", "scVI"]
    assert len(names) == 12
    assert [text.get_text() for text in axes[2].texts] == ["means over 3 data sets and 2 seeds"]


def test_what_lacks_data_sets_is_left_out_and_named(results):
    scores = results.scores
    pending = (
        (scores["encoding"] == "learned + soft")
        & (scores["budget"] == 250_000)
        & (scores["dataset"] == "liver")
    )
    seed = (scores["seed"] == 1) & (scores["encoding"] == "learned + raw")
    results.scores = scores[~pending & ~seed]
    axes = pl.budgets(results, metrics=["macro_f1"])
    lengths = sorted(len(line.get_xdata()) for line in axes[0].lines)
    assert lengths.count(3) == 9
    assert lengths.count(2) == 2 + 1
    (note,) = axes[0].texts
    assert "1 to 2 seeds" in note.get_text()
    assert "left out, not on all data sets: learned + soft at 250k" in note.get_text()


def test_results_without_budgets_say_so(make_results):
    (ax,) = pl.budgets(make_results(), metrics=["nmi"])
    assert [text.get_text() for text in ax.texts] == ["no NMI\nat a budget in these results"]


def test_axes_may_be_given_and_mistakes_are_named(results):
    _, axes = plt.subplots(1, 2)
    assert list(pl.budgets(results, axes, metrics=["nmi", "accuracy"])) == list(axes)
    with pytest.raises(ValueError, match="Did you mean 'accuracy'"):
        pl.budgets(results, metrics=["acuracy"])
