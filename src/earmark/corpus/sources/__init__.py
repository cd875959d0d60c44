"""Where recordings come from: each source yields the files of one data set in the layout of Speech Commands."""

import hashlib
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NoReturn
from urllib.parse import unquote

from earmark.corpus.sources import archive, folder
from earmark.corpus.sources.checksum_memory import remembered_sha256
from earmark.corpus.sources.download import download, shown, split_url
from earmark.corpus.sources.official import ARCHIVES, OfficialArchive
from earmark.errors import UserError

Entries = Iterator[tuple[str, bytes]]

_CHECKSUMS = "checksums.json"


@dataclass(frozen=True)
class Source:
    """A data set that can be read.

    Attributes:
        name: what people call it, without folders of this machine.
        fingerprint: hex digits that change when the data set does.
        entries: starts reading; yields (POSIX path relative to the data set's root, file bytes).
    """

    name: str
    fingerprint: str
    entries: Callable[[], Entries]


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
    if source.lower().startswith(("http://", "https://")):
        return _from_url(source, downloads)
    path = Path(source)
    if source and path.is_dir():
        return Source(path.resolve().name, folder.fingerprint(path), partial(folder.entries, path))
    if path.is_file() and archive.is_archive_name(path.name):
        return _archive(path.name, path, downloads)
    _refuse(source, "no archive by its name" if path.is_file() else "nothing that exists")


def _synthetic(seed: int, speakers: int) -> Source:
    from earmark.corpus.sources import synthetic

    return Source("synthetic", synthetic.fingerprint(seed, speakers), partial(synthetic.entries, seed, speakers))


def _official(official: OfficialArchive, downloads: Path) -> Source:
    def entries() -> Entries:
        yield from archive.entries(download(official.url, downloads / f"{official.name}.tar.gz", official.sha256))

    return Source(official.name, official.sha256, entries)


def _from_url(url: str, downloads: Path) -> Source:
    name = unquote(split_url(url).path).rpartition("/")[2]
    if not archive.is_archive_name(name):
        _refuse(shown(url), "no archive by its name")
    return _archive(name, download(url, downloads / _file_name(url, name), sha256=None), downloads)


def _file_name(url: str, name: str) -> str:
    # The hash tells apart archives of one name; it comes first, so that the suffix stays the last part.
    safe = re.sub(r"[^A-Za-z0-9._-]", "_", name)[-100:]
    return f"{hashlib.sha256(url.encode()).hexdigest()[:12]}-{safe}"


def _archive(name: str, path: Path, downloads: Path) -> Source:
    return Source(name, remembered_sha256(path, downloads / _CHECKSUMS), partial(archive.entries, path))


def _refuse(source: str, reason: str) -> NoReturn:
    names = ", ".join(["synthetic", *ARCHIVES])
    raise UserError(
        f"dataset.source is '{source}', {reason}: allowed are {names}, a folder, "
        "or a .tar.gz, .tgz, .tar or .zip archive (path or URL)"
    )
