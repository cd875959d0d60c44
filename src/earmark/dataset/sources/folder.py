"""A folder as a source, with one subfolder of WAV files per label."""

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from earmark.addresses import is_url
from earmark.dataset.layout import Inventory, is_hidden
from earmark.dataset.sources.archive import MEMBER_LIMIT_BYTES
from earmark.dataset.sources.source import Context, Source
from earmark.dataset.sources.source_file import Memory, SourceFile
from earmark.errors import UserError


def open_source(address: str, _: Context) -> Source | None:
    """Return the data set in a folder; None if there is no such folder."""
    path = Path(address)
    if not address or is_url(address) or not path.is_dir():
        return None
    return Source(path.resolve().name, "", partial(local_fingerprint, path), partial(entries, path))


def entries(path: Path, memory: Memory) -> Iterator[SourceFile]:
    """Yield every file of the data set, sorted by path; a file whose version is in ``memory`` is not read.

    Raises:
        UserError: two names differ only in Unicode form, a name has a control character, or a file cannot be read.
    """
    with _reading(path):
        for relative, file in _files(path):
            status = file.stat()
            version = _version(status)
            cached_version, sha256 = memory.get(relative, ("", ""))
            if status.st_size > MEMBER_LIMIT_BYTES:
                reason = f"the file has {status.st_size} bytes; expected at most {MEMBER_LIMIT_BYTES}"
                yield SourceFile(relative, version, refused=reason)
            elif cached_version == version:
                yield SourceFile(relative, version, sha256=sha256)
            else:
                yield SourceFile(relative, version, content=file.read_bytes())


def local_fingerprint(path: Path) -> str:
    """Return hex digits that change when a file is added, removed, renamed or written; no file is read.

    Raises:
        UserError: as ``entries`` does.
    """
    digest = hashlib.sha256()
    with _reading(path):
        for relative, file in _files(path):
            digest.update(f"{relative}\n{_version(file.stat())}\n".encode())
    return digest.hexdigest()


def _version(status: os.stat_result) -> str:
    return f"{status.st_size}:{status.st_mtime_ns}:{status.st_ino}"


def _files(root: Path) -> list[tuple[str, Path]]:
    inventory = Inventory(f"the folder {root}")
    files = []
    for file in _two_levels(root):
        relative = inventory.admit(file.relative_to(root).as_posix())
        if relative is not None and file.is_file():
            files.append((relative, file))
    return sorted(files)


def _two_levels(root: Path) -> Iterator[Path]:
    # Path.glob would silently skip a folder that it may not read.
    for child in root.iterdir():
        if child.is_dir() and not is_hidden(child.name):
            yield from child.iterdir()
        else:
            yield child


@contextmanager
def _reading(root: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        name = error.filename or root
        raise UserError(f"{name} cannot be read ({error.strerror}); expected readable files and folders") from error
