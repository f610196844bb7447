"""Report of a download."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from scenc._printing import Printed, PrintedTable, list_some

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import pandas as pd

STATES = ("downloaded", "already there", "to download", "not found", "failed")
_UNITS = ("B", "kB", "MB", "GB", "TB")


@dataclass(frozen=True, slots=True)
class Entry:
    """One data set of a download.

    Attributes
    ----------
    name
        Name it was asked for by: a row of `pretraining`, a tissue, an id.
    state
        ``"downloaded"``, ``"already there"``, ``"to download"``, ``"not found"``, ``"failed"``.
    kind
        Its kind in `pretraining`; ``""`` for others.
    path
        The file; ``None`` if there is none.
    dataset_id, version_id, title
        As in CELLxGENE.
    cells
        Number of cells: the file's, or before a download the catalogue's.
    size
        Number of bytes.
    counts
        Where the file keeps its counts, ``"raw/X"`` or ``"X"``; ``None``: not known, or nowhere.
    n_off_tissue
        Number of spots outside of the tissue.
    note
        How it was found, why it failed, and other things to know.

    Examples
    --------
    >>> entry = scenc.datasets.Entry("liver", "to download", cells=8_444)
    >>> entry.name, entry.state, entry.cells
    ('liver', 'to download', 8444)
    """

    name: str
    state: str
    kind: str = ""
    path: Path | None = None
    dataset_id: str | None = None
    version_id: str | None = None
    title: str = ""
    cells: int | None = None
    size: int | None = None
    counts: str | None = None
    n_off_tissue: int | None = None
    note: str = ""


@dataclass(frozen=True, repr=False)
class DownloadReport(Printed):
    """State of each data set after a download, or with ``dry_run`` before it; prints as a table.

    Attributes
    ----------
    entries
        The data sets, in the order asked for.
    folder
        Where the files are.

    Examples
    --------
    >>> from pathlib import Path
    >>> entry = scenc.datasets.Entry("liver", "to download", cells=8_444, size=90_000_000)
    >>> plan = scenc.datasets.DownloadReport([entry], Path("atlas"))  # as `download` returns it
    >>> plan.n_bytes, [entry.name for entry in plan.of("to download")]
    (90000000, ['liver'])
    >>> plan
    <1 to download; 8,444 cells, 90 MB in atlas>
    """

    entries: Sequence[Entry]
    folder: Path

    @property
    def paths(self) -> list[Path]:
        """Files that are there and hold counts, ready to train on."""
        return [entry.path for entry in self.entries if entry.path and entry.counts]

    @property
    def n_bytes(self) -> int:
        """Size of all files, there or to be downloaded, as far as it is known."""
        return sum(entry.size or 0 for entry in self.entries)

    def of(self, state: str) -> list[Entry]:
        """Return the data sets in a state."""
        return [entry for entry in self.entries if entry.state == state]

    def to_frame(self) -> pd.DataFrame:
        """One row per data set, with the attributes of an entry as columns."""
        from dataclasses import asdict

        import pandas as pd

        return pd.DataFrame([asdict(entry) for entry in self.entries]).set_index("name")

    def __repr__(self) -> str:
        return f"<{self._summary()}>"

    def _table(self) -> PrintedTable:
        rows = [_row(entry) for entry in self.entries]
        details = {i: [f"  {entry.note}"] for i, entry in enumerate(self.entries) if entry.note}
        # The end of a long table is what a terminal shows.
        return PrintedTable("", rows, "<<>><<", details=details, notes=[self._summary()])

    def _summary(self) -> str:
        states = [f"{len(self.of(state))} {state}" for state in STATES if self.of(state)]
        cells = sum(entry.cells or 0 for entry in self.entries)
        unsized = any(entry.path and entry.size is None for entry in self.entries)
        least = "at least " if unsized else ""
        size = f"{least}{readable(self.n_bytes)}"
        return f"{', '.join(states) or 'nothing'}; {cells:,} cells, {size} in {self.folder}"


class DownloadError(RuntimeError):
    """Some data sets could not be downloaded; the others are there.

    Parameters
    ----------
    report
        State of each data set.

    Attributes
    ----------
    report
        The same.

    Examples
    --------
    >>> from pathlib import Path
    >>> entry = scenc.datasets.Entry("liver", "failed", note="the server did not answer")
    >>> report = scenc.datasets.DownloadReport([entry], Path("atlas"))
    >>> try:
    ...     raise scenc.datasets.DownloadError(report)  # as `download` does
    ... except scenc.datasets.DownloadError as error:
    ...     print([entry.name for entry in error.report.of("failed")])
    ['liver']
    """

    def __init__(self, report: DownloadReport) -> None:
        self.report = report
        failed = [*report.of("failed"), *report.of("not found")]
        names: dict[str, list[str]] = {}
        for entry in failed:
            names.setdefault(entry.note, []).append(entry.name)
        reasons = [f"{list_some(of, 3)}: {note}" for note, of in names.items()]
        super().__init__(
            f"{len(failed)} of {len(report.entries)} data sets were not downloaded. "
            f"{list_some(reasons, 5, '; ')}. What has arrived is kept: run the same again to go on."
        )


def readable(n_bytes: float) -> str:
    """Write a number of bytes in the unit that suits it."""
    for unit in _UNITS[:-1]:
        if n_bytes < 1000:
            return f"{n_bytes:.3g} {unit}"
        n_bytes /= 1000
    return f"{n_bytes:.3g} {_UNITS[-1]}"


def _row(entry: Entry) -> tuple[str, ...]:
    cells = f"{entry.cells:,} cells" if entry.cells is not None else "? cells"
    size = readable(entry.size) if entry.size is not None else "? B"
    title = entry.title if len(entry.title) <= 60 else entry.title[:57] + "..."
    return (entry.name, entry.state, cells, size, entry.counts or entry.kind, title)
