"""Paired scores of two sides, and their bootstrap over data sets and seeds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True)
class Paired:
    """Scores of two sides on the same data sets and seeds.

    Attributes
    ----------
    a, b
        Shape ``(n_datasets, n_seeds)``, NaN where either is undefined.
    """

    a: NDArray[np.float64]
    b: NDArray[np.float64]

    @classmethod
    def of(cls, a: NDArray[np.float64], b: NDArray[np.float64]) -> Paired:
        """Keep scores that both sides have; drop data sets and seeds without any."""
        both = np.isfinite(a) & np.isfinite(b)
        rows, columns = both.any(axis=1), both.any(axis=0)
        a, b = np.where(both, a, np.nan), np.where(both, b, np.nan)
        return cls(a[rows][:, columns], b[rows][:, columns])

    @property
    def n_datasets(self) -> int:
        """Number of data sets with scores of both."""
        return len(self.a)

    @property
    def n_seeds(self) -> int:
        """Number of seeds with scores of both."""
        return int(self.a.shape[1])

    def means(self) -> tuple[float, float]:
        """Return both means: over seeds, then over data sets."""
        one = np.ones((1, self.n_datasets)), np.ones((1, self.n_seeds))
        return float(_means(self.a, *one)[0]), float(_means(self.b, *one)[0])

    def resampled(self, n: int, seed: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return both means of n bootstrap samples, shape ``(n,)`` each.

        Data sets and seeds are crossed, since the model of a seed is scored on all data sets. So
        both are drawn with replacement, independently of each other (the "pigeonhole bootstrap",
        Owen 2007, doi:10.1214/07-AOAS122; its intervals are rather too wide than too narrow). Both
        sides get the same draws.
        """
        rng = np.random.default_rng(seed)
        rows = _draws(rng, n, self.n_datasets)
        columns = _draws(rng, n, self.n_seeds)
        a, b = _means(self.a, rows, columns), _means(self.b, rows, columns)
        # Where seeds are missing on some data sets, a sample may hold no score at all.
        whole = np.isfinite(a)
        return a[whole], b[whole]


def _draws(rng: np.random.Generator, n: int, size: int) -> NDArray[np.float64]:
    """Return how often each of `size` items is drawn in n samples, shape ``(n, size)``."""
    return rng.multinomial(size, np.full(size, 1 / size), size=n).astype(np.float64)


def _means(
    values: NDArray[np.float64], rows: NDArray[np.float64], columns: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return weighted means of the defined values, over columns, then rows, shape ``(n,)``."""
    defined = np.isfinite(values).astype(np.float64)
    weight = columns @ defined.T
    sums = columns @ np.where(defined > 0, values, 0).T
    per_row = np.divide(sums, weight, out=np.zeros_like(sums), where=weight > 0)
    rows = rows * (weight > 0)
    total = rows.sum(axis=1)
    sums = (rows * per_row).sum(axis=1)
    means: NDArray[np.float64] = np.full(len(rows), np.nan)
    return np.divide(sums, total, out=means, where=total > 0)
