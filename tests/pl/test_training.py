from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pytest

import scenc


def line(ax, label):
    return next(line for line in ax.lines if line.get_label() == label).get_xydata()


def test_curves_are_drawn_by_step(trained):
    ax = scenc.pl.training(trained)
    for name, label in (
        ("train_loss", "training, each step"),
        ("reconstruction_loss_validation", "validation"),
    ):
        curve = trained.history[name]
        expected = np.column_stack([curve.index, curve[name]])
        np.testing.assert_allclose(line(ax, label), expected)
    assert "step" in ax.get_xlabel()
    assert {text.get_text() for text in ax.get_legend().get_texts()} >= {"validation"}


def test_axes_may_be_given(trained):
    _, ax = plt.subplots()
    assert scenc.pl.training(trained, ax=ax) is ax


def test_a_model_without_validation_is_drawn(adata, make_model, train):
    model = train(make_model(adata), validation_size=0, max_epochs=1)
    ax = scenc.pl.training(model)
    assert len(ax.lines) == 2


def test_an_untrained_model_has_no_curves(adata, make_model):
    with pytest.raises(ValueError, match=r"call model\.train\(\) first"):
        scenc.pl.training(make_model(adata))
