"""The results of jobs on disk, each whole or not at all.

The key of a job is a hash of all that its result depends on (see `BenchmarkPlan`), so that a result
that is there is never out of date, and "resume" means no more than to look up keys::

    work/
      data/<fingerprint>.h5ad    cells that jobs read; vectors-<fingerprint>.safetensors
      jobs/<key>/                a result: job.json, and model, embedding or curves; of a training
                                 that has paused at a budget also its checkpoint
      checkpoints/<key>/         of a training up to a budget that has not finished
      failures/<key>.json        why a job failed last time; tried again by the next run
      locks/<key>.lock           held by the process that is computing the job or writing the data
"""

from __future__ import annotations

import json
import shutil
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock, Timeout

from scenc.benchmark.entries._fingerprint import FORMAT
from scenc.io import atomic_folder, atomic_path

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator

    from anndata import AnnData

_RECORD = "job.json"


class JobStore:
    """The working folder of a benchmark.

    A result is written into a draft folder, which is renamed into place once it is complete, so
    that a process may be killed at any moment. Failures are recorded, but never used as results.

    Parameters
    ----------
    root
        The folder.
    """

    def __init__(self, root: str | os.PathLike[str]) -> None:
        self.root = Path(root)
        self.data = self.root / "data"
        self._results = self.root / "jobs"
        self._checkpoints = self.root / "checkpoints"
        self._failures = self.root / "failures"
        self._locks = self.root / "locks"

    def make(self) -> None:
        """Make the folders, and remove drafts that killed processes left behind."""
        for folder in (self.data, self._results, self._failures, self._locks):
            folder.mkdir(parents=True, exist_ok=True)
        for draft in [*self.data.glob(".*"), *self._results.glob(".*")]:
            # Another run may be at work in this folder. It holds the lock of what it is writing.
            with self.claim(_key_of(draft), wait=False) as ours:
                if ours:
                    _remove(draft)

    def folder(self, key: str) -> Path:
        """Return the folder of a result, whether or not it is there."""
        return self._results / key

    def checkpoint_folder(self, key: str) -> Path:
        """Return the folder for the checkpoints of a training that has not finished."""
        return self._checkpoints / key

    def record(self, key: str) -> dict[str, Any] | None:
        """Return the record of a finished job; None if it has not finished or is damaged."""
        record = _read_json(self.folder(key) / _RECORD)
        if record is None or record.get("key") != key or record.get("format") != FORMAT:
            return None
        return record

    def failure(self, key: str) -> dict[str, Any] | None:
        """Return the reason and traceback of a job's last failure, or None."""
        return _read_json(self._failures / f"{key}.json")

    def write_failure(self, key: str, failure: dict[str, Any]) -> None:
        """Record the reason and traceback of a failure."""
        write_json(self._failures / f"{key}.json", failure)

    def clear_failure(self, key: str) -> None:
        """Remove the record of a failure."""
        (self._failures / f"{key}.json").unlink(missing_ok=True)

    @contextmanager
    def claim(self, key: str, wait: bool) -> Iterator[bool]:
        """Lock a key against all other processes.

        Two runs in one folder, or two workers of one run, must not compute the same job at once.
        The lock is the operating system's: it ends with the process, however that ends, so that a
        killed run leaves nothing locked.

        Parameters
        ----------
        key
            Key of a job, or fingerprint of data.
        wait
            Whether to wait while another process holds it.

        Yields
        ------
        Whether this process holds the key; False only without `wait`.
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
        """Yield a folder to write a result into; it is moved into place if no error is raised."""
        # A folder that is already there is a damaged result, or it would have been used: replaced.
        with atomic_folder(self.folder(key)) as folder:
            yield folder

    def write_record(self, folder: Path, record: dict[str, Any]) -> None:
        """Write the record of a job into its draft, after everything else: it makes it a result."""
        write_json(folder / _RECORD, {"format": FORMAT, **record})

    def keep_data(self, content: str, adata: AnnData) -> None:
        """Write cells, under their fingerprint, for jobs to read."""
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

    def clear_checkpoint(self, key: str) -> None:
        """Remove the checkpoints of a training whose result is in place."""
        shutil.rmtree(self._checkpoints / key, ignore_errors=True)

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
    """Return the key of a draft, whose name is a dot, the key and a suffix."""
    return draft.name[1:].partition("-")[0].partition(".")[0]


def _remove(path: Path) -> None:
    shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
