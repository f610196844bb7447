from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from scenc.io import atomic_path
from scenc.results import Results

if TYPE_CHECKING:
    import os


def write_report(
    results: Results | str | os.PathLike[str],
    out: str | os.PathLike[str] | None = None,
    figures: str | os.PathLike[str] | None = None,
) -> Path:
    """Write a benchmark's results as one HTML page that needs nothing else.

    The page says what was run, on what and with which versions; shows the figures, sortable tables
    of scores, differences with their intervals, divergences, failures and undefined scores; and
    has the paper's published numbers beside this run's. It opens without network.

    Parameters
    ----------
    results
        The results, or the folder they are in.
    out
        The file to write; ``None``: ``report.html`` in that folder.
    figures
        Folder to write the figures into as well, as PDF, SVG and PNG; ``None``: not written.

    Returns
    -------
    The file.

    Raises
    ------
    FileNotFoundError, ValueError
        As in `Results.load`.
    TypeError
        `out` is not given, and `results` are not in a folder.

    Examples
    --------
    >>> from scenc.benchmark import write_report
    >>> write_report("results", "report.html")
    """
    if not isinstance(results, Results):
        out = Path(results) / "report.html" if out is None else out
        results = Results.load(results)
    if out is None:
        raise TypeError("out must name a file where results are not given as a folder.")
    out = Path(out)
    if out.is_dir():
        raise IsADirectoryError(f"{out} is a folder; out must name a file, such as report.html.")
    from scenc.benchmark.report._page import Page

    page = Page(results)
    content = page.html()
    if figures is not None:
        page.save_figures(Path(figures))
    with atomic_path(out) as draft:
        draft.write_text(content, encoding="utf-8", errors="replace")
    return out
