"""A Dask cluster of separate processes on this machine."""

import os
import re
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from conftest import BIN


@contextmanager
def scheduler(**environment: str) -> Iterator[str]:
    """A scheduler on a free port of 127.0.0.1; its address."""
    command = [BIN / "dask", "scheduler", "--host", "127.0.0.1", "--port", "0", "--no-dashboard"]
    with _started(command, environment) as process:
        yield _first_match(process, r"Scheduler at:\s+(tcp://\S+)")


@contextmanager
def workers(address: str, count: int, **environment: str) -> Iterator[list[subprocess.Popen]]:
    """Workers of one thread each, which nobody starts again, once they have registered."""
    options = ["--host", "127.0.0.1", "--nthreads", "1", "--no-nanny", "--no-dashboard"]
    with ExitStack() as stack:
        command = [BIN / "dask", "worker", address, *options]
        processes = [stack.enter_context(_started(command, environment)) for _ in range(count)]
        for process in processes:
            _first_match(process, r"(Registered to):")
        yield processes


@contextmanager
def _started(command: list, environment: dict[str, str]) -> Iterator[subprocess.Popen]:
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=os.environ | environment)
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def _first_match(process: subprocess.Popen, pattern: str) -> str:
    lines = []
    for line in process.stderr:
        lines.append(line)
        if match := re.search(pattern, line):
            return match[1]
    raise AssertionError("".join(lines))
