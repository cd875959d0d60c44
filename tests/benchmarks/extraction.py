"""One measurement of extraction itself, and one of the FFT that it cannot do without.

Run in a project as `python -m tests.benchmarks.extraction`: it deletes what features there are, extracts them with
workers that have started, as the stage does, and before and after has as many processes call a bare rfft. Prints the
seconds of the extraction and the clips per second of the rfft, for each count of clips in a call, as JSON.
"""

import json
import multiprocessing
import os
import shutil
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, ProcessPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import scipy.fft

from earmark import params
from earmark.features import extraction, front_ends
from earmark.io import worker_pool
from earmark.params import Params
from earmark.paths import FEATURES
from earmark.stages import extract

CLIPS_IN_A_CALL = (512, 8)
"""One call for all frames in memory, and calls for few clips, whose result a core's cache holds."""
FRAMES_OF_CLIPS = 512
_RFFT_SECONDS = 1.5
_ALL_STARTED_SECONDS = 0.05


def remove_features(project: Path) -> None:
    """Removes every feature of a project, those set aside for other settings too."""
    for folder in (project / FEATURES, project / FEATURES.with_name(FEATURES.name + ".aside")):
        shutil.rmtree(folder, ignore_errors=True)


def extraction_seconds(settings: Params) -> float:
    """Seconds from submitting all jobs of `extract` to the last result."""
    remove_features(Path())
    plan = extract.plan_of(settings)
    plan.prepare_folder()
    jobs = plan.jobs()
    for job in jobs:
        job.shard.read_bytes()  # so that the kernel has it in memory
    with worker_pool.open_workers("", len(jobs), extraction.__name__) as workers:
        _start(workers.pool, min(len(jobs), worker_pool.local_workers()))
        with _seconds() as measured:
            for _ in workers.results(extraction.run, jobs):
                pass
    return measured[0]


@contextmanager
def _seconds() -> Iterator[list[float]]:
    """Gives a list that has the seconds of the context once it has ended; what is to be written is written before."""
    measured: list[float] = []
    os.sync()
    began = time.perf_counter()
    yield measured
    measured.append(time.perf_counter() - began)


def _start(workers: Executor, count: int) -> None:
    """Returns when `count` workers have started."""
    while len(set(workers.map(_own_number, range(count)))) < count:
        pass


def _own_number(_: int) -> int:
    time.sleep(_ALL_STARTED_SECONDS)
    return os.getpid()


@contextmanager
def _rfft_workers() -> Iterator[Callable[[int, tuple[int, int]], float]]:
    """Gives a function from clips in a call, and the shape of a clip's frames, to how many clips a second all workers
    together take through `scipy.fft.rfft`."""
    count = worker_pool.local_workers()
    with ProcessPoolExecutor(count, multiprocessing.get_context("spawn")) as workers:
        _start(workers, count)
        yield lambda clips, shape: sum(workers.map(_bare_rfft, [clips] * count, [shape] * count))


def _bare_rfft(clips_in_a_call: int, shape: tuple[int, int]) -> float:
    frames = np.random.default_rng(0).standard_normal((FRAMES_OF_CLIPS, *shape), dtype=np.float32)
    np.empty(31 * 2**20, np.uint8)  # so that freed memory is kept, as in extraction

    def once() -> None:
        for start in range(0, len(frames), clips_in_a_call):
            scipy.fft.rfft(frames[start : start + clips_in_a_call])

    once()
    rounds, began = 0, time.perf_counter()
    while (passed := time.perf_counter() - began) < _RFFT_SECONDS:
        once()
        rounds += 1
    return rounds * len(frames) / passed


def measure(settings: Params) -> dict:
    """`seconds` of the extraction, and `rfft`: clips per second, the mean of before and after it."""
    front_end = front_ends.front_end("spectrogram", settings)
    shape = (front_end.frames, front_end.fft_length)
    with _rfft_workers() as clips_per_second:
        before = {clips: clips_per_second(clips, shape) for clips in CLIPS_IN_A_CALL}
        seconds = extraction_seconds(settings)
        after = {clips: clips_per_second(clips, shape) for clips in CLIPS_IN_A_CALL}
    return {"seconds": seconds, "rfft": {clips: (before[clips] + after[clips]) / 2 for clips in CLIPS_IN_A_CALL}}


if __name__ == "__main__":
    print(json.dumps(measure(params.load())))
