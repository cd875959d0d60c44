"""A data set in a tar or zip archive, read member by member: nothing is written, and no member is trusted."""

import hashlib
import lzma
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, NoReturn

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
# What igzip, tarfile and zipfile raise on damaged bytes; RuntimeError is zipfile's for an encrypted member.
_DAMAGE = (
    tarfile.TarError,
    zipfile.BadZipFile,
    zlib.error,
    igzip_lib.IsalError,
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
    """Return whether a file name ends like an archive that ``entries`` reads."""
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
        raise UserError(f"{path} cannot be read ({error.strerror}): needed is a readable file") from error


def entries(path: Path) -> Iterator[tuple[str, bytes]]:
    """Yield (POSIX path relative to the data set's root, file bytes) of the data set's files in the archive's order.

    The root may be any one folder of the archive. A tar archive is read in one pass and holds one member in memory.

    Raises:
        UserError: a damaged or truncated archive; a member that is a link or a device, lies outside of the archive,
            has a control character or a backslash in its name, claims more than ``MEMBER_LIMIT_BYTES``, or is there
            twice; or files of the data set below two different roots.
    """
    read = _zip_entries if path.name.lower().endswith(".zip") else _tar_entries
    try:
        yield from read(path)
    except _DAMAGE as error:
        reason = str(error) or type(error).__name__
        raise UserError(f"the archive {path} is damaged or cut off ({reason}): allowed is a whole archive") from error


def _tar_entries(path: Path) -> Iterator[tuple[str, bytes]]:
    members = _Members(path)
    with _open_decompressed(path) as file, tarfile.open(fileobj=file, mode="r:", tarinfo=_StrictTarInfo) as archive:
        while (member := archive.next()) is not None:
            archive.members.clear()  # tarfile keeps every header: 100,000 of them take some 100 MB
            if not (member.isfile() or member.isdir()) or member.issparse():
                members.refuse(member.name, "is a link, a device or a sparse file", "plain files and folders")
            relative = members.admit(member.name, member.size, member.isdir())
            if relative is not None:
                yield relative, _content(file, member)
        while file.read(_READ_BYTES):  # gzip compares its checksum only at the end
            pass


def _content(file: IO[bytes], member: tarfile.TarInfo) -> bytes:
    # A plain file's bytes follow its header; tarfile's own reader of members takes half as long again.
    file.seek(member.offset_data)
    content = file.read(member.size)
    if len(content) != member.size:
        raise tarfile.ReadError("unexpected end of data")
    return content


def _open_decompressed(path: Path) -> IO[bytes]:
    if path.name.lower().endswith(".tar"):
        return path.open("rb")
    return igzip.open(path, "rb")


class _StrictTarInfo(tarfile.TarInfo):
    """A header that reports damage, where tarfile takes a damaged header for the end of the archive."""

    @classmethod
    def frombuf(cls, buf: bytes, encoding: str, errors: str) -> "_StrictTarInfo":
        header = super().frombuf(buf, encoding, errors)
        if header.size < 0 or header.type == tarfile.GNUTYPE_SPARSE:
            raise tarfile.ReadError(f"{header.name!r} is a sparse file or of a negative size")
        if header.type in _HEADER_TYPES and header.size > _HEADER_LIMIT_BYTES:
            raise tarfile.ReadError(f"an extended header claims {header.size} bytes")
        return header

    @classmethod
    def fromtarfile(cls, archive: tarfile.TarFile) -> "_StrictTarInfo":
        try:
            return super().fromtarfile(archive)
        except tarfile.EOFHeaderError:
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
    # The Finder writes UTF-8 without the flag that says so, and zipfile then takes it for code page 437.
    # orig_filename, unlike filename, still has what follows a NUL.
    if member.flag_bits & _ZIP_FLAG_UTF8:
        return member.orig_filename
    try:
        return member.orig_filename.encode("cp437").decode("utf-8")
    except UnicodeError:
        return member.orig_filename


class _Members:
    """Judges the members of one archive by name and claimed size, and finds the data set's one root."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._inventory = Inventory(f"the archive {path}")
        self._root: tuple[str, ...] | None = None

    def admit(self, name: str, size_bytes: int, is_folder: bool) -> str | None:
        """Return a member's path relative to the root, or None for a member that is no part of the data set."""
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

    def refuse(self, name: str, what: str, allowed: str) -> NoReturn:
        raise UserError(f"the archive {self._path} has the member {name!r}, which {what}: allowed is {allowed}")

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
            here = f"the folder {'/'.join(self._root)!r}" if self._root else "the top"
            self.refuse(name, f"does not belong to the data set in {here}", "<label>/<clip>.wav below one folder")
