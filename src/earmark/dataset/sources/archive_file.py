"""An archive as a source: a file, or a URL from which it is downloaded once."""

import hashlib
import re
from functools import partial
from pathlib import Path
from urllib.parse import unquote

from earmark.addresses import is_url
from earmark.dataset.sources import archive
from earmark.dataset.sources.checksum_cache import cached_sha256
from earmark.dataset.sources.download import download, split_url
from earmark.dataset.sources.source import Context, Source, fixed_source

_CHECKSUMS = "checksums.json"


def open_source(address: str, context: Context) -> Source | None:
    """Return the archive at a path or URL; None if there is none by its name.

    Raises:
        UserError: the URL cannot be downloaded.
    """
    url = is_url(address)
    name = unquote(split_url(address).path).rpartition("/")[2] if url else Path(address).name
    if not archive.is_archive_name(name) or not (url or Path(address).is_file()):
        return None
    path = _downloaded(address, name, context.downloads) if url else Path(address)
    sha256 = cached_sha256(path, context.downloads / _CHECKSUMS)
    return fixed_source(name, sha256, partial(archive.entries, path))


def _downloaded(url: str, name: str, downloads: Path) -> Path:
    # The hash distinguishes archives of one name; it comes first so that the suffix stays at the end.
    safe = re.sub(r"[^A-Za-z0-9._-]", "_", name)[-100:]
    return download(url, downloads / f"{hashlib.sha256(url.encode()).hexdigest()[:12]}-{safe}", sha256=None)
