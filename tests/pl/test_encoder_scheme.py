"""Figure 4 shows what the encoders compute."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch

from scenc import pl
from scenc.nn import LogBinEncoder


def lines(ax):
    return [line.get_xydata() for line in ax.lines if len(line.get_xdata()) >= 2]


def test_log_bins_are_those_of_the_encoder():
    ax = pl.encodings()[4]
    encoder = LogBinEncoder(d_model=4)
    pieces = lines(ax)
    pieces = [piece for piece in pieces if piece[0, 1] == piece[1, 1]]
    assert len(pieces) == 6
    for (first, bin_), (last, _) in pieces:
        counts = torch.tensor([float(np.floor(first)), float(np.floor(last))])
        assert encoder.bins(counts).tolist() == [bin_, bin_]


def test_hard_bins_are_those_of_the_tokenizer(make_batch):
    ax = pl.encodings()[2]
    values = next(line.get_xdata() for line in ax.lines if line.get_marker() == "|")
    counts = np.expm1(values) / 5
    batch = make_batch(counts.round()[None], quantile_bins=5)
    pieces = [piece for piece in lines(ax) if len(piece) == 2 and piece[0, 1] == piece[1, 1]]
    assert len(pieces) == 5
    for count, expected in zip(batch.counts, batch.quantile_bins, strict=True):
        x = np.log1p(5 * float(count))
        bins = [bin_ for (first, bin_), (last, _) in pieces if first - 0.01 <= x <= last + 0.01]
        assert float(expected) in bins
    assert set(batch.quantile_bins.tolist()) == {1, 2, 3, 4, 5}


def test_soft_weights_sum_to_one():
    curves = [line.get_ydata() for line in pl.encodings()[5].lines]
    assert len(curves) == 6
    np.testing.assert_allclose(np.sum(curves, axis=0), 1)


def test_six_axes_may_be_given():
    _, axes = plt.subplots(3, 2)
    assert list(pl.encodings(axes)) == list(axes.flat)
    with pytest.raises(ValueError, match="has 6 panels, got 2 axes"):
        pl.encodings(axes[0])


def test_published_bins_are_those_of_the_encoders():
    scbert, scgpt = pl.published_encodings()[:2]
    encoder = LogBinEncoder(d_model=4, max_bin=5, reads="scaled")
    pieces = [piece for piece in lines(scbert) if piece[0, 1] == piece[1, 1]]
    assert len(pieces) == 6
    for (first, bin_), (last, _) in pieces:
        assert encoder.bins(torch.tensor([first, last])).tolist() == [bin_, bin_]
    # One vector for each bin: coordinates jump where the bins of `encodings` do, and only there.
    edges = [line.get_xdata()[0] for line in pl.encodings()[2].lines if len(line.get_xdata()) == 2]
    for line in scgpt.lines:
        x, y = line.get_xydata().T
        jumps = x[np.flatnonzero(np.isnan(y))]
        assert len(jumps) == 4
        assert all(np.isclose(edges, jump, atol=0.02).any() for jump in jumps)
        assert len(np.unique(y[~np.isnan(y)])) == 5


def test_published_soft_weights_sum_to_one():
    axes = pl.published_encodings()
    for ax, n in ((axes[2], 6), (axes[3], 5)):
        curves = [line.get_ydata() for line in ax.lines]
        assert len(curves) == n
        np.testing.assert_allclose(np.sum(curves, axis=0), 1)
    # Shares of a cell of which the largest count has its share.
    counts = np.array([1, 1, 2, 2, 3, 3, 4, 6, 9, 14, 22, 40, 75])
    largest = 100 * np.log1p(75) / np.log1p(counts).sum()
    assert axes[3].lines[0].get_xdata().max() == pytest.approx(largest)
