"""Where jobs leave what they find: whole or not at all, under the key of all it depends on."""

from __future__ import annotations

import json
import shutil
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock, Timeout

from scenc.benchmark.entries._fingerprint import FORMAT
from scenc.io._atomic import atomic_folder, atomic_path

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator

    from anndata import AnnData

_RECORD = "job.json"


class JobStore:
    """The working folder of a benchmark.

    A result is a folder that is renamed into place once it is complete, so a process may be killed
    at any moment. Failures are kept apart: they are recorded, not reused.

    Parameters
    ----------
    root
        The folder.
    """

    def __init__(self, root: str | os.PathLike[str]) -> None:
        self.root = Path(root)
        self.data = self.root / "data"
        self._results = self.root / "jobs"
        self._failures = self.root / "failures"
        self._locks = self.root / "locks"

    def make(self) -> None:
        """Make the folders, and clear away drafts that killed processes left behind."""
        for folder in (self.data, self._results, self._failures, self._locks):
            folder.mkdir(parents=True, exist_ok=True)
        for draft in [*self.data.glob(".*"), *self._results.glob(".*")]:
            try:
                with FileLock(self._locks / f"{_key_of(draft)}.lock", timeout=0):
                    _remove(draft)
            except Timeout:
                continue  # its process is alive

    def folder(self, key: str) -> Path:
        """Return where the result with a key is, or would be."""
        return self._results / key

    def record(self, key: str) -> dict[str, Any] | None:
        """Return what a finished job says of itself, or None if it has not finished."""
        record = _read_json(self.folder(key) / _RECORD)
        if record is None or record.get("key") != key or record.get("format") != FORMAT:
            return None
        return record

    def failure(self, key: str) -> dict[str, Any] | None:
        """Return how a job failed last time, or None."""
        return _read_json(self._failures / f"{key}.json")

    def write_failure(self, key: str, failure: dict[str, Any]) -> None:
        """Record how a job failed."""
        write_json(self._failures / f"{key}.json", failure)

    def clear_failure(self, key: str) -> None:
        """Forget how a job failed."""
        (self._failures / f"{key}.json").unlink(missing_ok=True)

    @contextmanager
    def claim(self, key: str, wait: bool) -> Iterator[bool]:
        """Hold a key against all other processes; give False if another has it and we do not wait.

        The lock is the operating system's: it is gone when the process is.
        """
        lock = FileLock(self._locks / f"{key}.lock", timeout=-1 if wait else 0)
        try:
            lock.acquire()
        except Timeout:
            yield False
            return
        try:
            yield True
        finally:
            lock.release()

    @contextmanager
    def draft(self, key: str) -> Iterator[Path]:
        """Give a folder to write a result into; it gets its place when the block ends well."""
        # What may be there is damaged, or it would have been used.
        with atomic_folder(self.folder(key)) as folder:
            yield folder

    def write_record(self, folder: Path, record: dict[str, Any]) -> None:
        """Write what a job says of itself into its draft, last of all."""
        write_json(folder / _RECORD, {"format": FORMAT, **record})

    def keep_data(self, content: str, adata: AnnData) -> None:
        """Keep cells under their fingerprint, for jobs to read."""
        target = self.data / f"{content}.h5ad"
        with self.claim(content, wait=True):
            if target.exists():
                return
            with atomic_path(target) as draft:
                adata.write_h5ad(draft)

    def read_data(self, content: str) -> AnnData:
        """Read cells by their fingerprint."""
        from anndata import read_h5ad

        return read_h5ad(self.data / f"{content}.h5ad")

    def clear(self) -> None:
        """Remove all results and data."""
        shutil.rmtree(self.root, ignore_errors=True)


def write_json(path: Path, value: dict[str, Any]) -> None:
    """Write plain values, whole or not at all."""
    with atomic_path(path) as draft:
        draft.write_text(json.dumps(value, indent=1, allow_nan=False), encoding="utf-8")


def _read_json(path: Path) -> dict[str, Any] | None:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def _key_of(draft: Path) -> str:
    """Return the key, a hexadecimal number, that a draft's name starts with after its dot."""
    return draft.name[1:].partition("-")[0].partition(".")[0]


def _remove(path: Path) -> None:
    shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
