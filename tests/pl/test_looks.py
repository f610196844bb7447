"""Encodings are told apart by the colour-blind, in grey, and without colour."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_rgb

from scenc.pl._looks import EXPRESSION_COLORS, looks

# Machado, Oliveira and Fernandes 2009, doi:10.1109/TVCG.2009.113, severity 1, linear RGB.
VISION = {
    "normal": np.eye(3),
    "protanopia": [
        [0.152286, 1.052583, -0.204868],
        [0.114503, 0.786281, 0.099216],
        [-0.003882, -0.048116, 1.051998],
    ],
    "deuteranopia": [
        [0.367322, 0.860646, -0.227968],
        [0.280085, 0.672501, 0.047413],
        [-0.011820, 0.042940, 0.968881],
    ],
    "tritanopia": [
        [1.255528, -0.076749, -0.178779],
        [-0.078411, 0.930809, 0.147602],
        [0.004733, 0.691367, 0.303900],
    ],
}
XYZ = [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750],
       [0.0193339, 0.1191920, 0.9503041]]  # fmt: skip
WHITE = np.array([0.95047, 1.0, 1.08883])


def cielab(color, vision="normal"):
    rgb = np.array(to_rgb(color))
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    x = np.array(XYZ) @ np.clip(np.array(VISION[vision]) @ linear, 0, 1) / WHITE
    f = np.where(x > 216 / 24389, np.cbrt(x), (24389 / 27 * x + 16) / 116)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


@pytest.mark.parametrize("vision", VISION)
def test_colors_differ_to_every_eye(vision):
    for a, b in combinations(EXPRESSION_COLORS.values(), 2):
        assert np.linalg.norm(cielab(a, vision) - cielab(b, vision)) > 20


def test_colors_differ_in_lightness():
    lightness = sorted(cielab(color)[0] for color in EXPRESSION_COLORS.values())
    assert np.diff(lightness).min() > 14


def test_letters_stand_out_from_what_they_are_on(results):
    for look in looks(results.scores).values():
        if look.letter:
            assert abs(cielab(look.face)[0] - cielab(look.on_face)[0]) > 30


def test_encodings_differ_without_colour(results):
    found = looks(results.scores)
    assert len(found) == 12
    assert len({(look.marker, look.letter, look.hollow) for look in found.values()}) == 12


def test_the_grid_comes_first_then_controls_then_baselines(results):
    shuffled = results.scores.sample(frac=1, random_state=0)
    assert list(looks(shuffled))[:4] == [
        "learned + raw", "protein + raw", "learned + hard", "protein + hard"
    ]  # fmt: skip
    kinds = shuffled.drop_duplicates("encoding").set_index("encoding")["kind"]
    assert (
        list(kinds[list(looks(shuffled))]) == ["encoding"] * 8 + ["control"] * 2 + ["baseline"] * 2
    )


def test_two_of_a_kind_are_numbered():
    table = pd.DataFrame(
        {
            "encoding": ["a", "b"],
            "kind": "encoding",
            "gene_encoder": "learned",
            "expression_encoder": "soft",
        }
    )
    assert [look.letter for look in looks(table).values()] == ["S", "S2"]


def test_what_is_no_encoding_of_ours_is_grey_and_has_a_marker_of_its_own():
    names = [f"method {i}" for i in range(9)]
    table = pd.DataFrame({"encoding": names, "kind": "encoding"})
    table = table.assign(gene_encoder=None, expression_encoder=None)
    found = looks(table).values()
    assert len({look.marker for look in found}) == 9
    for look in found:
        assert np.hypot(*cielab(look.color)[1:]) < 10
