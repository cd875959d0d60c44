"""Atomic writes: files and folders that appear whole or not at all, on this machine or at an address."""

import errno
import glob
import json
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeGuard

from upath import UPath

from earmark.errors import UserError

AnyPath = Path | UPath
"""A local path, or an address such as s3://bucket/key."""

_DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@contextmanager
def exclusive_writer(path: AnyPath) -> Iterator[None]:
    """Hold a lock on `path`; other processes wait for it.

    The kernel frees the lock when the process is killed. An address is not locked.
    """
    from filelock import FileLock

    if is_local(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(path.with_name(f".{path.name}.lock")):
            yield
    else:
        yield


def is_local(path: AnyPath) -> TypeGuard[Path]:
    """Whether `path` is on this machine's file systems, not an address such as s3://bucket/key."""
    return not isinstance(path, UPath) or path.protocol in ("", "file")


def require_writable(path: Path) -> None:
    """Check, before long work, that its result can be written to `path`.

    Raises:
        UserError: it cannot be written.
    """
    parent = next(folder for folder in path.absolute().parents if folder.exists())
    if not parent.is_dir():
        raise UserError(f"{path} cannot be written: {parent} is not a folder")
    try:
        with tempfile.TemporaryDirectory(dir=parent):  # access rights do not tell a read-only file system
            pass
    except OSError as error:
        raise UserError(f"{path} cannot be written: {parent}: {error.strerror}") from None


@contextmanager
def storage_errors(*paths: AnyPath) -> Iterator[None]:
    """Turn storage errors into a UserError if any of `paths` is an address, for example missing credentials."""
    from botocore.exceptions import BotoCoreError

    addresses = " or ".join(str(path) for path in paths if not is_local(path))
    try:
        yield
    except (OSError, BotoCoreError) as error:
        if not addresses:
            raise
        raise UserError(f"{addresses} cannot be used: {' '.join(str(error).split())}") from error


@contextmanager
def whole_file(path: AnyPath, durable: bool = True) -> Iterator[Path]:
    """Yield a temporary path to write to; it replaces `path` at the end and is removed on error.

    A local temporary file lies beside `path` and is synced before the rename. With `durable` false it is not synced;
    a power cut may then leave a torn file, which the caller must detect. For an address, the temporary file has no
    name, so that a killed process leaves nothing behind, and is uploaded in one request.

    Raises:
        UserError: the disk is full.
    """
    with _disk_full_errors(path):
        yield from _whole_file(path, durable) if is_local(path) else _whole_object(UPath(path))


def _whole_file(path: Path, durable: bool) -> Iterator[Path]:
    _clear(path)
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=f".partial{path.suffix}", dir=path.parent)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        temporary.chmod(0o644)
        if durable:
            _sync(temporary)
        temporary.replace(path)
        if durable:
            _sync(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def _whole_object(path: UPath) -> Iterator[Path]:
    with tempfile.TemporaryFile() as file:
        temporary = Path(f"/proc/self/fd/{file.fileno()}")
        yield temporary
        path.fs.put_file(str(temporary), path.path)


@contextmanager
def whole_folder(path: Path, keep: Iterable[str] = ()) -> Iterator[Path]:
    """Yield a temporary folder beside `path` to fill; it replaces `path` at the end and is removed on error.

    The files of `path` named in `keep` are in it from the start. They are hard links where the file system has them,
    so do not write to them.

    Raises:
        UserError: the disk is full.
    """
    with _disk_full_errors(path):
        yield from _whole_folder(path, keep)


def _whole_folder(path: Path, keep: Iterable[str]) -> Iterator[Path]:
    restore(path)
    _clear(path)
    temporary = Path(tempfile.mkdtemp(prefix=f".{path.name}.", suffix=".partial", dir=path.parent))
    temporary.chmod(0o755)
    discarded = temporary.with_name(temporary.name + ".old")
    try:
        for name in keep:
            _link(path / name, temporary / name)
        yield temporary
        for file in sorted(temporary.rglob("*")):
            _sync(file)
        _sync(temporary)
        _swap(path, temporary, discarded)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        shutil.rmtree(discarded, ignore_errors=True)


def restore(path: Path) -> None:
    """Put the folder `path` back if a run was killed between the two renames of a swap."""
    for backup in path.parent.glob(f".{glob.escape(path.name)}.*.partial.old"):
        if not path.exists():
            backup.rename(path)


@contextmanager
def _disk_full_errors(path: AnyPath) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno not in _DISK_FULL:
            raise
        raise UserError(f"{path} cannot be written ({error.strerror}) and is unchanged; free disk space") from error


def _link(source: Path, target: Path) -> None:
    try:
        target.hardlink_to(source)
    except OSError:
        shutil.copy2(source, target)


def write_text(path: AnyPath, text: str) -> None:
    """Write `text` as UTF-8, atomically."""
    with whole_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: AnyPath, value: object) -> None:
    """Write `value` as indented JSON, atomically.

    Raises:
        ValueError: `value` contains NaN or an infinity.
    """
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def _swap(path: Path, temporary: Path, discarded: Path) -> None:
    """Replace `path` by `temporary` and move the old `path` to `discarded`; if that fails, move it back."""
    if path.exists():
        path.rename(discarded)
    try:
        temporary.rename(path)
    except BaseException:
        if discarded.exists():
            discarded.rename(path)
        raise
    _sync(path.parent)


def clear_leftovers(folder: Path) -> None:
    """Remove the partial files that killed runs left below `folder`."""
    for leftover in sorted(folder.rglob(".*.partial*")):
        _remove(leftover)


def _clear(path: Path) -> None:
    """Create the parent folder of `path` and remove the partial files that a killed run left beside `path`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    for leftover in path.parent.glob(f".{glob.escape(path.name)}.*.partial*"):
        _remove(leftover)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
