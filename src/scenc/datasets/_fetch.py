"""A download: find every data set, fetch the files, look into them."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from tqdm.auto import tqdm

from scenc.datasets._http import RefusedError
from scenc.datasets._lock import Pin
from scenc.datasets._read import inspect
from scenc.datasets._report import DownloadReport, Entry
from scenc.datasets._resolve import resolve
from scenc.datasets._transfer import checksum, transfer

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from scenc.datasets._catalogue import Catalogue
    from scenc.datasets._http import Http
    from scenc.datasets._lock import LockFile
    from scenc.datasets._wanted import Wanted


class Download:
    """Data sets to download into a folder: first `plan`, then `carry_out`.

    Parameters
    ----------
    items
        The data sets.
    folder
        Where they go.
    http, catalogue
        Make the requests for files and for the list of data sets.
    workers
        Number of requests at a time.
    progress
        Whether to show progress.
    """

    def __init__(
        self,
        items: Sequence[Wanted],
        folder: Path,
        http: Http,
        catalogue: Catalogue,
        workers: int,
        progress: bool,
    ) -> None:
        self._items = items
        self._folder = folder
        self._http = http
        self._catalogue = catalogue
        self._workers = workers
        self._progress = progress
        self._pins: dict[str, Pin] = {}
        self._claimed: dict[str, str] = {}
        self._guard = threading.Lock()

    def plan(self, lock: LockFile, update: bool, verify: bool) -> DownloadReport:
        """Find every data set, and what of it is there already."""

        def find(item: Wanted) -> Entry:
            try:
                return self._find(item, lock, update, verify)
            except RefusedError as error:
                return Entry(item.name, "failed", item.kind, note=str(error))
            finally:
                bar.update()

        with self._bar("finding", total=len(self._items), unit=" data sets") as bar:
            return DownloadReport(self._in_threads(find, self._items), self._folder)

    def carry_out(self, plan: DownloadReport, lock: LockFile) -> DownloadReport:
        """Download what the plan says, and look into the files."""
        lock.put(*self._pins.values())
        todo = plan.of("to download")
        n_bytes = sum(entry.size or 0 for entry in todo)
        with self._bar("downloading", total=n_bytes, unit="B", unit_scale=True) as bar:
            done = self._in_threads(lambda entry: self._fetch(entry, lock, bar.update), todo)
        by_name = {entry.name: entry for entry in done}
        return replace(plan, entries=[by_name.get(entry.name, entry) for entry in plan.entries])

    def _find(self, item: Wanted, lock: LockFile, update: bool, verify: bool) -> Entry:
        pinned = lock.find(item.asked)
        how = ""
        if pinned is None or update:
            pin, how = self._ask(item, pinned)
        else:
            pin = pinned
        if pin is None:
            return Entry(item.name, "not found", item.kind, cells=item.cells, note=how)
        with self._guard:
            holder = self._claimed.setdefault(pin.file, item.name)
            self._pins.setdefault(pin.file, pin)
        entry = Entry(
            name=item.name,
            state="to download",
            kind=item.kind,
            path=self._folder / pin.file,
            dataset_id=pin.dataset_id,
            version_id=pin.version_id,
            title=pin.title,
            cells=pin.cells,
            size=pin.size,
            note="; ".join(note for note in (how, item.note) if note),
        )
        if holder != item.name:
            return replace(entry, state="not found", path=None, note=f"the same as {holder}")
        if _is_there(self._folder / pin.file, pin, verify):
            return _look_into(replace(entry, state="already there"))
        return entry

    def _ask(self, item: Wanted, pinned: Pin | None) -> tuple[Pin | None, str]:
        """Ask the server where a data set is; say how it was found, or what is near."""
        if item.url is not None and item.file is not None:
            headers = self._http.head(item.url)
            if headers is None:
                raise RefusedError(f"There is nothing at {item.url}.")
            size = headers.get("Content-Length", "")
            return Pin(item.file, item.url, item.asked, int(size) if size.isdigit() else None), ""
        resolution = resolve(self._catalogue, item.dataset_id, item.printed_id, item.cells)
        version = resolution.version
        if version is None:
            return None, resolution.how
        pin = Pin(
            file=f"{version.dataset_id}.h5ad",
            url=version.url,
            asked=item.asked,
            size=version.size,
            dataset_id=version.dataset_id,
            version_id=version.version_id,
            title=version.title,
            cells=version.cells,
        )
        if pinned is not None and pinned.version_id == pin.version_id:
            pin = replace(pin, sha256=pinned.sha256)
        return pin, resolution.how

    def _fetch(self, entry: Entry, lock: LockFile, on_bytes: Callable[[int], object]) -> Entry:
        assert entry.path is not None
        pin = self._pins[entry.path.name]
        try:
            digest = transfer(pin, entry.path, self._http, on_bytes)
        except (RefusedError, OSError) as error:
            return replace(entry, state="failed", path=None, note=str(error))
        lock.put(replace(pin, sha256=digest, size=entry.path.stat().st_size))
        return _look_into(replace(entry, state="downloaded"))

    def _bar(self, what: str, **form: Any) -> tqdm[Any]:
        return tqdm(desc=what, disable=not self._progress or not form["total"], **form)

    def _in_threads[T](self, function: Callable[[T], Entry], items: Sequence[T]) -> list[Entry]:
        with ThreadPoolExecutor(self._workers) as pool:
            try:
                futures = [pool.submit(function, item) for item in items]
                for future in futures:
                    # Not result() alone: an interrupt just before it would wait as long as it.
                    while wait([future], timeout=1).not_done:
                        pass
                return [future.result() for future in futures]
            except BaseException:
                # A keyboard interrupt, say: the threads end at their next block.
                self._http.stop.set()
                pool.shutdown(wait=False, cancel_futures=True)
                raise


def _look_into(entry: Entry) -> Entry:
    """Add what a file holds to what is known of it."""
    assert entry.path is not None
    try:
        content = inspect(entry.path)
    except (ValueError, KeyError, OSError) as error:
        return replace(entry, state="failed", path=None, note=f"{entry.path}: {error}")
    notes = [note for note in (entry.note, content.note) if note]
    if entry.cells not in (None, content.n_cells):
        notes.append(f"the catalogue says {entry.cells:,} cells")
    return replace(
        entry,
        size=entry.path.stat().st_size,
        cells=content.n_cells,
        counts=content.counts,
        n_off_tissue=content.n_off_tissue,
        note="; ".join(notes),
    )


def _is_there(path: Path, pin: Pin, verify: bool) -> bool:
    """Whether a file is there as the lock file describes it."""
    if not path.is_file() or pin.sha256 is None or path.stat().st_size != pin.size:
        return False
    return not verify or checksum(path) == pin.sha256
