"""Feature shards: float16 arrays that belong to one raw shard and one setting of a front end.

A shard is a NumPy file that ends with a CRC-32 of its settings and of all before it: an array that can be read in
place, and a checksum that finds one that is torn, damaged or of other settings. Its folder says with which settings its
shards were made.
"""

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from io import BytesIO
from pathlib import Path
from typing import BinaryIO, Protocol

import numpy as np
from isal import isal_zlib
from upath import UPath

from earmark.errors import UserError
from earmark.io.files import is_local, reachable, whole_file, write_json

SETTINGS = "settings.json"
ASIDE = ".aside"
"""Ending of the folder beside that of the features, in which those of other settings wait for them to come back."""

_CHECKSUM_BYTES = 4
_READ_BYTES = 2**20


class FrontEnd(Protocol):
    """What a front end says of its features."""

    frames: int
    bins: int

    def settings(self) -> dict:
        """All that their numbers depend on."""


Append = Callable[[np.ndarray], None]


def writing(folder: Path, raw_shard: str, rows: int, front_end: FrontEnd) -> AbstractContextManager[Append]:
    """Gives a function that appends features, float16 (recordings, frames, bins), of a raw shard's `rows` recordings in
    their order; the file is there when the context ends well."""
    shape = (rows, front_end.frames, front_end.bins)
    return _appending(path_of(folder, raw_shard), shape, front_end.settings())


def write_noise(folder: Path, split: str, noise: Iterable[np.ndarray], front_end: FrontEnd) -> None:
    """Writes the background noise that a split hears: pieces of frames, float16 (frames, bins), one after the other."""
    pieces = list(noise)
    shape = (sum(map(len, pieces)), front_end.bins)
    with _appending(noise_path(folder, split), shape, front_end.settings()) as append:
        for piece in pieces:
            append(piece)


@contextmanager
def _appending(path: Path, shape: tuple[int, ...], settings: dict) -> Iterator[Append]:
    with whole_file(path, lasting=False) as temporary, temporary.open("wb") as file:
        checksum = isal_zlib.crc32(_canonical(settings))

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


def _canonical(settings: dict) -> bytes:
    return json.dumps(settings, sort_keys=True).encode()


def prepare(folder: Path, settings: dict) -> str:
    """Makes `folder` one of these settings: features of others are set aside, those of these come back. Says so."""
    said = ""
    if _settings_of(folder) != settings:
        said = set_aside(folder)
        write_json(folder / SETTINGS, settings)
    waiting = _place_aside(folder, settings)
    back = _listed(waiting)
    for name in back:
        _move(waiting / name, folder / name)
    _remove_empty(waiting)
    return said + (f"{folder} has its features of these settings back from {waiting}\n" if back else "")


def set_aside(folder: Path) -> str:
    """Sets the features of a front end aside, all of them, and says where; removes them where nobody knows their
    settings."""
    settings = _settings_of(folder)
    place = _place_aside(folder, settings)
    # What says whose features they are goes last, so that a killed run is finished by the next.
    for name in sorted(_listed(folder), key=lambda each: each == SETTINGS):
        if settings is None:
            (folder / name).unlink()
        else:
            _move(folder / name, place / name)
    _remove_empty(folder)
    return f"{folder} had features of other settings, which are now in {place}\n" if settings is not None else ""


def _remove_empty(folder: Path) -> None:
    if is_local(folder):
        with suppress(OSError):  # there is none, or somebody else's files are in it
            folder.rmdir()


def _place_aside(folder: Path, settings: dict | None) -> Path:
    digest = hashlib.sha256(_canonical(settings or {})).hexdigest()[:12]
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
    except (FileNotFoundError, NotADirectoryError):
        return {}
    return {Path(entry["name"]).name: entry["size"] for entry in entries if entry["type"] == "file"}


