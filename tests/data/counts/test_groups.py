from __future__ import annotations

import numpy as np
import pytest

from scenc.data.counts import pool_small_batches


@pytest.mark.parametrize(
    ("batches", "pooled"),
    [
        ([0] * 4 + [1] * 4, [0] * 4 + [1] * 4),
        ([0] * 5 + [1, 2, 2, 3], [0] * 5 + [1] * 4),
        # Too few together: they go with the largest batch.
        ([0] * 4 + [1] * 5 + [2, 3], [0] * 4 + [1] * 7),
        ([7, 3, 5, 9, 4, 1], [1] * 6),
        ([2, 2, 5], [2, 2, 2]),
    ],
)
def test_small_batches_become_one(batches, pooled):
    assert pool_small_batches(np.array(batches)).tolist() == pooled
