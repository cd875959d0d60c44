"""One measurement of reading feature shards, of generated log-mel features.

Run as `python -m tests.benchmarks.reading write|stream|hold FOLDER CLIPS`: `write` makes the shards; `stream` reads an
epoch from them and prints its seconds and the most memory that it took; `hold` prints the bytes per second of an epoch
from memory, and those of gathering the same clips from an array. All print JSON.
"""

import json
import os
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import psutil

from earmark import params
from earmark.features import feature_shards, front_ends
from earmark.features.reader import FeatureReader

SHARD_CLIPS = 2_000
BATCH_CLIPS = 64
_SAMPLING_SECONDS = 0.02
_TURNS = 7


def clips_of(count: int) -> pd.DataFrame:
    """The first `count` clips, as training names them."""
    numbers = np.arange(count)
    names = np.array([_shard(number) for number in range(-(-count // SHARD_CLIPS))], dtype=object)
    return pd.DataFrame({"shard": names[numbers // SHARD_CLIPS], "member": numbers % SHARD_CLIPS})


def _shard(number: int) -> str:
    return f"shard-{number:05d}.bin"


def write(folder: Path, count: int) -> None:
    """Writes shards of random features."""
    log_mel = front_ends.front_end("log_mel", params.load())
    feature_shards.prepare(folder, log_mel.settings())
    generator = np.random.default_rng(0)
    for number, first in enumerate(range(0, count, SHARD_CLIPS)):
        rows = min(SHARD_CLIPS, count - first)
        with feature_shards.open_writer(folder, _shard(number), rows, log_mel) as append:
            append(generator.random((rows, log_mel.frames, log_mel.bins), dtype=np.float32).astype(np.float16))


def stream(folder: Path, count: int) -> dict[str, float]:
    """Seconds of opening, seconds of a shuffled epoch, and by how many bytes the process grew."""
    os.sync()
    with _PeakMemory() as memory:
        opening = time.perf_counter()
        reader = FeatureReader(folder, clips_of(count), in_memory=False)
        opened = time.perf_counter()
        epoch = reader.epoch(np.random.default_rng(1))
        _take(epoch.rows, count)
        ended = time.perf_counter()
    return {"opening": opened - opening, "epoch": ended - opened, "grown_bytes": memory.grown_bytes}


def _take(rows: Callable[[int, int], np.ndarray], count: int) -> None:
    for start in range(0, count, BATCH_CLIPS):
        rows(start, min(start + BATCH_CLIPS, count))


def hold(folder: Path, count: int) -> dict[str, float]:
    """Bytes per second of an epoch held in memory and of a plain gather of the same clips: medians, taken in turn."""
    reader = FeatureReader(folder, clips_of(count), in_memory=True)
    plain = reader.epoch().rows(0, count)
    epoch = reader.epoch(np.random.default_rng(1))
    ways = {"held": epoch.rows, "gather": lambda start, stop: plain[epoch.order[start:stop]]}
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(_TURNS):
        for name, rows in ways.items():
            began = time.perf_counter()
            _take(rows, count)
            seconds[name].append(time.perf_counter() - began)
    return {name: plain.nbytes / float(np.median(turns)) for name, turns in seconds.items()}


class _PeakMemory:
    """The growth of this process' resident memory in a context, sampled: `grown_bytes` at its end."""

    def __enter__(self) -> "_PeakMemory":
        self._process = psutil.Process()
        self._first = self._peak = self._process.memory_info().rss
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()
        self.grown_bytes = self._peak - self._first

    def _watch(self) -> None:
        while not self._ended.wait(_SAMPLING_SECONDS):
            self._peak = max(self._peak, self._process.memory_info().rss)


def main() -> None:
    """Does what the command line says and prints its result."""
    name, folder, count = sys.argv[1:]
    print(json.dumps({"write": write, "stream": stream, "hold": hold}[name](Path(folder), int(count))))


if __name__ == "__main__":
    main()
