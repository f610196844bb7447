from __future__ import annotations

import logging
import shutil
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from filelock import FileLock, Timeout

from scenc.datasets._catalogue import API, Catalogue
from scenc.datasets._fetch import Download
from scenc.datasets._http import Http
from scenc.datasets._lock import NAME, LockFile
from scenc.datasets._report import DownloadError, DownloadReport, readable
from scenc.datasets._wanted import wanted

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable, Iterator, Sequence

    import pandas as pd

    from scenc.datasets._wanted import Wanted

logger = logging.getLogger(__name__)


def download(
    what: str | Iterable[str] | pd.DataFrame,
    folder: str | os.PathLike[str] = "scenc-data",
    *,
    dry_run: bool = False,
    update: bool = False,
    verify: bool = False,
    workers: int = 4,
    retries: int = 5,
    timeout: float = 60.0,
    progress: bool = True,
    api: str = API,
) -> DownloadReport:
    """Download data sets of CELLxGENE and Tabula Sapiens, all of them or the rest of them.

    A download that was broken off goes on where it stopped. A file is given its name when its size,
    its checksum (if it was downloaded before) and its structure are right. The folder's lock file,
    ``scenc-datasets.lock.json``, keeps which version of each data set was taken, and its checksum:
    with it, the same call gives the same files anywhere and later.

    Parameters
    ----------
    what
        ``"pretraining"``, ``"tabula-sapiens"``, a tissue, an id of CELLxGENE, several of these, or
        rows of the table that `pretraining` or `tissues` returns.
    folder
        Where the files go.
    dry_run
        Find out what would be downloaded and how large it is, and write nothing.
    update
        Look for newer versions of data sets that are in the lock file.
    verify
        Also compute the checksums of files that are already there. Otherwise their size must do.
    workers
        Number of files that are downloaded at once.
    retries
        How often in a row a request may fail and be repeated; pauses double from one second.
    timeout
        Seconds without any answer after which a request has failed.
    progress
        Whether to show progress.
    api
        Base address of CELLxGENE's Curation API.

    Returns
    -------
    A report on each data set; its ``paths`` are the files that hold counts. Rows of
    `pretraining` that cannot be found are listed, not refused.

    Raises
    ------
    ValueError
        A name is unknown, or the lock file is damaged.
    DownloadError
        Some data sets could not be downloaded. All others have been.
    OSError
        The disk has too little room.

    Examples
    --------
    >>> table = scenc.datasets.pretraining()
    >>> plan = scenc.datasets.download(table.query("kind == 'rna'"), "atlas", dry_run=True)
    >>> print(plan)
    """
    if workers < 1 or retries < 0:
        raise ValueError(f"workers must be at least 1 and retries 0: got {workers} and {retries}.")
    items, folder = wanted(what), Path(folder)
    http = Http(retries, timeout, allow_http=urlsplit(api).scheme == "http")
    run = Download(items, folder, http, Catalogue(http, api), workers, progress)
    if dry_run:
        return _without_failure(items, run.plan(LockFile(folder / NAME), update, verify))
    folder.mkdir(parents=True, exist_ok=True)
    with _alone(folder):
        lock = LockFile(folder / NAME)
        plan = run.plan(lock, update, verify)
        _require_room(plan)
        return _without_failure(items, run.carry_out(plan, lock))


def _without_failure(items: Sequence[Wanted], report: DownloadReport) -> DownloadReport:
    """Raise if something failed. Rows of the paper that cannot be found are no failure."""
    for item, entry in zip(items, report.entries, strict=True):
        lost = entry.state == "not found" and item.printed_id is None
        if entry.state == "failed" or lost:
            raise DownloadError(report)
    return report


def _require_room(plan: DownloadReport) -> None:
    needed = 0
    for entry in plan.of("to download"):
        assert entry.path is not None
        part = entry.path.with_name(f"{entry.path.name}.part")
        needed += max(0, (entry.size or 0) - (part.stat().st_size if part.exists() else 0))
    free = shutil.disk_usage(plan.folder).free
    if needed > free:
        raise OSError(
            f"{readable(needed)} are to be downloaded, but {plan.folder} has room for "
            f"{readable(free)}. Free some, name another folder, or ask for fewer data sets."
        )


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Let one process at a time write into a folder."""
    guard = FileLock(folder / f".{NAME}.guard")
    try:
        guard.acquire(timeout=0)
    except Timeout:
        logger.warning("Another download into %s is running: waiting for it.", folder)
        guard.acquire()
    try:
        yield
    finally:
        guard.release()
