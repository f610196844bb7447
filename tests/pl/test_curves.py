"""Training curves of many encodings, and where they diverged."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pytest

from scenc import pl

VALIDATION = "reconstruction_loss_validation"


def curve(results, name, seed, metric=VALIDATION):
    of = results.curves
    of = of[(of["encoding"] == name) & (of["seed"] == seed) & (of["metric"] == metric)]
    return of[["step", "value"]].to_numpy(float)


def drawn(ax):
    return [line.get_xydata() for line in ax.lines if len(line.get_xdata()) > 1]


def test_each_seed_of_each_encoding_is_a_line(results):
    axes = pl.training_curves(results)
    assert [ax.get_title(loc="left") for ax in axes] == [
        f"{name} expression" for name in ("raw", "hard", "log", "soft")
    ]
    assert [len(drawn(ax)) for ax in axes] == [4, 6, 6, 4]
    for seed in (0, 1):
        expected = curve(results, "protein + soft", seed)
        assert any(np.array_equal(line, expected) for line in drawn(axes[3]))


def test_gene_encoders_differ_in_their_line(results):
    legend = pl.training_curves(results)[1].get_legend()
    styles = [line.get_linestyle() + str(line._dash_pattern) for line in legend.get_lines()]
    assert len(set(styles)) == 3


def test_a_divergence_is_marked_at_its_step(results):
    jobs = results.jobs
    jobs.loc[jobs["job"] == "train/learned + hard/1", ["status", "diverged_step"]] = [
        "diverged",
        44,
    ]
    axes = pl.training_curves(results)
    marks = [line.get_xydata() for line in axes[1].lines if line.get_marker() == "X"]
    steps, values = curve(results, "learned + hard", 1).T
    np.testing.assert_allclose(marks, [[[44, np.interp(44, steps, values)]]])
    assert "diverged" in [text.get_text() for text in axes[1].get_legend().get_texts()]
    assert all(line.get_marker() != "X" for ax in axes[[0, 2, 3]] for line in ax.lines)


def test_a_divergence_does_not_set_the_scale(results):
    before = pl.training_curves(results)[0].get_ylim()
    curves, jobs = results.curves, results.jobs
    jobs.loc[jobs["job"] == "train/learned + raw/0", ["status", "diverged_step"]] = ["diverged", 50]
    exploded = (curves["encoding"] == "learned + raw") & (curves["seed"] == 0)
    curves.loc[exploded & (curves["step"] > 50), "value"] = 1e6
    np.testing.assert_allclose(pl.training_curves(results)[0].get_ylim(), before, rtol=0.1)


def test_losses_that_are_not_finite_are_left_out(results):
    results.curves.loc[results.curves["step"] > 50, "value"] = np.inf
    assert all(line[:, 0].max() < 50 for line in drawn(pl.training_curves(results)[0]))


def test_curves_alone_have_a_panel_each(results):
    axes = pl.training_curves(results.curves, metric="reconstruction_loss_train")
    assert len(axes) == 10
    expected = curve(results, "learned + raw", 0, "reconstruction_loss_train")
    assert any(np.array_equal(line, expected) for line in drawn(axes[0]))


def test_no_curves_are_said(results):
    results.curves = results.curves.iloc[:0]
    axes = pl.training_curves(results)
    assert [text.get_text() for text in axes[0].texts] == ["no training curves in these results"]


def test_panels_may_be_given(results):
    _, axes = plt.subplots(2, 2)
    assert list(pl.training_curves(results, axes)) == list(axes.flat)
    with pytest.raises(ValueError, match="has 4 panels, got 1 axes"):
        pl.training_curves(results, plt.subplots()[1])


def test_an_unknown_metric_names_the_nearest(results):
    with pytest.raises(ValueError, match=f"Did you mean '{VALIDATION}'"):
        pl.training_curves(results, metric="reconstruction_loss_validatio")
