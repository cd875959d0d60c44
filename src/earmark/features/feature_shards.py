"""Feature shards: float16 arrays, each for one raw shard and one setting of a front end.

A shard is a NumPy file followed by a CRC-32 of the settings and the file. The array can be read in place; the checksum
detects a shard that is torn, damaged or of other settings. A folder holds the shards of one setting, which it names in
`settings.json`.
"""

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO, Protocol

import numpy as np
import numpy.typing as npt
from isal import isal_zlib
from upath import UPath

from earmark.errors import UserError
from earmark.io.files import AnyPath, is_local, storage_errors, whole_file, write_json

SETTINGS = "settings.json"
ASIDE = ".aside"
"""Suffix of the folder, beside that of the features, that keeps the features of other settings for later."""

_CHECKSUM_BYTES = 4
_READ_BYTES = 2**20


class FrontEnd(Protocol):
    """The shape of a front end's features, and the settings that their values depend on."""

    @property
    def frames(self) -> int: ...

    @property
    def bins(self) -> int: ...

    def settings(self) -> dict[str, Any]: ...


Settings = Mapping[str, object]
Append = Callable[[npt.NDArray[np.float16]], None]


def open_writer(folder: AnyPath, raw_shard: str, rows: int, front_end: FrontEnd) -> AbstractContextManager[Append]:
    """Open the feature shard of a raw shard with `rows` recordings; it appears when the context ends without error.

    The context yields a function that appends features, float16 (recordings, frames, bins), in the order of the
    recordings.
    """
    shape = (rows, front_end.frames, front_end.bins)
    return _open_array(path_of(folder, raw_shard), shape, front_end.settings())


def write_noise(folder: AnyPath, split: str, noise: Iterable[npt.NDArray[np.float16]], front_end: FrontEnd) -> None:
    """Write the background noise of a split: the features of its recordings, float16 (frames, bins), concatenated."""
    pieces = list(noise)
    shape = (sum(map(len, pieces)), front_end.bins)
    with _open_array(noise_path(folder, split), shape, front_end.settings()) as append:
        for piece in pieces:
            append(piece)


@contextmanager
def _open_array(path: AnyPath, shape: tuple[int, ...], settings: Settings) -> Iterator[Append]:
    with whole_file(path, durable=False) as temporary, temporary.open("wb") as file:
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


def _canonical(settings: Settings) -> bytes:
    return json.dumps(settings, sort_keys=True).encode()


def prepare(folder: AnyPath, settings: Settings) -> str:
    """Make `folder` hold features of these settings only; return a message on what was moved, or "".

    Features of other settings are set aside; features of these settings that were set aside earlier are restored.
    """
    message = ""
    if _read_settings(folder) != settings:
        message = set_aside(folder)
        write_json(folder / SETTINGS, settings)
    aside = _aside_folder(folder, settings)
    names = _list_files(aside)
    for name in names:
        _move(aside / name, folder / name)
    _remove_if_empty(aside)
    return message + (f"{folder}: restored the features of these settings from {aside}\n" if names else "")


def set_aside(folder: AnyPath) -> str:
    """Move the features of a front end aside; return a message that says where to, or "".

    Features of unknown settings are removed.
    """
    settings = _read_settings(folder)
    aside = _aside_folder(folder, settings)
    # The settings file moves last, so that the next run can finish after a kill.
    for name in sorted(_list_files(folder), key=lambda name: name == SETTINGS):
        if settings is None:
            (folder / name).unlink()
        else:
            _move(folder / name, aside / name)
    _remove_if_empty(folder)
    return f"{folder}: moved the features of other settings to {aside}\n" if settings is not None else ""


def _remove_if_empty(folder: AnyPath) -> None:
    if is_local(folder):
        with suppress(OSError):  # it does not exist, or has other files
            folder.rmdir()


def _aside_folder(folder: AnyPath, settings: Settings | None) -> AnyPath:
    digest = hashlib.sha256(_canonical(settings or {})).hexdigest()[:12]
    return _aside(folder.parent) / f"{folder.name}-{digest}"


def _aside(features: AnyPath) -> AnyPath:
    return features.with_name(features.name + ASIDE)


def _move(file: AnyPath, target: AnyPath) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    if is_local(file) and is_local(target):
        file.replace(target)
    else:
        UPath(file).fs.mv(UPath(file).path, UPath(target).path)


def _list_files(folder: AnyPath) -> dict[str, int]:
    """The files in `folder` and their bytes, with one request."""
    place = UPath(folder)
    try:
        entries = place.fs.ls(place.path, detail=True, refresh=True)
    except (FileNotFoundError, NotADirectoryError):
        return {}
    return {Path(entry["name"]).name: entry["size"] for entry in entries if entry["type"] == "file"}


