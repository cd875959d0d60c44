"""Workers for many shards: processes on this machine or a Dask cluster, both as `concurrent.futures` executors."""

import multiprocessing
import os
import signal
import tempfile
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, CancelledError, Executor, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import TypeVar

from earmark.errors import UserError

WORKERS = "EARMARK_WORKERS"
"""Environment variable: how many processes to use on this machine; all cores if it is not set."""
_WORKERS_LOST = "workers were killed, perhaps for lack of memory; run the command again: it resumes"
_POLL_SECONDS = 10.0
_LONGEST_TEMPORARY_FOLDER = 75
"""Bytes; processes meet at a socket 32 bytes below that folder, whose path may have 107."""

Job = TypeVar("Job")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Workers:
    """Workers that take jobs from `pool`; `any_left` tells whether there is still one."""

    pool: Executor
    any_left: Callable[[], bool]

    def results(self, function: Callable[[Job], Result], jobs: Iterable[Job]) -> Iterator[Result]:
        """Yield `function(job)` for each of `jobs`, in the order in which they finish.

        Raises:
            UserError: workers died, or earmark is not installed where they run.
        """
        pending = {self.pool.submit(function, job) for job in jobs}
        try:
            while pending:
                done, pending = wait(pending, timeout=_POLL_SECONDS, return_when=FIRST_COMPLETED)
                if not done and not self.any_left():
                    raise UserError(f"{_WORKERS_LOST} (no worker is left)")
                for future in done:
                    yield future.result()
        except (BrokenProcessPool, CancelledError) as error:
            raise UserError(_WORKERS_LOST) from error
        except ModuleNotFoundError as error:
            raise UserError(f"a worker cannot import {error.name}; install earmark where workers run") from error
        except Exception as error:
            if type(error).__name__ != "KilledWorker":  # Dask's, by name so that Dask need not be imported
                raise
            raise UserError(f"{_WORKERS_LOST} ({error})") from error


def open_workers(scheduler: str, jobs: int, preload: str) -> AbstractContextManager[Workers]:
    """Open workers for at most `jobs` jobs; on error, jobs that have not started are dropped.

    Args:
        scheduler: address of a Dask scheduler (tcp://host:port), or "" for processes on this machine.
        jobs: no more processes than this are started.
        preload: module that processes on this machine import once, before they are forked.

    Raises:
        UserError: EARMARK_WORKERS is not a valid number, the path of TMPDIR is too long, or the cluster does not answer
            or has no workers.
    """
    return _cluster(scheduler) if scheduler else _processes(jobs, preload)


def local_workers() -> int:
    """How many processes to use on this machine."""
    cores = len(os.sched_getaffinity(0))
    count = os.environ.get(WORKERS) or str(cores)
    if not count.isdecimal() or not 1 <= int(count) <= 1024:
        raise UserError(f"the environment variable {WORKERS} is {count!r}; expected a whole number from 1 to 1024")
    return int(count)


@contextmanager
def _processes(jobs: int, preload: str) -> Iterator[Workers]:
    temporary = tempfile.gettempdir()
    if len(os.fsencode(temporary)) > _LONGEST_TEMPORARY_FOLDER:
        raise UserError(
            f"TMPDIR: {temporary} is too long for a socket; expected at most {_LONGEST_TEMPORARY_FOLDER} bytes"
        )
    # Not forked from this process, whose libraries have threads; the fork server imports once for all workers.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([preload])
    with ProcessPoolExecutor(max(1, min(jobs, local_workers())), context, _start_worker) as pool:
        try:
            yield Workers(pool, lambda: True)  # this pool raises by itself when a worker dies
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def _start_worker() -> None:
    """Leave Ctrl-C to the parent process, and exit when the parent dies, even if it was killed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    if parent := multiprocessing.parent_process():
        parent.join()
    os._exit(1)


@contextmanager
def _cluster(address: str) -> Iterator[Workers]:
    import dask
    import distributed

    timeout = dask.config.get("distributed.comm.timeouts.connect")
    try:
        client = distributed.Client(address, timeout=timeout, set_as_default=False)  # type: ignore[no-untyped-call]  # Dask's
    except (OSError, ValueError, TimeoutError) as error:
        raise UserError(
            f"EARMARK_SCHEDULER: no Dask scheduler answers at {address} ({error});"
            " start one, or unset the variable to use this machine"
        ) from None
    with client:
        try:
            client.wait_for_workers(1, timeout=timeout)
        except TimeoutError:
            raise UserError(
                f"EARMARK_SCHEDULER: {address} has no workers; start some with"
                f" 'dask worker {address} --nworkers auto --nthreads 1'"
            ) from None
        pool = client.get_executor(pure=False)  # type: ignore[no-untyped-call]  # Dask's
        try:
            yield Workers(pool, lambda: bool(client.scheduler_info()["workers"]))
        finally:
            pool.shutdown(wait=False)  # drops the jobs that have not started
