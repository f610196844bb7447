from __future__ import annotations

import math

import pytest

from scenc.train import warmup_cosine
from scenc.train._schedule import warmup_within


@pytest.mark.parametrize("floor", [0.0, 0.1])
def test_rises_linearly_then_falls_as_a_cosine(floor):
    warmup, total = 10, 110
    shares = [warmup_cosine(s, warmup=warmup, total=total, floor=floor) for s in range(total + 1)]
    for step in range(warmup):
        assert shares[step] == pytest.approx((step + 1) / 10)
    for step in range(warmup, total + 1):
        cosine = (1 + math.cos(math.pi * (step - 10) / 100)) / 2
        assert shares[step] == pytest.approx(floor + (1 - floor) * cosine)
    assert shares[warmup] == 1
    assert shares[60] == pytest.approx((1 + floor) / 2)
    assert shares[-1] == pytest.approx(floor)


def test_stays_at_the_floor_after_the_end():
    assert warmup_cosine(500, warmup=10, total=110, floor=0.2) == pytest.approx(0.2)


@pytest.mark.parametrize(("warmup", "total"), [(0, 5), (5, 5), (0, 0)])
def test_extreme_lengths_are_defined(warmup, total):
    for step in range(total + 1):
        assert 0 <= warmup_cosine(step, warmup=warmup, total=total) <= 1


@pytest.mark.parametrize(
    ("warmup", "total", "share", "expected"),
    [(2000, 100, 0.1, 10), (5, 100, 0.1, 5), (2000, 100, 1.0, 100), (2000, 100, 0.0, 0)],
)
def test_warmup_is_cut_to_a_share_of_short_trainings(warmup, total, share, expected):
    assert warmup_within(warmup, total, share) == expected
