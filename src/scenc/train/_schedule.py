from __future__ import annotations

import math


def warmup_cosine(step: int, *, warmup: int, total: int, floor: float = 0.0) -> float:
    """Return the share of the learning rate at an optimizer step: linear up, then cosine down.

    Parameters
    ----------
    step
        Steps already taken.
    warmup
        Steps of the rise.
    total
        Steps of the whole training.
    floor
        Where the cosine ends.

    Examples
    --------
    >>> [scenc.train.warmup_cosine(step, warmup=10, total=100) for step in (4, 9, 55, 100)]
    [0.5, 1.0, 0.5, 0.0]
    """
    if step < warmup:
        return (step + 1) / warmup
    done = min(1.0, (step - warmup) / max(1, total - warmup))
    return floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * done))


def warmup_within(warmup: int, total: int, max_share: float) -> int:
    """Return the warm-up, cut to a share of the total where training is short."""
    return min(warmup, int(max_share * total))
