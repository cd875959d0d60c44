"""Reads a data set from a tar or zip archive, member by member, without extracting it; every member is checked."""

import hashlib
import lzma
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, NoReturn, Self

from isal import igzip, igzip_lib

from earmark.dataset.layout import LIST_SPLITS, Inventory, interpret, is_hidden, is_unprintable
from earmark.errors import UserError

SUFFIXES = (".tar.gz", ".tgz", ".tar", ".zip")
MEMBER_LIMIT_BYTES = 256 * 2**20

_HEADER_LIMIT_BYTES = 2**20
_HEADER_TYPES = (
    tarfile.XHDTYPE,
    tarfile.XGLTYPE,
    tarfile.SOLARIS_XHDTYPE,
    tarfile.GNUTYPE_LONGNAME,
    tarfile.GNUTYPE_LONGLINK,
)
_READ_BYTES = 2**20
# Raised by igzip, tarfile and zipfile for damaged bytes; zipfile raises RuntimeError for an encrypted member.
_DAMAGE_ERRORS: tuple[type[Exception], ...] = (
    tarfile.TarError,
    zipfile.BadZipFile,
    zlib.error,
    igzip_lib.IsalError,  # type: ignore[assignment]  # its stub declares an instance
    lzma.LZMAError,
    struct.error,
    EOFError,
    OSError,
    OverflowError,
    ValueError,
    RuntimeError,
)
_ZIP_FLAG_UTF8 = 0x800


def is_archive_name(name: str) -> bool:
    """Return whether ``entries`` can read an archive of this name."""
    return name.lower().endswith(SUFFIXES)


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file's bytes as 64 hex digits.

    Raises:
        UserError: the file cannot be read.
    """
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}); expected a readable file") from error


def entries(path: Path) -> Iterator[tuple[str, bytes]]:
    """Yield (POSIX path relative to the data set's root, content) of the data set's files, in the archive's order.

    The root can be any single folder of the archive. A tar archive is read in one pass, with one member in memory.

    Raises:
        UserError: the archive is damaged or truncated; a member is a link or a device, lies outside of the archive,
            has a control character or a backslash in its name, claims more than ``MEMBER_LIMIT_BYTES``, or occurs
            twice; or files of the data set lie below two roots.
    """
    read = _zip_entries if path.name.lower().endswith(".zip") else _tar_entries
    try:
        yield from read(path)
    except _DAMAGE_ERRORS as error:
        reason = str(error) or type(error).__name__
        raise UserError(f"the archive {path} is damaged or cut off ({reason}); expected a whole archive") from error


def _tar_entries(path: Path) -> Iterator[tuple[str, bytes]]:
    members = _Members(path)
    with _open_decompressed(path) as file, tarfile.open(fileobj=file, mode="r:", tarinfo=_StrictTarInfo) as archive:
        while (member := archive.next()) is not None:
            # tarfile keeps every header: 100,000 take about 100 MB.
            archive.members.clear()  # type: ignore[attr-defined]  # missing in typeshed
            if not (member.isfile() or member.isdir()) or member.issparse():
                members.refuse(member.name, "is a link, a device or a sparse file", "plain files and folders")
            relative = members.admit(member.name, member.size, member.isdir())
            if relative is not None:
                yield relative, _content(file, member)
        while file.read(_READ_BYTES):  # gzip checks its checksum only at the end
            pass


def _content(file: IO[bytes], member: tarfile.TarInfo) -> bytes:
    # The bytes of a plain file follow its header; reading them through tarfile takes half as long again.
    file.seek(member.offset_data)
    content = file.read(member.size)
    if len(content) != member.size:
        raise tarfile.ReadError("unexpected end of data")
    return content


def _open_decompressed(path: Path) -> IO[bytes]:
    if path.name.lower().endswith(".tar"):
        return path.open("rb")
    file: IO[bytes] = igzip.open(path, "rb")  # type: ignore[no-untyped-call]  # its stub has no types
    return file


class _StrictTarInfo(tarfile.TarInfo):
    """A header that reports damage; tarfile would treat a damaged header as the end of the archive."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> Self:
        header = super().frombuf(buf, encoding, errors)
        if header.size < 0 or header.type == tarfile.GNUTYPE_SPARSE:
            raise tarfile.ReadError(f"{header.name!r} is a sparse file or of a negative size")
        if header.type in _HEADER_TYPES and header.size > _HEADER_LIMIT_BYTES:
            raise tarfile.ReadError(f"an extended header claims {header.size} bytes")
        return header

    @classmethod
    def fromtarfile(cls, tarfile_: tarfile.TarFile) -> Self:
        try:
            return super().fromtarfile(tarfile_)
        except tarfile.EOFHeaderError:  # type: ignore[attr-defined]  # missing in typeshed
            raise
        except tarfile.HeaderError as error:
            raise tarfile.ReadError(str(error)) from error


def _zip_entries(path: Path) -> Iterator[tuple[str, bytes]]:
    members = _Members(path)
    with zipfile.ZipFile(path) as archive:
        for member in archive.infolist():
            kind = stat.S_IFMT(member.external_attr >> 16)
            name = _zip_name(member)
            if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
                members.refuse(name, "is a link or a device", "plain files and folders")
            relative = members.admit(name, member.file_size, name.endswith("/"))
            if relative is not None:
                yield relative, archive.read(member)


def _zip_name(member: zipfile.ZipInfo) -> str:
    # The Finder writes UTF-8 without setting the flag for it; zipfile then decodes the name as code page 437.
    # Unlike filename, orig_filename is not cut off at a NUL.
    if member.flag_bits & _ZIP_FLAG_UTF8:
        return member.orig_filename
    try:
        return member.orig_filename.encode("cp437").decode("utf-8")
    except UnicodeError:
        return member.orig_filename


class _Members:
    """Checks the members of an archive by name and claimed size, and finds the single root of the data set."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._inventory = Inventory(f"the archive {path}")
        self._root: tuple[str, ...] | None = None

    def admit(self, name: str, size_bytes: int, is_folder: bool) -> str | None:
        """Return a member's path relative to the root, or None if it is not part of the data set."""
        parts = self._safe_parts(name)
        if not 0 <= size_bytes <= MEMBER_LIMIT_BYTES:
            self.refuse(name, f"claims {size_bytes} bytes", f"at most {MEMBER_LIMIT_BYTES}")
        if is_folder or not parts or any(map(is_hidden, parts)):
            return None
        depth = 1 if parts[-1] in LIST_SPLITS else 2
        relative = "/".join(parts[-depth:])
        if interpret(relative) is None:
            return None
        self._keep_root(parts[:-depth], name)
        return self._inventory.admit(relative)

    def refuse(self, name: str, problem: str, expected: str) -> NoReturn:
        raise UserError(f"the archive {self._path} has the member {name!r}, which {problem}; expected {expected}")

    def _safe_parts(self, name: str) -> tuple[str, ...]:
        if is_unprintable(name) or "\\" in name:
            self.refuse(name, "has a control character or a backslash in its name", "printable UTF-8 text with /")
        parts = tuple(part for part in name.split("/") if part not in ("", "."))
        if name.startswith("/") or ".." in parts:
            self.refuse(name, "lies outside of the archive", "a relative path without ..")
        return parts

    def _keep_root(self, root: tuple[str, ...], name: str) -> None:
        if self._root is None:
            self._root = root
        elif root != self._root:
            root_name = f"the folder {'/'.join(self._root)!r}" if self._root else "the top folder"
            self.refuse(name, f"does not belong to the data set in {root_name}", "<label>/<clip>.wav below one folder")
