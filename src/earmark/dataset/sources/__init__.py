"""Sources of recordings: each yields the files of one data set in the layout of Speech Commands."""

import hashlib
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from itertools import starmap
from pathlib import Path
from typing import NoReturn
from urllib.parse import unquote

from earmark.dataset.sources import archive, folder, s3
from earmark.dataset.sources.checksum_cache import cached_sha256
from earmark.dataset.sources.download import download, redact_url, split_url
from earmark.dataset.sources.source_file import Memory, SourceFile
from earmark.dataset.sources.speech_commands import ARCHIVES, OfficialArchive
from earmark.errors import UserError

STAGING = "inbox-"
"""Prefix of the folders to which objects of a bucket are fetched."""
_CHECKSUMS = "checksums.json"


@dataclass(frozen=True)
class Source:
    """A data set that can be read.

    Attributes:
        name: a name for people, without folders of this machine.
        fingerprint: changes when the data set does, and is the same on every machine; "" for a source whose files
            must be checked one by one.
        local_fingerprint: returns hex digits that change, on this machine, when the data set does; reads no file.
        entries: yields the files; does not read those whose version is in the memory passed to it.
        is_shared: whether the version of a file is the same on every machine, as in a bucket.
        staging: the folder to which files are fetched; the caller removes it after storing them.
    """

    name: str
    fingerprint: str
    local_fingerprint: Callable[[], str]
    entries: Callable[[Memory], Iterator[SourceFile]]
    is_shared: bool = False
    staging: Path | None = None

    @property
    def signature(self) -> dict[str, str]:
        """Identifies this version of the data set."""
        return {"name": self.name, "fingerprint": self.fingerprint}


def open_source(source: str, seed: int, speakers: int, downloads: Path) -> Source:
    """Return the data set that ``dataset.source`` names, without reading its recordings yet.

    Args:
        source: "synthetic", the name of a published archive, the path of a folder, or the path or URL of an archive.
        seed: used by the synthetic data set only.
        speakers: number of speakers; used by the synthetic data set only.
        downloads: folder for downloads and for the checksums of archives.

    Raises:
        UserError: there is no such source, or its URL cannot be downloaded.
    """
    if source == "synthetic":
        return _synthetic(seed, speakers)
    if source in ARCHIVES:
        return _official(ARCHIVES[source], downloads)
    names = ", ".join(["synthetic", *ARCHIVES])
    return _from_files(source, downloads) or _refuse("source", source, f"{names}, ")


def open_inbox(inbox: str, existing_labels: frozenset[str], downloads: Path) -> Source:
    """Return the data set that ``dataset.inbox`` names, without reading its recordings yet.

    Its name contains a slash; that of no other source does.

    Args:
        inbox: "s3://bucket/prefix", the path of a folder, or the path or URL of an archive.
        existing_labels: labels of the data set; labels of a bucket that resemble them are refused.
        downloads: folder for downloads and for the checksums of archives.

    Raises:
        UserError: there is no such inbox, or its URL cannot be downloaded.
    """
    if s3.is_address(inbox):
        staging = downloads / f"{STAGING}{hashlib.sha256(inbox.encode()).hexdigest()[:12]}"
        return Source(
            inbox,
            "",
            partial(s3.local_fingerprint, inbox),
            partial(_from_bucket, inbox, staging, existing_labels),
            is_shared=True,
            staging=staging,
        )
    local = _from_files(inbox, downloads) or _refuse("inbox", inbox, "s3://bucket/prefix, ")
    return replace(local, name=f"inbox/{local.name}")


def _from_bucket(address: str, staging: Path, existing_labels: frozenset[str], memory: Memory) -> Iterator[SourceFile]:
    return s3.entries(address, staging, memory, existing_labels)


def _from_files(source: str, downloads: Path) -> Source | None:
    if _is_url(source):
        return _from_url(source, downloads)
    path = Path(source)
    if source and path.is_dir():
        return Source(path.resolve().name, "", partial(folder.local_fingerprint, path), partial(folder.entries, path))
    if path.is_file() and archive.is_archive_name(path.name):
        return _archive(path.name, path, downloads)
    return None


def _synthetic(seed: int, speakers: int) -> Source:
    from earmark.dataset.sources import synthetic

    fingerprint = synthetic.fingerprint(seed, speakers)
    return _fixed("synthetic", fingerprint, lambda _: starmap(_source_file, synthetic.entries(seed, speakers)))


def _official(official: OfficialArchive, downloads: Path) -> Source:
    def entries(_: Memory) -> Iterator[SourceFile]:
        path = download(official.url, downloads / f"{official.name}.tar.gz", official.sha256)
        yield from starmap(_source_file, archive.entries(path))

    return _fixed(official.name, official.sha256, entries)


def _from_url(url: str, downloads: Path) -> Source | None:
    name = unquote(split_url(url).path).rpartition("/")[2]
    if not archive.is_archive_name(name):
        return None
    return _archive(name, download(url, downloads / _file_name(url, name), sha256=None), downloads)


def _file_name(url: str, name: str) -> str:
    # The hash distinguishes archives of one name; it comes first so that the suffix stays at the end.
    safe = re.sub(r"[^A-Za-z0-9._-]", "_", name)[-100:]
    return f"{hashlib.sha256(url.encode()).hexdigest()[:12]}-{safe}"


def _archive(name: str, path: Path, downloads: Path) -> Source:
    sha256 = cached_sha256(path, downloads / _CHECKSUMS)
    return _fixed(name, sha256, lambda _: starmap(_source_file, archive.entries(path)))


def _fixed(name: str, fingerprint: str, entries: Callable[[Memory], Iterator[SourceFile]]) -> Source:
    """A source that is identified by one fingerprint for all its files."""
    return Source(name, fingerprint, lambda: fingerprint, entries)


def _source_file(path: str, content: bytes) -> SourceFile:
    return SourceFile(path, content=content)


def _refuse(key: str, address: str, others: str) -> NoReturn:
    is_url = _is_url(address)
    reason = "is not an archive by its name" if is_url or Path(address).is_file() else "does not exist"
    raise UserError(
        f"dataset.{key} is '{redact_url(address) if is_url else address}', which {reason}; expected {others}a folder, "
        "or a .tar.gz, .tgz, .tar or .zip archive (path or URL)"
    )


def _is_url(address: str) -> bool:
    return address.lower().startswith(("http://", "https://"))
