"""What a command costs: wall time, processor time and memory of its whole process tree."""

import os
import subprocess
import tempfile
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

_MEMORY_INTERVAL_SECONDS = 0.1


class CommandError(Exception):
    """A measured command ended with another exit code than 0."""


@dataclass(frozen=True)
class Cost:
    """Wall seconds, user and system seconds, and the peak resident bytes of a process with all its descendants."""

    seconds: float
    cpu_seconds: float
    peak_bytes: int

    def __str__(self) -> str:
        return f"{self.seconds:.2f} s, {self.cpu_seconds:.2f} s of processor, {self.peak_bytes / 2**20:.0f} MiB"


def measure(command: Sequence[str], folder: Path, environment: dict[str, str], *, watch_memory: bool = False) -> Cost:
    """Runs `command` in `folder` and returns what it cost.

    `peak_bytes` is the largest process' own peak, as the kernel counted it; with `watch_memory`, the sum over the
    process tree, sampled, where that is more. Sampling costs a little time. Raises CommandError with the end of the
    output. What earlier commands left to be written to disk is written before the clock starts.
    """
    os.sync()
    with tempfile.TemporaryFile() as output:
        started = time.perf_counter()
        process = subprocess.Popen(command, cwd=folder, env=environment, stdout=output, stderr=subprocess.STDOUT)
        sampler = _TreeMemory(process.pid) if watch_memory else None
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - started
        process.returncode = os.waitstatus_to_exitcode(status)
        sampled_bytes = sampler.stop() if sampler else 0
        if process.returncode:
            raise CommandError(f"{' '.join(command)} ended with {process.returncode}:\n{_end_of(output)}")
    return Cost(seconds, usage.ru_utime + usage.ru_stime, max(usage.ru_maxrss * 1024, sampled_bytes))


def _end_of(output) -> str:
    output.seek(0)
    return output.read().decode(errors="replace")[-2000:]


class _TreeMemory:
    """Samples the resident memory of a process tree, shared pages counted in each, until stopped."""

    def __init__(self, pid: int):
        self._pid, self._peak_bytes = pid, 0
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def stop(self) -> int:
        """The largest sample, in bytes."""
        self._ended.set()
        self._thread.join()
        return self._peak_bytes

    def _watch(self) -> None:
        while not self._ended.wait(_MEMORY_INTERVAL_SECONDS):
            try:
                root = psutil.Process(self._pid)
                resident = sum(map(_resident_bytes, [root, *root.children(recursive=True)]))
            except psutil.NoSuchProcess:
                return
            self._peak_bytes = max(self._peak_bytes, resident)


def _resident_bytes(process: psutil.Process) -> int:
    try:
        return process.memory_info().rss
    except psutil.NoSuchProcess:
        return 0
