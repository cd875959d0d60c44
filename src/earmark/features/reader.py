"""Reads feature shards for training: clips in a new random order for each epoch, from memory or from the files."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
import psutil
from upath import UPath

from earmark.features import feature_shards
from earmark.io.files import AnyPath, storage_errors

RUN_BYTES = 2**20
"""Size of a run: neighbouring clips of one shard that are read together, at least one clip."""
WINDOW_BYTES = 2**27
"""Size of a window: runs, drawn from all shards, whose clips are shuffled together. Streaming keeps two in memory."""
MEMORY_SHARE = 0.5
"""The clips are kept in memory if they need at most this share of the available memory."""

Features = npt.NDArray[np.float16]
"""Float16 (clips, frames, bins)."""
Numbers = npt.NDArray[np.int64]
"""Numbers of clips, or of rows, int64 (clips,)."""


@dataclass(frozen=True)
class _Run:
    """Clips of one shard that lie within RUN_BYTES: their numbers, and their rows in the shard."""

    path: UPath
    data_offset: int
    clips: Numbers
    rows: Numbers


class FeatureReader:
    """The features of `clips`, at least one, in `folder`.

    A clip's number is its position in the frame, whose columns `shard` and `member` say where its features are. The
    order of an epoch depends on the clips and the generator only, not on whether features are in memory or streamed.
    Clips are shuffled within windows of WINDOW_BYTES.

    Args:
        folder: the features of the front end.
        clips: the clips.
        in_memory: whether to keep the features in memory; by default if MEMORY_SHARE allows it.

    Raises:
        UserError: a shard is missing or damaged.
    """

    def __init__(self, folder: AnyPath, clips: pd.DataFrame, in_memory: bool | None = None):
        self.clips = len(clips)
        self._runs: list[_Run] = []
        self._shape = (0, 0)
        clips_of = dict(list(clips.reset_index(drop=True).groupby("shard", sort=True)))
        for shard, (data_offset, (_, frames, bins)) in feature_shards.layouts(folder, list(clips_of)).items():
            self._shape = frames, bins
            path = UPath(feature_shards.path_of(folder, shard))
            self._runs += self._split_runs(path, data_offset, clips_of[shard]["member"])
        self._row_bytes = 2 * self._shape[0] * self._shape[1]
        if in_memory is None:
            in_memory = self.clips * self._row_bytes <= MEMORY_SHARE * _available_bytes()
        self._features = self._read_all() if in_memory else None

    def _split_runs(self, path: UPath, data_offset: int, members: pd.Series) -> Iterator[_Run]:
        members = members.sort_values()
        size = max(1, RUN_BYTES // (2 * self._shape[0] * self._shape[1]))
        clips, rows = members.index.to_numpy(), members.to_numpy()
        cuts = np.flatnonzero(np.diff(rows // size)) + 1
        for run_clips, run_rows in zip(np.split(clips, cuts), np.split(rows, cuts), strict=True):
            yield _Run(path, data_offset, run_clips, run_rows)

    def epoch(self, generator: np.random.Generator | None = None, repeats: Numbers | None = None) -> "Epoch":
        """One pass over all clips.

        Args:
            generator: draws the order; without it, clips come as they are stored.
            repeats: how often each clip comes, int (clips,); once by default.
        """
        runs = self._runs if generator is None else [self._runs[at] for at in generator.permutation(len(self._runs))]
        windows = self._split_windows(runs)
        numbers = [np.concatenate([run.clips for run in window]) for window in windows]
        positions = [np.repeat(np.arange(len(clips)), 1 if repeats is None else repeats[clips]) for clips in numbers]
        shuffles = positions if generator is None else [generator.permutation(window) for window in positions]
        order = np.concatenate([clips[shuffle] for clips, shuffle in zip(numbers, shuffles, strict=True)])
        features = self._features
        if features is None:
            return Epoch(order, _Stream(self, windows, shuffles).rows)
        return Epoch(order, lambda start, stop: features[order[start:stop]])

    def _split_windows(self, runs: list[_Run]) -> list[list[_Run]]:
        ends = np.cumsum([len(run.clips) * self._row_bytes for run in runs])
        cuts = np.flatnonzero(np.diff((ends - 1) // WINDOW_BYTES)) + 1
        return [runs[first:last] for first, last in zip([0, *cuts], [*cuts, len(runs)], strict=True)]

    def read(self, runs: Sequence[_Run]) -> Features:
        """Read the clips of `runs`, one run after the other: float16 (clips, frames, bins)."""
        result = np.empty((sum(len(run.clips) for run in runs), *self._shape), dtype=np.float16)
        starts = [run.data_offset + int(run.rows[0]) * self._row_bytes for run in runs]
        ends = [run.data_offset + (int(run.rows[-1]) + 1) * self._row_bytes for run in runs]
        with storage_errors(runs[0].path):
            contents = runs[0].path.fs.cat_ranges([run.path.path for run in runs], starts, ends, on_error="raise")
        at = 0
        for run, content in zip(runs, contents, strict=True):
            stored = np.frombuffer(content, np.float16).reshape(-1, *self._shape)
            is_contiguous = len(stored) == len(run.rows)
            result[at : at + len(run.rows)] = stored if is_contiguous else stored[run.rows - run.rows[0]]
            at += len(run.rows)
        return result

    def _read_all(self) -> Features:
        result = np.empty((self.clips, *self._shape), dtype=np.float16)
        for run in self._runs:
            result[run.clips] = self.read([run])
        return result


@dataclass(frozen=True)
class Epoch:
    """One pass over the clips.

    Attributes:
        order: the numbers of the clips.
        rows: rows(start, stop) gives the features, float16 (clips, frames, bins), of order[start:stop]. Streaming
            reads ahead, so ask for rows from first to last.
    """

    order: Numbers
    rows: Callable[[int, int], Features]


class _Stream:
    """Reads one window ahead, so that reading and training overlap."""

    def __init__(self, reader: FeatureReader, windows: list[list[_Run]], shuffles: list[Numbers]):
        self._reader, self._windows, self._shuffles = reader, windows, shuffles
        self._ends = np.cumsum([len(shuffle) for shuffle in shuffles])
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="features")
        self._next: Future[Features] | None = None
        self._index, self._current = -1, np.empty((0, 0, 0), np.float16)

    def rows(self, start: int, stop: int) -> Features:
        parts, stop = [], min(stop, int(self._ends[-1]))
        while start < stop:
            window = int(np.searchsorted(self._ends, start, side="right"))
            window_start = int(self._ends[window - 1]) if window else 0
            last = min(stop, int(self._ends[window]))
            self._load(window)
            parts.append(self._current[self._shuffles[window][start - window_start : last - window_start]])
            start = last
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def _load(self, window: int) -> None:
        if window == self._index:
            return
        pending = self._next if window == self._index + 1 and self._next else self._read(window)
        self._current = self._current[:0].copy()  # freed before the next one is read: two are in memory, not three
        self._index, self._current = window, pending.result()
        self._next = self._read(window + 1) if window + 1 < len(self._windows) else None

    def _read(self, window: int) -> Future[Features]:
        return self._executor.submit(self._reader.read, self._windows[window])


def _available_bytes() -> int:
    """Memory that can still be allocated, within the limit of a container (Linux control groups) too."""
    available: int = psutil.virtual_memory().available
    try:
        limit, used = (Path(f"/sys/fs/cgroup/memory.{name}").read_text().strip() for name in ("max", "current"))
    except OSError:
        return available
    return available if limit == "max" else min(available, max(0, int(limit) - int(used)))
