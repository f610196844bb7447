from __future__ import annotations

import math


class Score(float):
    """A number that, when it is NaN, says why.

    Parameters
    ----------
    value
        The number.
    reason
        Why the score is undefined. Required for NaN, refused otherwise.

    Raises
    ------
    ValueError
        If a NaN comes without a reason, or a reason without a NaN.

    Examples
    --------
    >>> from scenc.metrics import Score
    >>> Score(0.25) + 0.5
    0.75
    >>> Score.undefined("there is only one batch")
    Score(nan, 'there is only one batch')
    """

    __slots__ = ("reason",)

    reason: str | None

    def __new__(cls, value: float, reason: str | None = None) -> Score:
        score = super().__new__(cls, value)
        if math.isnan(score) != bool(reason):
            raise ValueError(
                f"reason: a score is undefined with a reason or defined without one, "
                f"got {value!r} with {reason!r}."
            )
        score.reason = reason
        return score

    @classmethod
    def undefined(cls, reason: str) -> Score:
        """NaN, and why.

        Parameters
        ----------
        reason
            A clause in plain words.
        """
        return cls(math.nan, reason)

    def __getnewargs__(self) -> tuple[float, str | None]:  # type: ignore[override]
        return float(self), self.reason

    def __repr__(self) -> str:
        if self.reason is None:
            return super().__repr__()
        return f"Score(nan, {self.reason!r})"
