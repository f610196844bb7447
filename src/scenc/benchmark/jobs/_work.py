"""One job from claim to record, in whatever process it runs."""

from __future__ import annotations

import os
import platform
import time
import traceback
import warnings
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from scenc.benchmark.entries._seeding import seeded
from scenc.benchmark.jobs._store import JobStore

if TYPE_CHECKING:
    from collections.abc import Iterator

    from scenc.benchmark.jobs._jobs import Job

type Outcome = Literal["finished", "failed", "busy"]


def run_job(job: Job, root: str, threads: int, wait: bool = True) -> Outcome:
    """Do a job unless it has been done, and write its result or its failure into the store.

    Parameters
    ----------
    job
        The job.
    root
        Folder of the store, which all processes must see.
    threads
        Threads to compute with; results depend on their number in the last digits.
    wait
        Whether to wait for another process that is doing the job.

    Returns
    -------
    ``"finished"``, ``"failed"``, or ``"busy"``: another process is doing it, and `wait` is False.
    """
    store = JobStore(root)
    if store.record(job.key) is not None:
        return "finished"
    if not store.root.is_dir():
        raise FileNotFoundError(
            f"{root} is not seen from this process: all of them need one shared folder."
        )
    with store.claim(job.key, wait) as ours:
        if not ours:
            return "busy"
        # Another process may have finished it while this one waited for the lock.
        if store.record(job.key) is not None:
            return "finished"
        try:
            _do(job, store, threads)
        except Exception as error:  # noqa: BLE001  # whatever is raised, the other jobs go on
            store.write_failure(job.key, _describe(error))
            return "failed"
        store.clear_failure(job.key)
        store.clear_checkpoint(job.key)
        return "finished"


def _do(job: Job, store: JobStore, threads: int) -> None:
    started = datetime.now(UTC).isoformat(timespec="seconds")
    with store.draft(job.key) as folder:
        with limited(threads), seeded(job.seed), warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            from scenc.benchmark.jobs._tasks import perform

            _reset_peak()
            start = time.perf_counter()
            found = perform(job, store, folder)
            seconds = time.perf_counter() - start
        said = sorted({str(warning.message) for warning in caught})
        if any(text.startswith("Training was interrupted") for text in said):
            # On an interrupt `Model.train` stops early with a warning, not an error. That model
            # must not be stored as a result.
            raise KeyboardInterrupt
        record = {
            "key": job.key,
            "name": job.name,
            "status": "done",
            "reason": "",
            "started": started,
            "seconds": round(seconds, 3),
            "peak_memory_mb": _peak_memory(),
            "threads": threads,
            "process": f"{platform.node()}:{os.getpid()}",
            "warnings": said,
            "spec": job.spec,
            **found,
        }
        store.write_record(folder, record)


def _describe(error: Exception) -> dict[str, Any]:
    message = str(error.args[0]) if isinstance(error, KeyError) and error.args else str(error)
    text = "".join(traceback.format_exception(error))
    return {"reason": f"{type(error).__name__}: {message}".rstrip(": "), "traceback": text}


@contextmanager
def limited(threads: int) -> Iterator[None]:
    """Compute with so many threads within the block, in BLAS, OpenMP and PyTorch."""
    import torch
    from threadpoolctl import threadpool_limits

    before = torch.get_num_threads()
    with threadpool_limits(threads):
        torch.set_num_threads(threads)
        try:
            yield
        finally:
            torch.set_num_threads(before)


def _reset_peak() -> None:
    """Reset the process's peak memory, so that each job has its own (Linux only)."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return


def _peak_memory() -> float | None:
    """Return the process's peak memory in MB, on Linux since `_reset_peak`."""
    try:
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return round(int(line.split()[1]) / 1024, 1)
    except OSError:
        pass
    try:
        import resource
        import sys
    except ImportError:
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(peak / (2**20 if sys.platform == "darwin" else 1024), 1)
