"""Running jobs, each after those it needs: in this process, in a pool, or through an executor.

The scheduler decides only which job is started next. It keeps no state on disk: whether a job is
done, and who is computing it, is known from the store alone (records and locks), and each process
checks that itself in `run_job`. So a run that was killed goes on where it was, and several runs may
work on one folder.
"""

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
    """Runs jobs in other processes; any executor of `concurrent.futures`, dask's or submitit's."""

    def submit(self, function: Callable[..., Any], /, *arguments: Any) -> Any:
        """Call the function with the arguments later; return a future (``done``, ``result``)."""


class Scheduler:
    """Starts jobs when those that they need have finished.

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
            # Another run may work on the same folder: take the first job that it is not computing,
            # and wait for one of them only if it is computing all that are ready.
            for job in ready:
                outcome = run_job(job, self._root, self._threads, False)
                if outcome != "busy":
                    break
            else:
                job = ready[0]
                outcome = run_job(job, self._root, self._threads, True)
            self._end(job, outcome == "finished")

    def run_in(self, executor: Executor) -> None:
        """Do all jobs through the user's executor, which is left open.

        All jobs that are ready are submitted at once: the executor has its own queue. A job whose
        process dies is recorded as failed.
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
        """Do all jobs in a pool of `n_workers` processes.

        When a process dies (out of memory, say), Python breaks the whole pool, and does not tell
        which job it was. All jobs that were running are then done again, each in a new pool of one
        process: the one that kills its pool again is recorded as failed.
        """
        while self._waiting:
            with _pool(n_workers) as pool:
                lost = self._drain(pool, n_workers)
            for job in lost:
                with _pool(1) as pool:
                    self._collect(job, self._send(pool, job))

    def _drain(self, pool: ProcessPoolExecutor, n_workers: int) -> list[Job]:
        """Do jobs until all have ended or the pool breaks; return those that ran when it broke."""
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
        """Return the jobs that wait for nothing but their turn."""
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
        """Note the outcome of a job that an executor has ended."""
        try:
            outcome = future.result()
        except KeyboardInterrupt:
            raise
        except (Exception, CancelledError) as error:  # noqa: BLE001  # `run_job` itself raises none
            outcome = "failed"
            reason = f"{type(error).__name__}: {error}".splitlines()[0]
            text = f"the process died or could not be reached ({reason}); out of memory?"
            self._store.write_failure(job.key, {"reason": text, "traceback": str(error)})
        self._end(job, outcome == "finished")

    def _end(self, job: Job, well: bool) -> None:
        """Remove a job from those that wait and, if it failed, all that need it."""
        (self._finished if well else self._failed).add(job.key)
        # Two entries with equal settings have jobs with equal keys, of which one is enough.
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
    # Spawned: a forked process inherits locks, but not the threads that would release them.
    return ProcessPoolExecutor(n_workers, mp_context=get_context("spawn"))


def _any_done(futures: list[Any]) -> list[Any]:
    """Wait until at least one future is done; return all that are."""
    if all(isinstance(future, Future) for future in futures):
        return list(wait(futures, return_when=FIRST_COMPLETED).done)
    pause = 0.02  # futures of other kinds (submitit's) cannot be waited for, only asked
    while not (done := [future for future in futures if future.done()]):
        time.sleep(pause)
        pause = min(1.0, 1.5 * pause)
    return done
