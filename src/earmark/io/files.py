"""Files and folders that appear whole or not at all, here or at an address."""

import errno
import glob
import json
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from upath import UPath

from earmark.errors import UserError

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@contextmanager
def sole_writer(path: Path) -> Iterator[None]:
    """Holds a lock on `path` against other processes, which wait for their turn; the kernel frees it after a kill. An
    address has no lock."""
    from filelock import FileLock

    if not is_local(path):
        yield
        return

    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(path.with_name(f".{path.name}.lock")):
        yield


def is_local(path: Path) -> bool:
    """Whether `path` is one of this machine's file systems, and not an address such as s3://bucket/key."""
    return not isinstance(path, UPath) or path.protocol in ("", "file")


def require_writable(path: Path) -> None:
    """UserError where nothing can be made at `path`, before the work that is to end there."""
    above = next(each for each in path.absolute().parents if each.exists())
    if not above.is_dir():
        raise UserError(f"{path} cannot be written: {above} is no folder")
    try:
        with tempfile.TemporaryDirectory(dir=above):  # access rights do not tell what is read-only
            pass
    except OSError as error:
        raise UserError(f"{path} cannot be written: {above}: {error.strerror}") from None


@contextmanager
def reachable(*paths: Path) -> Iterator[None]:
    """What goes wrong at those of `paths` that are addresses, as without credentials, is a UserError in here."""
    from botocore.exceptions import BotoCoreError

    addresses = " or ".join(str(path) for path in paths if not is_local(path))
    try:
        yield
    except (OSError, BotoCoreError) as error:
        if not addresses:
            raise
        raise UserError(f"{addresses} cannot be used: {' '.join(str(error).split())}") from error


@contextmanager
def whole_file(path: Path, lasting: bool = True) -> Iterator[Path]:
    """A temporary path to write to; it takes `path`'s place at the end, or goes away on error.

    It is beside `path` and synced first, unless it need not be `lasting`: then a power cut may leave a torn file, which
    the caller can tell. For an address it is a local file without a name, of which a kill leaves nothing, and which is
    uploaded, whole or not at all. UserError where the disk is full.
    """
    with _room_for(path):
        yield from _whole_file(path, lasting) if is_local(path) else _whole_object(path)


def _whole_file(path: Path, lasting: bool) -> Iterator[Path]:
    _clear(path)
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=f".partial{path.suffix}", dir=path.parent)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        temporary.chmod(0o644)
        if lasting:
            _sync(temporary)
        temporary.replace(path)
        if lasting:
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
    """A temporary folder beside `path` to fill; it takes `path`'s place at the end, or goes away on error.

    The files of `path` named by `keep` are in it from the start, linked and not copied where the file system can, so
    they must not be written to. UserError where the disk is full.
    """
    with _room_for(path):
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
    """Puts the folder `path` back where a run was killed between the two renames of a swap."""
    for kept in path.parent.glob(f".{glob.escape(path.name)}.*.partial.old"):
        if not path.exists():
            kept.rename(path)


@contextmanager
def _room_for(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno not in _FULL:
            raise
        raise UserError(
            f"{path} cannot be written ({error.strerror}) and is as it was before; needed is free space"
        ) from error


def _link(source: Path, target: Path) -> None:
    try:
        target.hardlink_to(source)
    except OSError:
        shutil.copy2(source, target)


def write_text(path: Path, text: str) -> None:
    """Writes `text` as UTF-8, whole or not at all."""
    with whole_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, value: object) -> None:
    """Writes `value` as indented JSON, whole or not at all; NaN is an error."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def _swap(path: Path, temporary: Path, discarded: Path) -> None:
    """Puts `temporary` in `path`'s place; what was there goes to `discarded`, or back where the swap fails."""
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
    """Removes what killed runs left half-written below `folder`."""
    for leftover in sorted(folder.rglob(".*.partial*")):
        _remove(leftover)


def _clear(path: Path) -> None:
    """Makes room for `path`, and removes what a killed run left half-written beside it."""
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
