from __future__ import annotations

from typing import Self


class Progress:
    """A bar over jobs.

    Parameters
    ----------
    total
        Number of jobs.
    shown
        Whether it is to be seen.
    """

    def __init__(self, total: int, shown: bool) -> None:
        self._total, self._shown = total, shown

    def __enter__(self) -> Self:
        from tqdm.auto import tqdm

        self._bar = tqdm(total=self._total, desc="Benchmark", unit="job", disable=not self._shown)
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.close()

    def start(self, done: int) -> None:
        """Show what was done before; the rate counts from here."""
        self._bar.initial = done
        self._bar.n = done
        self._bar.refresh()

    def advance(self, what: str) -> None:
        """One job has ended."""
        self._bar.set_postfix_str(what, refresh=False)
        self._bar.update()
