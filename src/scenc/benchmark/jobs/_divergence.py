"""Divergence of trainings whose loss stayed finite."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

FACTOR = 2.0
"""A loss diverged if it ends above this many times its best."""


@dataclass(frozen=True)
class Divergence:
    """A loss that rose and did not come back.

    Attributes
    ----------
    step
        The first step from which on the loss stayed above `FACTOR` times its best.
    last, best, best_step
        The loss at the end, the best before, and when that was.
    """

    step: int
    last: float
    best: float
    best_step: int

    def __str__(self) -> str:
        return (
            f"the validation loss ended at {self.last:.4g}, {self.last / self.best:.1f} times its "
            f"best ({self.best:.4g} at step {self.best_step}); the best weights were kept"
        )


def find_divergence(steps: Sequence[int], losses: Sequence[float | None]) -> Divergence | None:
    """Say whether a validation loss diverged: it ends at more than twice its best.

    The step it is dated to is the first of those at its end that all lie above twice the best;
    a loss that rises and comes back has not diverged.

    Parameters
    ----------
    steps
        Optimizer steps of the validations.
    losses
        Validation losses; None for one that is not finite.

    Returns
    -------
    The divergence, or None.

    Examples
    --------
    >>> from scenc.benchmark.jobs._divergence import find_divergence
    >>> find_divergence([9, 19, 29, 39], [1.0, 0.2, 0.5, 0.6]).step
    29
    >>> find_divergence([9, 19, 29, 39], [1.0, 0.2, 0.5, 0.3]) is None
    True
    """
    values = [float("inf") if loss is None else loss for loss in losses]
    best = min(values, default=float("inf"))
    if best == float("inf"):
        return None
    first = len(values)
    while first > 0 and values[first - 1] > FACTOR * best:
        first -= 1
    if first == len(values):
        return None
    at = values.index(best)
    return Divergence(steps[first], values[-1], best, steps[at])
