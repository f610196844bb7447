from __future__ import annotations

import pytest

from scenc.benchmark.jobs._divergence import find_divergence


@pytest.mark.parametrize(
    ("losses", "step"),
    [
        ([1.0, 0.5, 0.4, 0.3], None),
        ([0.3, 0.61, 0.5, 0.4], None),  # up and back
        ([0.3, 0.4, 0.5, 0.6], None),  # twice is not above twice
        ([0.3, 0.4, 0.5, 0.61], 30),
        ([1.0, 0.3, 0.7, 0.9], 20),
        ([1.0, 0.9, 0.3, None], 30),
        ([0.3, None, 0.3, 0.9], 30),
        ([None, None], None),
        ([], None),
        ([0.5], None),
    ],
)
def test_divergence_is_a_rise_that_stays(losses, step):
    found = find_divergence(range(0, 10 * len(losses), 10), losses)
    assert (found and found.step) == step


def test_it_says_what_happened():
    text = str(find_divergence([9, 19, 29], [0.2, 0.5, 0.6]))
    assert text.startswith("the validation loss ended at 0.6, 3.0 times its best (0.2 at step 9)")