def _read_settings(folder: AnyPath) -> dict[str, object] | None:
    """The settings of the features in `folder`; None if they are missing or damaged."""
    try:
        settings = json.loads((folder / SETTINGS).read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return None
    return settings if isinstance(settings, dict) else None


def remove_orphans(features: AnyPath, raw_shards: Iterable[str]) -> None:
    """Remove the features of all other raw shards, for every front end and for settings that were set aside.

    Nothing is left of recordings that were removed.
    """
    names = {path_of(features, shard).name for shard in raw_shards}
    _remove(features, lambda name: name not in names)
    for folder in _aside(features).iterdir() if _aside(features).exists() else ():
        remaining = _list_files(folder)
        if not any(name.startswith("shard-") for name in remaining):
            for name in remaining:
                (folder / name).unlink()
            _remove_if_empty(folder)


def remove(features: AnyPath, raw_shards: Iterable[str]) -> None:
    """Remove the features of these raw shards, for every front end and for settings that were set aside."""
    names = {path_of(features, shard).name for shard in raw_shards}
    _remove(features, lambda name: name in names)


def _remove(features: AnyPath, condition: Callable[[str], bool]) -> None:
    with storage_errors(features):
        for folder in (features, _aside(features)):
            for path in folder.glob("*/shard-*.npy"):
                if condition(path.name):
                    path.unlink()


def missing(folder: AnyPath, raw_shards: Mapping[str, int], front_end: FrontEnd) -> tuple[list[str], list[str]]:
    """List the raw shards whose features must be computed, and those among them whose features are damaged.

    Args:
        folder: the features of the front end.
        raw_shards: name of each raw shard -> number of its recordings.
        front_end: the front end.
    """
    sizes = _list_files(folder)
    absent, damaged = [], []
    for shard, rows in raw_shards.items():
        path = path_of(folder, shard)
        if path.name not in sizes:
            absent.append(shard)
        elif not _is_whole(path, (rows, front_end.frames, front_end.bins), sizes[path.name], front_end.settings()):
            damaged.append(shard)
    return absent + damaged, damaged


def _is_whole(path: AnyPath, shape: tuple[int, ...], size: int, settings: Settings) -> bool:
    """Whether a file of `size` bytes has this shape and a valid checksum.

    Of an object in a bucket only the size is checked, since it appears whole or not at all.
    """
    header = _header(shape)
    if size != len(header) + 2 * int(np.prod(shape)) + _CHECKSUM_BYTES:
        return False
    if not is_local(path):
        return True
    checksum = isal_zlib.crc32(header, isal_zlib.crc32(_canonical(settings)))
    with path.open("rb") as file:
        return file.read(len(header)) == header and _is_checksum_valid(file, checksum, size - len(header))


def _is_checksum_valid(file: BinaryIO, checksum: int, remaining: int) -> bool:
    remaining -= _CHECKSUM_BYTES
    while remaining:
        block = file.read(min(remaining, _READ_BYTES))
        checksum = isal_zlib.crc32(block, checksum)
        remaining -= len(block)
    return file.read() == checksum.to_bytes(_CHECKSUM_BYTES, "little")


def require_settings(folder: AnyPath, settings: Settings) -> None:
    """Check that the features in `folder` have these settings.

    Raises:
        UserError: there are no features, or they have other settings; the text names the first difference.
    """
    with storage_errors(folder):
        stored = _read_settings(folder)
    if stored is None:
        raise UserError(f"{folder} has no features; run 'dvc repro extract' first")
    for key, value in settings.items():
        if stored.get(key) != value:
            raise UserError(
                f"{folder} was computed with {key} {stored.get(key)!r}, not {value!r}; run 'dvc repro extract'"
            )


Layout = tuple[int, tuple[int, int, int]]
"""Offset in bytes at which a file's data starts, and its shape (recordings, frames, bins)."""


def layouts(folder: AnyPath, raw_shards: Sequence[str]) -> dict[str, Layout]:
    """Check the features of these raw shards and return raw shard -> layout of its feature file.

    Raises:
        UserError: a file is missing, damaged, or of other settings than its folder.
    """
    paths = [path_of(folder, shard) for shard in raw_shards]
    with storage_errors(folder):
        sizes, settings = _list_files(folder), _read_settings(folder)
        for path in paths:
            if path.name not in sizes:
                raise UserError(f"{path} is missing; run 'dvc repro extract' first")
        return dict(zip(raw_shards, _read_layouts(folder, paths, sizes, settings or {}), strict=True))


def _read_layouts(folder: AnyPath, paths: list[AnyPath], sizes: dict[str, int], settings: Settings) -> Iterator[Layout]:
    end = len(_header((0, 0, 0)))  # the same for every shape: NumPy pads the header so that the first number can grow
    places = [UPath(path).path for path in paths]
    heads = UPath(folder).fs.cat_ranges(places, [0] * len(paths), [end] * len(paths), on_error="raise")
    for path, head in zip(paths, heads, strict=True):
        try:
            file = BytesIO(head)
            np.lib.format.read_magic(file)
            shape, _, _ = np.lib.format.read_array_header_1_0(file)
        except ValueError:
            shape = ()
        if len(shape) != 3 or not _is_whole(path, shape, sizes[path.name], settings):
            raise UserError(f"{path} is damaged; run 'earmark extract' to rebuild it")
        recordings, frames, bins = shape
        yield end, (recordings, frames, bins)


def read_noise(folder: AnyPath, split: str) -> npt.NDArray[np.float16]:
    """The background noise of a split, float16 (frames, bins); no frames if the data set has no noise.

    Raises:
        UserError: it is missing or damaged.
    """
    path = noise_path(folder, split)
    with storage_errors(folder):
        try:
            content = path.read_bytes()
            noise = np.lib.format.read_array(BytesIO(content), allow_pickle=False)
        except (FileNotFoundError, ValueError):
            content, noise = b"", np.empty(())
        if noise.ndim != 2 or not _is_whole(path, noise.shape, len(content), _read_settings(folder) or {}):
            raise UserError(f"{path} is missing or damaged; run 'earmark extract' to rebuild it")
    return noise


def noise_path(folder: AnyPath, split: str) -> AnyPath:
    """Path of the background noise of a split in `folder`."""
    return folder / f"noise-{split}.npy"


def path_of(folder: AnyPath, raw_shard: str) -> AnyPath:
    """Path of the features of a raw shard in `folder`."""
    return folder / f"{Path(raw_shard).stem}.npy"
