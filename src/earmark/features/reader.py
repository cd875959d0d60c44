"""Reads feature shards for training: clips in an order drawn for each epoch, from memory or from the files."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import psutil
from upath import UPath

from earmark.features import feature_shards
from earmark.io.files import reachable

RUN_BYTES = 2**20
"""Neighbouring clips of one shard that are read together, at least one clip."""
WINDOW_BYTES = 2**27
"""Runs, drawn from all shards, whose clips are shuffled together. Streamed, two windows are in memory."""
HELD_SHARE = 0.5
"""Largest share of the available memory that clips may take to be held there."""


@dataclass(frozen=True)
class _Run:
    """Clips of one shard that lie within RUN_BYTES: their numbers, and the rows of the shard that they are."""

    path: Path
    data_offset: int
    clips: np.ndarray
    rows: np.ndarray


class FeatureReader:
    """The features of `clips`, at least one, in `folder`. A clip's number is its place in the frame, whose `shard` and
    `member` say where its features are.

    The order of an epoch depends on the clips and the generator only, whether they are held in memory or streamed:
    shuffled within windows of WINDOW_BYTES, which is all there is to shuffle where the clips are no more than that.
    UserError where a shard is missing or damaged. Holds them where `held`, by default where they fit in memory.
    """

    def __init__(self, folder: Path, clips: pd.DataFrame, held: bool | None = None):
        self.clips = len(clips)
        self._runs: list[_Run] = []
        self._shape = (0, 0)
        of_shards = dict(list(clips.reset_index(drop=True).groupby("shard", sort=True)))
        for shard, (data_offset, (_, *self._shape)) in feature_shards.layouts(folder, list(of_shards)).items():
            path = feature_shards.path_of(UPath(folder), shard)
            self._runs += self._runs_of(path, data_offset, of_shards[shard]["member"])
        self._row_bytes = 2 * self._shape[0] * self._shape[1]
        if held is None:
            held = self.clips * self._row_bytes <= HELD_SHARE * _available_bytes()
        self._held = self._all() if held else None

    def _runs_of(self, path: Path, data_offset: int, members: pd.Series) -> Iterator[_Run]:
        members = members.sort_values()
        size = max(1, RUN_BYTES // (2 * self._shape[0] * self._shape[1]))
        clips, rows = members.index.to_numpy(), members.to_numpy()
        cuts = np.flatnonzero(np.diff(rows // size)) + 1
        for its_clips, its_rows in zip(np.split(clips, cuts), np.split(rows, cuts), strict=True):
            yield _Run(path, data_offset, its_clips, its_rows)

    def epoch(self, generator: np.random.Generator | None = None, repeats: np.ndarray | None = None) -> "Epoch":
        """All clips, in an order drawn by `generator`, or as they are stored: each once, or as often as `repeats`, int
        (clips,), has it."""
        runs = self._runs if generator is None else [self._runs[at] for at in generator.permutation(len(self._runs))]
        windows = self._windows(runs)
        numbers = [np.concatenate([run.clips for run in window]) for window in windows]
        places = [np.repeat(np.arange(len(each)), 1 if repeats is None else repeats[each]) for each in numbers]
        shuffles = places if generator is None else [generator.permutation(each) for each in places]
        order = np.concatenate([each[shuffle] for each, shuffle in zip(numbers, shuffles, strict=True)])
        if self._held is None:
            return Epoch(order, _Stream(self, windows, shuffles).rows)
        return Epoch(order, lambda start, stop: self._held[order[start:stop]])

    def _windows(self, runs: list[_Run]) -> list[list[_Run]]:
        ends = np.cumsum([len(run.clips) * self._row_bytes for run in runs])
        cuts = np.flatnonzero(np.diff((ends - 1) // WINDOW_BYTES)) + 1
        return [runs[first:last] for first, last in zip([0, *cuts], [*cuts, len(runs)], strict=True)]

    def read(self, runs: Sequence[_Run]) -> np.ndarray:
        """The clips of `runs`, one run after the other: float16 (clips, frames, bins)."""
        result = np.empty((sum(len(run.clips) for run in runs), *self._shape), dtype=np.float16)
        begins = [run.data_offset + int(run.rows[0]) * self._row_bytes for run in runs]
        ends = [run.data_offset + (int(run.rows[-1]) + 1) * self._row_bytes for run in runs]
        with reachable(runs[0].path):
            stretches = runs[0].path.fs.cat_ranges([run.path.path for run in runs], begins, ends, on_error="raise")
        at = 0
        for run, stretch in zip(runs, stretches, strict=True):
            stored = np.frombuffer(stretch, np.float16).reshape(-1, *self._shape)
            every = len(stored) == len(run.rows)
            result[at : at + len(run.rows)] = stored if every else stored[run.rows - run.rows[0]]
            at += len(run.rows)
        return result

    def _all(self) -> np.ndarray:
        result = np.empty((self.clips, *self._shape), dtype=np.float16)
        for run in self._runs:
            result[run.clips] = self.read([run])
        return result


@dataclass(frozen=True)
class Epoch:
    """One pass over the clips: `order` has their numbers, and `rows(start, stop)` gives the features, float16 (clips,
    frames, bins), of order[start:stop]; streamed ones are asked for from first to last."""

    order: np.ndarray
    rows: Callable[[int, int], np.ndarray]


class _Stream:
    """Windows read one ahead of the other, so that reading and training overlap."""

    def __init__(self, reader: FeatureReader, windows: list[list[_Run]], shuffles: list[np.ndarray]):
        self._reader, self._windows, self._shuffles = reader, windows, shuffles
        self._ends = np.cumsum([len(each) for each in shuffles])
        self._ahead = ThreadPoolExecutor(1, thread_name_prefix="features")
        self._next: Future | None = None
        self._at, self._current = -1, None

    def rows(self, start: int, stop: int) -> np.ndarray:
        parts, stop = [], min(stop, int(self._ends[-1]))
        while start < stop:
            window = int(np.searchsorted(self._ends, start, side="right"))
            begin = int(self._ends[window - 1]) if window else 0
            last = min(stop, int(self._ends[window]))
            self._open(window)
            parts.append(self._current[self._shuffles[window][start - begin : last - begin]])
            start = last
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def _open(self, window: int) -> None:
        if window == self._at:
            return
        following = self._next if window == self._at + 1 and self._next else self._read(window)
        self._current = None  # before the next one is there: two at a time are in memory, not three
        self._at, self._current = window, following.result()
        self._next = self._read(window + 1) if window + 1 < len(self._windows) else None

    def _read(self, window: int) -> Future:
        return self._ahead.submit(self._reader.read, self._windows[window])


def _available_bytes() -> int:
    """Memory that may still be had, in a container of Linux' control groups too."""
    available = psutil.virtual_memory().available
    try:
        limit, used = (Path(f"/sys/fs/cgroup/memory.{name}").read_text().strip() for name in ("max", "current"))
    except OSError:
        return available
    return available if limit == "max" else min(available, max(0, int(limit) - int(used)))
