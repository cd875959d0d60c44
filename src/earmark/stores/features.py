"""Feature shards: float16 arrays that belong to one raw shard and one front end, and the settings they were made
with."""

import json
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import BinaryIO, Protocol

import numpy as np
import pandas as pd

from earmark.errors import UserError
from earmark.stores.files import whole_file, write_json

SETTINGS = "settings.json"
NOISE = "noise.npy"


class Shape(Protocol):
    """What a front end says of its features."""

    frames: int
    bins: int


Append = Callable[[np.ndarray], None]


def writing(folder: Path, raw_shard: str, shape: Shape) -> AbstractContextManager[Append]:
    """Gives a function that appends features, float (recordings, frames, bins), of the recordings of a raw shard in
    their order; the file is there, in float16, when the context ends well."""
    return _appending(_path(folder, raw_shard), (shape.frames, shape.bins))


def writing_noise(folder: Path, shape: Shape) -> AbstractContextManager[Append]:
    """As `writing`, for background noise: frames, float (frames, bins)."""
    return _appending(folder / NOISE, (shape.bins,))


@contextmanager
def _appending(path: Path, row_shape: tuple[int, ...]) -> Iterator[Append]:
    rows = 0
    with whole_file(path) as temporary, temporary.open("wb") as file:

        def append(values: np.ndarray) -> None:
            nonlocal rows
            file.write(np.ascontiguousarray(values, dtype=np.float16).data)
            rows += len(values)

        _write_header(file, (rows, *row_shape))
        yield append
        file.seek(0)
        _write_header(file, (rows, *row_shape))  # as long as before: NumPy leaves room for the first number to grow


def _write_header(file: BinaryIO, shape: tuple[int, ...]) -> None:
    np.lib.format.write_array_header_1_0(file, {"descr": "<f2", "fortran_order": False, "shape": shape})


def missing(folder: Path, raw_shards: Iterable[str], settings: dict) -> list[str]:
    """The raw shards whose features `folder` lacks; what it has of other settings or other shards is removed."""
    wanted = {_path(folder, shard): shard for shard in raw_shards}
    try:
        same = json.loads((folder / SETTINGS).read_text(encoding="utf-8")) == settings
    except (FileNotFoundError, ValueError):
        same = False
    for path in folder.glob("shard-*.npy"):
        if not same or path not in wanted:
            path.unlink()
    if not same:
        write_json(folder / SETTINGS, settings)
    return [shard for path, shard in wanted.items() if not path.exists()]


def remove(features: Path, raw_shards: Iterable[str]) -> None:
    """Removes the features of raw shards, of every front end below `features`."""
    for shard in raw_shards:
        for path in features.glob(f"*/{Path(shard).stem}.npy"):
            path.unlink()


def require_settings(folder: Path, settings: dict) -> None:
    """UserError naming the first difference where `folder` was made with other settings."""
    try:
        found = json.loads((folder / SETTINGS).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{folder} holds no features; run 'dvc repro extract' first") from None
    for key, wanted in settings.items():
        if found.get(key) != wanted:
            raise UserError(f"{folder} was made with {key} {found.get(key)!r}, not {wanted!r}; run 'dvc repro extract'")


def read(folder: Path, clips: pd.DataFrame) -> np.ndarray:
    """Features of `clips`, whose `shard` and `member` say where they are, in that order: float16 (clips, frames,
    bins)."""
    result: np.ndarray | None = None
    for shard, group in clips.reset_index(drop=True).groupby("shard"):
        stored = np.load(_path(folder, shard), mmap_mode="r", allow_pickle=False)
        if result is None:
            result = np.empty((len(clips), *stored.shape[1:]), dtype=np.float16)
        result[group.index] = stored[group["member"]]
    return result


def read_noise(folder: Path) -> np.ndarray:
    """Background noise, float16 (frames, bins); no frames where the data set has none."""
    return np.load(folder / NOISE, allow_pickle=False)


def _path(folder: Path, raw_shard: str) -> Path:
    return folder / f"{Path(raw_shard).stem}.npy"
