"""Where recordings come from: each source yields the files of one data set in the layout of Speech Commands."""

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
from earmark.dataset.sources.checksum_cache import remembered_sha256
from earmark.dataset.sources.download import download, shown, split_url
from earmark.dataset.sources.source_file import Found, Memory
from earmark.dataset.sources.speech_commands import ARCHIVES, OfficialArchive
from earmark.errors import UserError

STAGING = "inbox-"
"""How the names of folders begin in which what was fetched waits."""
_CHECKSUMS = "checksums.json"


@dataclass(frozen=True)
class Source:
    """A data set that can be read.

    Attributes:
        name: what people call it, without folders of this machine.
        fingerprint: changes when the data set does, the same on every machine; "" for a source whose files are asked
            one by one.
        glance: gives hex digits that change, on this machine, when the data set does; reads no file.
        entries: starts reading; files that the memory given to it knows are not read again.
        is_shared: whether a file has the same version wherever it is asked from, as in a bucket.
        staging: where what is fetched waits until it is stored; the caller removes it then.
    """

    name: str
    fingerprint: str
    glance: Callable[[], str]
    entries: Callable[[Memory], Iterator[Found]]
    is_shared: bool = False
    staging: Path | None = None

    @property
    def signature(self) -> dict[str, str]:
        """What tells this data set, as it is now, from others."""
        return {"name": self.name, "fingerprint": self.fingerprint}


def open_source(source: str, seed: int, speakers: int, downloads: Path) -> Source:
    """Return the data set that ``dataset.source`` names, without reading its recordings yet.

    Args:
        source: "synthetic", the name of a published archive, or the path or URL of a folder or an archive.
        seed: of the synthetic data set; the others do not read it.
        speakers: how many the synthetic data set has; the others do not read it.
        downloads: folder for what is downloaded, and for the checksums of archives.

    Raises:
        UserError: no such source, or a URL that cannot be downloaded.
    """
    if source == "synthetic":
        return _synthetic(seed, speakers)
    if source in ARCHIVES:
        return _official(ARCHIVES[source], downloads)
    names = ", ".join(["synthetic", *ARCHIVES])
    return _from_files(source, downloads) or _refuse("source", source, f"{names}, ")


def open_inbox(inbox: str, known_labels: frozenset[str], downloads: Path) -> Source:
    """Return what ``dataset.inbox`` names, without reading its recordings yet.

    Its name has a slash, which that of no other source has.

    Args:
        inbox: "s3://bucket/prefix", or the path or URL of a folder or an archive.
        known_labels: labels that the data set has; a bucket's are told apart from them.
        downloads: folder for what is downloaded, and for the checksums of archives.

    Raises:
        UserError: no such inbox, or a URL that cannot be downloaded.
    """
    if s3.is_address(inbox):
        staging = downloads / f"{STAGING}{hashlib.sha256(inbox.encode()).hexdigest()[:12]}"
        return Source(
            inbox,
            "",
            partial(s3.glance, inbox),
            partial(_from_bucket, inbox, staging, known_labels),
            is_shared=True,
            staging=staging,
        )
    local = _from_files(inbox, downloads) or _refuse("inbox", inbox, "s3://bucket/prefix, ")
    return replace(local, name=f"inbox/{local.name}")


def _from_bucket(address: str, staging: Path, known_labels: frozenset[str], memory: Memory) -> Iterator[Found]:
    return s3.entries(address, staging, memory, known_labels)


def _from_files(source: str, downloads: Path) -> Source | None:
    if _is_url(source):
        return _from_url(source, downloads)
    path = Path(source)
    if source and path.is_dir():
        return Source(path.resolve().name, "", partial(folder.glance, path), partial(folder.entries, path))
    if path.is_file() and archive.is_archive_name(path.name):
        return _archive(path.name, path, downloads)
    return None


def _synthetic(seed: int, speakers: int) -> Source:
    from earmark.dataset.sources import synthetic

    fingerprint = synthetic.fingerprint(seed, speakers)
    return _known("synthetic", fingerprint, lambda _: starmap(_read, synthetic.entries(seed, speakers)))


def _official(official: OfficialArchive, downloads: Path) -> Source:
    def entries(_: Memory) -> Iterator[Found]:
        path = download(official.url, downloads / f"{official.name}.tar.gz", official.sha256)
        yield from starmap(_read, archive.entries(path))

    return _known(official.name, official.sha256, entries)


def _from_url(url: str, downloads: Path) -> Source | None:
    name = unquote(split_url(url).path).rpartition("/")[2]
    if not archive.is_archive_name(name):
        return None
    return _archive(name, download(url, downloads / _file_name(url, name), sha256=None), downloads)


def _file_name(url: str, name: str) -> str:
    # The hash tells apart archives of one name; it comes first, so that the suffix stays the last part.
    safe = re.sub(r"[^A-Za-z0-9._-]", "_", name)[-100:]
    return f"{hashlib.sha256(url.encode()).hexdigest()[:12]}-{safe}"


def _archive(name: str, path: Path, downloads: Path) -> Source:
    sha256 = remembered_sha256(path, downloads / _CHECKSUMS)
    return _known(name, sha256, lambda _: starmap(_read, archive.entries(path)))


def _known(name: str, fingerprint: str, entries: Callable[[Memory], Iterator[Found]]) -> Source:
    return Source(name, fingerprint, lambda: fingerprint, entries)


def _read(path: str, content: bytes) -> Found:
    return Found(path, content=content)


def _refuse(key: str, address: str, others: str) -> NoReturn:
    is_url = _is_url(address)
    reason = "no archive by its name" if is_url or Path(address).is_file() else "nothing that exists"
    raise UserError(
        f"dataset.{key} is '{shown(address) if is_url else address}', {reason}: allowed are {others}a folder, "
        "or a .tar.gz, .tgz, .tar or .zip archive (path or URL)"
    )


def _is_url(address: str) -> bool:
    return address.lower().startswith(("http://", "https://"))
