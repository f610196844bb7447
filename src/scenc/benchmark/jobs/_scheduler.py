"""Running jobs in the order of what they need, in this process or through an executor."""

from __future__ import annotations

import time
from concurrent.futures import (
    FIRST_COMPLETED,
    BrokenExecutor,
    CancelledError,
    Future,
    ProcessPoolExecutor,
    wait,
)
from multiprocessing import get_context
from typing import TYPE_CHECKING, Any, Protocol

from scenc.benchmark.jobs._store import JobStore
from scenc.benchmark.jobs._work import run_job

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from scenc.benchmark.jobs._jobs import Job


class Executor(Protocol):
    """What runs jobs elsewhere: ``submit`` returns something with ``done`` and ``result``.

    Every executor of `concurrent.futures` does, dask's ``Client.get_executor()`` and submitit's.
    """

    def submit(self, function: Callable[..., Any], /, *arguments: Any) -> Any:
        """Call the function with the arguments, some time and somewhere."""


class Scheduler:
    """Jobs, and how far they are.

    Parameters
    ----------
    jobs
        All jobs, each after those it needs.
    root
        Folder of the store.
    threads
        Threads of each job.
    on_end
        Called with each job that has ended, well or not.
    """

    def __init__(
        self, jobs: Sequence[Job], root: str, threads: int, on_end: Callable[[Job], None]
    ) -> None:
        self._root, self._threads, self._on_end = root, threads, on_end
        store = JobStore(root)
        self._finished = {job.key for job in jobs if store.record(job.key) is not None}
        self._failed: set[str] = set()
        self._waiting = [job for job in jobs if job.key not in self._finished]
        self._store = store
        self.n_finished = len(jobs) - len(self._waiting)

    def run_here(self) -> None:
        """Do all jobs in this process, one after the other."""
        while self._waiting:
            ready = self._ready()
            # Another process may be working on the same folder: take what it is not doing.
            for job in ready:
                outcome = run_job(job, self._root, self._threads, False)
                if outcome != "busy":
                    break
            else:
                job = ready[0]
                outcome = run_job(job, self._root, self._threads, True)
            self._end(job, outcome == "finished")

    def run_in(self, executor: Executor) -> None:
        """Do all jobs through an executor that someone else has made and will close.

        A job whose process dies is recorded as failed.
        """
        running: dict[Any, Job] = {}
        try:
            while self._waiting or running:
                self._submit(executor, running, len(self._waiting))
                for future in _any_done(list(running)):
                    job = running.pop(future)
                    self._collect(job, future)
        except BaseException:
            for future in running:
                future.cancel()
            raise

    def run_in_pool(self, n_workers: int) -> None:
        """Do all jobs in processes of our own.

        Where one dies (out of memory, say), the pool is lost and with it what the others were
        doing. Those jobs are done again, each in a pool of its own, to see which it was.
        """
        while self._waiting:
            with _pool(n_workers) as pool:
                lost = self._drain(pool, n_workers)
            for job in lost:
                with _pool(1) as pool:
                    self._collect(job, self._send(pool, job))

    def _drain(self, pool: ProcessPoolExecutor, n_workers: int) -> list[Job]:
        """Do jobs until all have ended or the pool breaks; return what it was doing then."""
        running: dict[Any, Job] = {}
        try:
            while self._waiting:
                self._submit(pool, running, n_workers - len(running))
                for future in _any_done(list(running)):
                    if isinstance(future.exception(), BrokenExecutor):
                        return list(running.values())
                    self._collect(running.pop(future), future)
        except BrokenExecutor:
            return list(running.values())
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
        return []

    def _ready(self) -> list[Job]:
        return [job for job in self._waiting if self._finished.issuperset(job.needs)]

    def _submit(self, executor: Executor, running: dict[Any, Job], room: int) -> None:
        taken = {job.key for job in running.values()}
        for job in self._ready():
            if room > 0 and job.key not in taken:
                running[self._send(executor, job)] = job
                taken.add(job.key)
                room -= 1

    def _send(self, executor: Executor, job: Job) -> Any:
        return executor.submit(run_job, job, self._root, self._threads)

    def _collect(self, job: Job, future: Any) -> None:
        """Take note of a job that has come back."""
        try:
            outcome = future.result()
        except KeyboardInterrupt:
            raise
        except (Exception, CancelledError) as error:  # noqa: BLE001  # the executor's, any kind
            outcome = "failed"
            reason = f"{type(error).__name__}: {error}".splitlines()[0]
            text = f"the process died or could not be reached ({reason}); out of memory?"
            self._store.write_failure(job.key, {"reason": text, "traceback": str(error)})
        self._end(job, outcome == "finished")

    def _end(self, job: Job, well: bool) -> None:
        """Strike off a job and, if it failed, those that need it."""
        (self._finished if well else self._failed).add(job.key)
        # Two entries may have equal settings, and so one job between them.
        ended = [other for other in self._waiting if other.key == job.key]
        self._waiting = [other for other in self._waiting if other.key != job.key]
        while not well:
            lost = [job for job in self._waiting if self._failed.intersection(job.needs)]
            if not lost:
                break
            self._failed.update(job.key for job in lost)
            self._waiting = [job for job in self._waiting if job.key not in self._failed]
            ended += lost
        for other in ended:
            self._on_end(other)


def _pool(n_workers: int) -> ProcessPoolExecutor:
    # Spawned: a forked process would inherit the locks of threads it does not have.
    return ProcessPoolExecutor(n_workers, mp_context=get_context("spawn"))


def _any_done(futures: list[Any]) -> list[Any]:
    """Wait until at least one has ended; return those that have."""
    if all(isinstance(future, Future) for future in futures):
        return list(wait(futures, return_when=FIRST_COMPLETED).done)
    pause = 0.02
    while not (done := [future for future in futures if future.done()]):
        time.sleep(pause)
        pause = min(1.0, 1.5 * pause)
    return done