def _settings_of(folder: Path) -> dict | None:
    try:
        found = json.loads((folder / SETTINGS).read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return None
    return found if isinstance(found, dict) else None


def remove_strangers(features: Path, raw_shards: Iterable[str]) -> None:
    """Removes the features of all but these raw shards, of every front end in `features` and of every setting set
    aside: nothing stays of recordings that are gone."""
    known = {path_of(features, shard).name for shard in raw_shards}
    _remove(features, lambda name: name not in known)
    for folder in _aside(features).iterdir() if _aside(features).exists() else ():
        left = _listed(folder)
        if not any(name.startswith("shard-") for name in left):
            for name in left:
                (folder / name).unlink()
            _remove_empty(folder)


def remove(features: Path, raw_shards: Iterable[str]) -> None:
    """Removes the features of these raw shards, of every front end in `features` and of every setting set aside."""
    gone = {path_of(features, shard).name for shard in raw_shards}
    _remove(features, lambda name: name in gone)


def _remove(features: Path, is_meant: Callable[[str], bool]) -> None:
    with reachable(features):
        for place in (features, _aside(features)):
            for path in place.glob("*/shard-*.npy"):
                if is_meant(path.name):
                    path.unlink()


def missing(folder: Path, raw_shards: Mapping[str, int], front_end: FrontEnd) -> tuple[list[str], list[str]]:
    """Which of `raw_shards`, each with its count of recordings, lack features in `folder`, and which of these have torn
    or damaged ones."""
    bytes_of = _listed(folder)
    absent, damaged = [], []
    for shard, rows in raw_shards.items():
        path = path_of(folder, shard)
        if path.name not in bytes_of:
            absent.append(shard)
        elif not _is_whole(path, (rows, front_end.frames, front_end.bins), bytes_of[path.name], front_end.settings()):
            damaged.append(shard)
    return absent + damaged, damaged


def _is_whole(path: Path, shape: tuple[int, ...], size: int, settings: dict) -> bool:
    """Whether a file of `size` bytes has this shape and its checksum. An object in a bucket, which appears whole or not
    at all, is known by its size alone."""
    header = _header(shape)
    if size != len(header) + 2 * int(np.prod(shape)) + _CHECKSUM_BYTES:
        return False
    if not is_local(path):
        return True
    checksum = isal_zlib.crc32(header, isal_zlib.crc32(_canonical(settings)))
    with path.open("rb") as file:
        return file.read(len(header)) == header and _checksum_holds(file, checksum, size - len(header))


def _checksum_holds(file: BinaryIO, checksum: int, remaining: int) -> bool:
    remaining -= _CHECKSUM_BYTES
    while remaining:
        block = file.read(min(remaining, _READ_BYTES))
        checksum = isal_zlib.crc32(block, checksum)
        remaining -= len(block)
    return file.read() == checksum.to_bytes(_CHECKSUM_BYTES, "little")


def require_settings(folder: Path, settings: dict) -> None:
    """UserError naming the first difference where `folder` was made with other settings."""
    with reachable(folder):
        found = _settings_of(folder)
    if found is None:
        raise UserError(f"{folder} holds no features; run 'dvc repro extract' first")
    for key, wanted in settings.items():
        if found.get(key) != wanted:
            raise UserError(f"{folder} was made with {key} {found.get(key)!r}, not {wanted!r}; run 'dvc repro extract'")


def layouts(folder: Path, raw_shards: Sequence[str]) -> dict[str, tuple[int, tuple[int, ...]]]:
    """For each of these raw shards, where the data of its features begins in their file, and their shape (recordings,
    frames, bins). UserError where one is missing, damaged or of other settings than its folder."""
    paths = [path_of(folder, shard) for shard in raw_shards]
    with reachable(folder):
        bytes_of, settings = _listed(folder), _settings_of(folder)
        for path in paths:
            if path.name not in bytes_of:
                raise UserError(f"{path} is missing; run 'dvc repro extract' first")
        return dict(zip(raw_shards, _layouts(folder, paths, bytes_of, settings or {}), strict=True))


def _layouts(
    folder: Path, paths: list[Path], bytes_of: dict[str, int], settings: dict
) -> Iterator[tuple[int, tuple[int, ...]]]:
    end = len(_header((0, 0, 0)))  # as long for every shape: NumPy leaves room for the first number to grow
    places = [UPath(path).path for path in paths]
    for path, head in zip(
        paths, UPath(folder).fs.cat_ranges(places, [0] * len(paths), [end] * len(paths), on_error="raise"), strict=True
    ):
        try:
            file = BytesIO(head)
            np.lib.format.read_magic(file)
            shape, _, _ = np.lib.format.read_array_header_1_0(file)
        except ValueError:
            shape = ()
        if len(shape) != 3 or not _is_whole(path, shape, bytes_of[path.name], settings):
            raise UserError(f"{path} is damaged; 'earmark extract' makes it again")
        yield end, shape


def read_noise(folder: Path, split: str) -> np.ndarray:
    """The background noise that a split hears, float16 (frames, bins); no frames where the data set has none. UserError
    where it is missing or damaged."""
    path = noise_path(folder, split)
    with reachable(folder):
        try:
            content = path.read_bytes()
            noise = np.lib.format.read_array(BytesIO(content), allow_pickle=False)
        except (FileNotFoundError, ValueError):
            content, noise = b"", np.empty(())
        if noise.ndim != 2 or not _is_whole(path, noise.shape, len(content), _settings_of(folder) or {}):
            raise UserError(f"{path} is missing or damaged; 'earmark extract' makes it again")
    return noise


def noise_path(folder: Path, split: str) -> Path:
    """Where `folder` holds the background noise that a split hears."""
    return folder / f"noise-{split}.npy"


def path_of(folder: Path, raw_shard: str) -> Path:
    """Where `folder` holds the features of a raw shard."""
    return folder / f"{Path(raw_shard).stem}.npy"
