"""Who works on many shards: processes of this machine, or a Dask cluster, both executors of the standard library's
kind."""

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, CancelledError, Executor, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import TypeVar

from earmark.errors import UserError

WORKERS = "EARMARK_WORKERS"
"""Environment variable: processes to use on this machine; all cores where it is not set."""
_LOST = "workers were ended from outside, as by a lack of memory; run it again: it goes on where it was"
_PATIENCE_SECONDS = 10.0

Job = TypeVar("Job")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Workers:
    """Workers that take jobs from `pool`; `are_there` says whether any is left."""

    pool: Executor
    are_there: Callable[[], bool]

    def results(self, function: Callable[[Job], Result], jobs: Iterable[Job]) -> Iterator[Result]:
        """What `function` returns for each of `jobs`, as each ends. UserError where workers are lost with their jobs,
        or cannot take one."""
        pending = {self.pool.submit(function, job) for job in jobs}
        try:
            while pending:
                done, pending = wait(pending, timeout=_PATIENCE_SECONDS, return_when=FIRST_COMPLETED)
                if not done and not self.are_there():
                    raise UserError(f"{_LOST}: none is left")
                for each in done:
                    yield each.result()
        except (BrokenProcessPool, CancelledError) as error:
            raise UserError(_LOST) from error
        except ModuleNotFoundError as error:
            raise UserError(f"a worker has no {error.name}; earmark must be installed where workers run") from error
        except Exception as error:
            if type(error).__name__ != "KilledWorker":  # Dask's, which is not imported where it is not used
                raise
            raise UserError(f"{_LOST}: {error}") from error


def opened(scheduler: str, jobs: int, preload: str) -> AbstractContextManager[Workers]:
    """Workers for at most `jobs` jobs: processes that have imported the module `preload`, or, with the address of a
    Dask `scheduler` (tcp://host:port), those of that cluster. Jobs that have not begun are dropped on error.

    UserError for a bad count of workers, and for a cluster that does not answer or has no workers.
    """
    return _cluster(scheduler) if scheduler else _processes(jobs, preload)


def local_workers() -> int:
    """How many processes this machine is to use."""
    cores = len(os.sched_getaffinity(0))
    given = os.environ.get(WORKERS) or str(cores)
    if not given.isdecimal() or not 1 <= int(given) <= 1024:
        raise UserError(f"the environment's {WORKERS} is {given!r}; allowed is a whole number from 1 to 1024")
    return int(given)


@contextmanager
def _processes(jobs: int, preload: str) -> Iterator[Workers]:
    # Not forked from here, where libraries have threads; imports are paid once, not by each.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([preload])
    with ProcessPoolExecutor(max(1, min(jobs, local_workers())), context, _start_worker) as pool:
        try:
            yield Workers(pool, lambda: True)  # a pool says so itself when one is lost
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def _start_worker() -> None:
    """Ctrl-C is the parent's to handle, and a worker ends with its parent, even one that was killed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    multiprocessing.parent_process().join()
    os._exit(1)


@contextmanager
def _cluster(address: str) -> Iterator[Workers]:
    import dask
    import distributed

    patience = dask.config.get("distributed.comm.timeouts.connect")
    try:
        client = distributed.Client(address, timeout=patience, set_as_default=False)
    except (OSError, ValueError, TimeoutError) as error:
        raise UserError(
            f"EARMARK_SCHEDULER: no Dask scheduler answers at {address} ({error});"
            " without the variable, this machine extracts"
        ) from None
    with client:
        try:
            client.wait_for_workers(1, timeout=patience)
        except TimeoutError:
            raise UserError(
                f"EARMARK_SCHEDULER: {address} has no workers; start some with"
                f" 'dask worker {address} --nworkers auto --nthreads 1'"
            ) from None
        pool = client.get_executor(pure=False)
        try:
            yield Workers(pool, lambda: bool(client.scheduler_info()["workers"]))
        finally:
            pool.shutdown(wait=False)  # drops what has not been done
