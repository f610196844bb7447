"""Bars of one score, and the two figures that are made of them."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.collections import PathCollection

from scenc import pl


def names(ax):
    return [label.get_text() for label in ax.get_yticklabels()]


def bars(ax):
    """Lengths by height; each bar is drawn twice, filled and outlined."""
    return {
        round(bar.get_y() + bar.get_height() / 2): bar.get_width()
        for bar in ax.patches
        if bar.get_height() < 1
    }


def words(ax):
    """What is written at the height of each bar."""
    return {text.get_position()[1]: text.get_text() for text in ax.texts}


def test_bars_are_means_and_ascend(results, means_of):
    ax = pl.scores(results, "accuracy")
    expected = {n: np.mean(means_of(results.scores, n, "accuracy")) for n in names(ax)}
    assert len(expected) == 12
    np.testing.assert_allclose([bars(ax)[y] for y in range(12)], list(expected.values()))
    assert list(expected.values()) == sorted(expected.values())


def test_values_are_written_with_their_spread(results, means_of):
    ax = pl.scores(results, "accuracy")
    for y, name in enumerate(names(ax)):
        points = means_of(results.scores, name, "accuracy")
        assert words(ax)[y] == f"{np.mean(points):.3f} ± {np.std(points, ddof=1):.3f}"


def dots(ax):
    return [dots.get_offsets()[:, 0] for dots in ax.collections if isinstance(dots, PathCollection)]


def test_each_data_set_is_a_point(results, means_of):
    ax = pl.scores(results, "nmi")
    for name, found in zip(names(ax), dots(ax), strict=True):
        expected = means_of(results.scores, name, "nmi")
        np.testing.assert_allclose(np.sort(found), np.sort(expected))
    assert not dots(pl.scores(results, "nmi", points=False))


def test_pretrained_genes_are_hatched_and_controls_hollow(results):
    ax = pl.scores(results, "accuracy")
    filled = {round(bar.get_y() + 0.31): bar for bar in ax.patches[::2]}
    for y, name in enumerate(names(ax)):
        assert bool(filled[y].get_hatch()) == name.startswith("protein")
        assert (filled[y].get_facecolor() == (1, 1, 1, 1)) == ("(" in name)


def test_undefined_has_a_word_and_no_bar(results):
    mine = results.scores["encoding"] == "learned + soft"
    results.scores.loc[mine & (results.scores["metric"] == "accuracy"), "value"] = np.nan
    ax = pl.scores(results, "accuracy")
    assert names(ax)[0] == "learned + soft"
    assert words(ax)[0] == "undefined"
    assert 0 not in bars(ax)


def test_all_undefined_is_said_of_each(results):
    results.scores["value"] = np.nan
    ax = pl.scores(results, "accuracy")
    assert list(words(ax).values()) == ["undefined"] * 12
    assert not bars(ax)


def test_fewer_data_sets_are_said(results):
    lost = (results.scores["encoding"] == "PCA") & (results.scores["dataset"] == "liver")
    results.scores.loc[lost, "value"] = np.nan
    ax = pl.scores(results, "accuracy")
    assert words(ax)[names(ax).index("PCA")].endswith("\n2 of 3 data sets")


def test_what_failed_or_diverged_is_said(results):
    jobs = results.jobs
    jobs.loc[jobs["encoding"] == "scVI", "status"] = "failed"
    jobs.loc[jobs["job"] == "train/learned + hard/1", "status"] = "diverged"
    results.scores = results.scores[results.scores["encoding"] != "scVI"]
    ax = pl.scores(results, "accuracy")
    assert words(ax)[names(ax).index("scVI")] == "failed"
    assert "learned + hard †" in names(ax)
    assert "training diverged" in [text.get_text() for text in ax.get_legend().get_texts()]


def test_a_metric_that_is_not_there_is_said():
    empty = pd.DataFrame(columns=["encoding", "dataset", "metric", "value"])
    ax = pl.scores(empty, "accuracy")
    assert [text.get_text() for text in ax.texts] == ["no accuracy in these results"]


def test_names_are_shown_as_they_are():
    odd = ["_hidden", "$x^2$", "a\nb", "€ & <b>", "x" * 80]
    table = pd.DataFrame({"encoding": odd, "dataset": "d", "metric": "accuracy", "value": 0.5})
    for ax in (pl.scores(table, "accuracy"), pl.integration(_both(table))):
        ax.figure.canvas.draw()
    assert set(names(pl.scores(table, "accuracy"))) == {
        "_hidden", r"\$x^2\$", "a b", "€ & <b>", "x" * 35 + "…"
    }  # fmt: skip


def _both(table):
    metrics = ("batch_correction", "bio_preservation")
    return pd.concat([table.assign(metric=metric) for metric in metrics])


def test_classification_has_a_panel_for_each_metric(results, means_of):
    axes = pl.classification(results)
    assert [ax.get_xlabel() for ax in axes] == ["accuracy", "macro F1"]
    expected = np.mean(means_of(results.scores, "PCA", "macro_f1"))
    assert bars(axes[1])[names(axes[1]).index("PCA")] == pytest.approx(expected)


def test_panels_may_be_given(results):
    figure, axes = plt.subplots(1, 2)
    assert list(pl.classification(results, axes)) == list(axes)
    part = plt.figure().subfigures(1, 2)[0]
    assert {ax.get_figure() for ax in pl.classification(results, part)} == {part}
    assert pl.classification(results, axes[0], metrics=["nmi"])[0] is axes[0]


def test_axes_that_do_not_fit_are_refused(results):
    _, axes = plt.subplots(1, 3)
    with pytest.raises(ValueError, match="this figure has 2 panels, got 3 axes"):
        pl.classification(results, axes)
    with pytest.raises(TypeError, match="got str"):
        pl.scores(results, "accuracy", "axes")
    with pytest.raises(TypeError, match="got int"):
        pl.classification(results, [1, 2])


def test_reconstruction_is_the_lowest_of_each_curve(results):
    ax = pl.reconstruction(results)
    curves = results.curves[results.curves["metric"] == "reconstruction_loss_validation"]
    assert len(names(ax)) == 10
    assert "PCA" not in names(ax)
    lengths = [bars(ax)[y] for y in range(10)]
    assert lengths == sorted(lengths, reverse=True)
    for y, name in enumerate(names(ax)):
        lowest = [curves[(curves["encoding"] == name) & (curves["seed"] == s)]["value"].min()
                  for s in (0, 1)]  # fmt: skip
        assert lengths[y] == pytest.approx(np.mean(lowest))
        assert words(ax)[y] == f"{np.mean(lowest):.3f} ± {np.std(lowest, ddof=1):.3f}"


def test_reconstruction_of_the_evaluation_sets(results, means_of):
    for ax in (pl.reconstruction(results, of="evaluation"), pl.reconstruction(results.scores)):
        assert len(names(ax)) == 10
        expected = np.mean(means_of(results.scores, "learned + soft", "reconstruction_mse"))
        assert bars(ax)[names(ax).index("learned + soft")] == pytest.approx(expected)
    with pytest.raises(ValueError, match="of must be one of 'training', 'evaluation'"):
        pl.reconstruction(results, of="test")


def test_an_error_far_beyond_the_others_is_cut():
    rows = {"a": 0.2, "b": 0.3, "c": 0.25, "far": 9.0}
    table = pd.DataFrame({"encoding": rows.keys(), "value": rows.values()})
    ax = pl.reconstruction(table.assign(dataset="d", metric="reconstruction_mse"))
    assert names(ax)[0] == "far"
    assert bars(ax)[0] == pytest.approx(3 * np.median(list(rows.values())))
    assert words(ax)[0] == "9.000"
