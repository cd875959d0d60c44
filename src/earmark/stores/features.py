"""Feature shards: float16 arrays that belong to one raw shard and one setting of a front end.

A shard is a NumPy file that ends with the CRC-32 of all before it: an array that can be mapped or read in place, and a
checksum that finds a torn or damaged one. Its folder says with which settings its shards were made.
"""

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from io import BytesIO
from pathlib import Path
from typing import BinaryIO, Protocol

import numpy as np
from isal import isal_zlib
from upath import UPath

from earmark.errors import UserError
from earmark.stores.files import is_local, whole_file, write_json

SETTINGS = "settings.json"
NOISE = "noise.npy"
ASIDE = ".aside"
"""Ending of the folder beside that of the features, in which those of other settings wait for them to come back."""

_CHECKSUM_BYTES = 4
_READ_BYTES = 2**20


class Shape(Protocol):
    """What a front end says of its features."""

    frames: int
    bins: int


Append = Callable[[np.ndarray], None]


def writing(folder: Path, raw_shard: str, rows: int, shape: Shape) -> AbstractContextManager[Append]:
    """Gives a function that appends features, float16 (recordings, frames, bins), of a raw shard's `rows` recordings in
    their order; the file is there when the context ends well."""
    return _appending(path_of(folder, raw_shard), (rows, shape.frames, shape.bins))


def write_noise(folder: Path, noise: Iterable[np.ndarray], shape: Shape) -> None:
    """Writes background noise: pieces of frames, float16 (frames, bins), one after the other."""
    pieces = list(noise)
    with _appending(folder / NOISE, (sum(map(len, pieces)), shape.bins)) as append:
        for piece in pieces:
            append(piece)


@contextmanager
def _appending(path: Path, shape: tuple[int, ...]) -> Iterator[Append]:
    with whole_file(path, lasting=False) as temporary, temporary.open("wb") as file:
        checksum = 0

        def write(content: bytes | memoryview) -> None:
            nonlocal checksum
            checksum = isal_zlib.crc32(content, checksum)
            file.write(content)

        write(_header(shape))
        yield lambda values: write(np.ascontiguousarray(values, dtype=np.float16).data.cast("B"))
        file.write(checksum.to_bytes(_CHECKSUM_BYTES, "little"))


def _header(shape: tuple[int, ...]) -> bytes:
    buffer = BytesIO()
    np.lib.format.write_array_header_1_0(buffer, {"descr": "<f2", "fortran_order": False, "shape": shape})
    return buffer.getvalue()


def prepare(folder: Path, settings: dict) -> None:
    """Makes `folder` one of these settings: features of others are set aside, those of these come back."""
    if _settings_of(folder) != settings:
        set_aside(folder)
        for leftover in _listed(folder):  # of settings that nobody knows any more
            (folder / leftover).unlink()
        write_json(folder / SETTINGS, settings)
    waiting = _place_aside(folder, settings)
    for name in _listed(waiting):
        _move(waiting / name, folder / name)


def set_aside(folder: Path) -> None:
    """Sets the features of a front end aside, all of them, if it is known what settings they are of."""
    settings = _settings_of(folder)
    if settings is None:
        return
    place = _place_aside(folder, settings)
    # What says whose features they are goes last, so that a killed run is finished by the next.
    for name in sorted(_listed(folder), key=lambda each: each == SETTINGS):
        _move(folder / name, place / name)
    if is_local(folder):
        folder.rmdir()


def _place_aside(folder: Path, settings: dict) -> Path:
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:12]
    return _aside(folder.parent) / f"{folder.name}-{digest}"


def _aside(features: Path) -> Path:
    return features.with_name(features.name + ASIDE)


def _move(file: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    if is_local(file):
        file.replace(target)
    else:
        file.fs.mv(file.path, target.path)


def _listed(folder: Path) -> dict[str, int]:
    """The files in `folder` and their bytes, with one request."""
    place = UPath(folder)
    try:
        entries = place.fs.ls(place.path, detail=True, refresh=True)
    except FileNotFoundError:
        return {}
    return {Path(entry["name"]).name: entry["size"] for entry in entries if entry["type"] == "file"}


def _settings_of(folder: Path) -> dict | None:
    try:
        return json.loads((folder / SETTINGS).read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return None


def missing(folder: Path, raw_shards: Mapping[str, int], shape: Shape) -> tuple[list[str], list[str]]:
    """Which of `raw_shards`, each with its count of recordings, lack features in `folder`, and which of these have torn
    or damaged ones. What the folder has of other raw shards is removed."""
    wanted = {path_of(folder, shard): shard for shard in raw_shards}
    bytes_of = {folder / name: size for name, size in _listed(folder).items() if name.startswith("shard-")}
    for path in bytes_of.keys() - wanted.keys():
        path.unlink()
    absent = [shard for path, shard in wanted.items() if path not in bytes_of]
    damaged = [
        shard
        for path, shard in wanted.items()
        if path in bytes_of and not is_whole(path, (raw_shards[shard], shape.frames, shape.bins), bytes_of[path])
    ]
    return absent + damaged, damaged


def is_whole(path: Path, shape: tuple[int, ...], size: int) -> bool:
    """Whether a shard of `size` bytes has this shape and its checksum. An object in a bucket, which appears whole or
    not at all, is known by its size alone."""
    header = _header(shape)
    if size != len(header) + 2 * int(np.prod(shape)) + _CHECKSUM_BYTES:
        return False
    if not is_local(path):
        return True
    with path.open("rb") as file:
        return file.read(len(header)) == header and _checksum_holds(file, isal_zlib.crc32(header), size - len(header))


def _checksum_holds(file: BinaryIO, checksum: int, remaining: int) -> bool:
    remaining -= _CHECKSUM_BYTES
    while remaining:
        block = file.read(min(remaining, _READ_BYTES))
        checksum = isal_zlib.crc32(block, checksum)
        remaining -= len(block)
    return file.read() == checksum.to_bytes(_CHECKSUM_BYTES, "little")


def remove(features: Path, raw_shards: Iterable[str]) -> None:
    """Removes the features of raw shards, of every front end in `features` and of every setting set aside."""
    for shard in raw_shards:
        for folder in (features, _aside(features)):
            for path in folder.glob(f"*/{path_of(folder, shard).name}"):
                path.unlink()


def require_settings(folder: Path, settings: dict) -> None:
    """UserError naming the first difference where `folder` was made with other settings."""
    found = _settings_of(folder)
    if found is None:
        raise UserError(f"{folder} holds no features; run 'dvc repro extract' first")
    for key, wanted in settings.items():
        if found.get(key) != wanted:
            raise UserError(f"{folder} was made with {key} {found.get(key)!r}, not {wanted!r}; run 'dvc repro extract'")


def read_noise(folder: Path) -> np.ndarray:
    """Background noise, float16 (frames, bins); no frames where the data set has none."""
    with (folder / NOISE).open("rb") as file:
        return np.lib.format.read_array(file, allow_pickle=False)


def path_of(folder: Path, raw_shard: str) -> Path:
    """Where `folder` holds the features of a raw shard."""
    return folder / f"{Path(raw_shard).stem}.npy"
