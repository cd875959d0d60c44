"""One file from an HTTP server onto the disk: resumed after a break, checked, and there as a whole or not at all."""

import json
import os
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import SplitResult, urlsplit

from earmark.dataset.sources.archive import sha256_of
from earmark.errors import UserError

if TYPE_CHECKING:
    import requests
    from rich.progress import Progress

_TRIES_WITHOUT_PROGRESS = 5
_TIMEOUT_SECONDS = (10.0, 60.0)  # to connect, between two reads
_CHUNK_BYTES = 2**18


def download(url: str, destination: Path, sha256: str | None, *, backoff_seconds: float = 0.5) -> Path:
    """Bring the file at an http or https URL to ``destination`` and return ``destination``.

    Bytes are gathered in "<destination>.part", which a later call resumes where the server says that the file is
    still the same; the destination appears by a rename. Progress is drawn on stderr.

    Args:
        url: where the file lies.
        destination: where it shall lie; a file with the right checksum that is there already is returned as it is.
        sha256: 64 hex digits that the file must have, or None where they are not known.
        backoff_seconds: the first wait between two tries, doubled by each try in a row that brings nothing new.

    Raises:
        UserError: another scheme; the server refuses, or brings nothing new in 5 tries in a row; another checksum, in
            which case the file is removed; or a disk that cannot be written.
    """
    if split_url(url).scheme not in ("http", "https"):
        raise UserError(f"the URL {shown(url)} cannot be downloaded: allowed are http and https")
    if destination.is_file() and (sha256 is None or sha256_of(destination) == sha256.lower()):
        return destination
    partial = _Partial(destination)
    try:
        destination.parent.mkdir(parents=True, exist_ok=True)
        _gather(url, partial, backoff_seconds)
        _check(url, partial, sha256)
        partial.finish(destination)
    except OSError as error:
        raise UserError(f"{destination} cannot be written ({error.strerror}): needed is a place with room") from error
    return destination


def split_url(url: str) -> SplitResult:
    """Return the parts of a URL.

    Raises:
        UserError: the text is no URL.
    """
    try:
        return urlsplit(url)
    except ValueError as error:
        raise UserError(f"{url!r} is no URL ({error}): allowed is http(s)://<host>/<path>") from error


def shown(url: str) -> str:
    """Return a URL without what may be secret in it: the user, the password and the query."""
    parts = split_url(url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2], query="", fragment="").geturl()


class _Partial:
    """The bytes gathered so far, and what the server called the version that they are of."""

    def __init__(self, destination: Path) -> None:
        self.path = destination.with_name(destination.name + ".part")
        self._sidecar = destination.with_name(destination.name + ".part.json")

    def size_bytes(self) -> int:
        return self.path.stat().st_size if self.path.is_file() else 0

    def validator(self, url: str) -> str | None:
        """Return what If-Range must name so that the gathered bytes can be continued, or None to start afresh."""
        try:
            noted = json.loads(self._sidecar.read_text(encoding="utf-8"))
        except (FileNotFoundError, ValueError):
            return None
        if not isinstance(noted, dict) or noted.get("url") != url or self.size_bytes() == 0:
            return None
        validator = noted.get("validator")
        return validator if isinstance(validator, str) else None

    def start(self, url: str, validator: str | None) -> None:
        """Forget the gathered bytes before those of another version arrive."""
        self.path.write_bytes(b"")
        self._sidecar.write_text(json.dumps({"url": url, "validator": validator}), encoding="utf-8")

    def remove(self) -> None:
        self.path.unlink(missing_ok=True)
        self._sidecar.unlink(missing_ok=True)

    def finish(self, destination: Path) -> None:
        """Give the gathered bytes their name once they are safely on the disk."""
        with self.path.open("rb") as file:
            os.fsync(file.fileno())
        self.path.replace(destination)
        self._sidecar.unlink(missing_ok=True)
        folder = os.open(destination.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def _gather(url: str, partial: _Partial, backoff_seconds: float) -> None:
    largest_bytes, idle_tries = partial.size_bytes(), 0
    with _progress() as progress:
        while (failure := _receive(url, partial, progress)) is not None:
            idle_tries = 0 if partial.size_bytes() > largest_bytes else idle_tries + 1
            largest_bytes = max(largest_bytes, partial.size_bytes())
            if idle_tries >= _TRIES_WITHOUT_PROGRESS:
                raise UserError(
                    f"{shown(url)} brought nothing new in {idle_tries} tries in a row ({failure}): "
                    "needed is a server that answers, and what has arrived is kept for the next call"
                )
            time.sleep(backoff_seconds * 2**idle_tries)


@contextmanager
def _progress() -> Iterator["Progress"]:
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

    columns = (BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
    with Progress(TextColumn("{task.description}", markup=False), *columns, console=Console(stderr=True)) as progress:
        yield progress


def _receive(url: str, partial: _Partial, progress: "Progress") -> str | None:
    """Add what one request brings; return None when the file is whole, else why to try again."""
    import requests
    import urllib3

    try:
        with requests.get(url, headers=_headers(url, partial), stream=True, timeout=_TIMEOUT_SECONDS) as response:
            return _take(response, url, partial, progress)
    except urllib3.exceptions.HTTPError as error:  # in the middle of a body
        return str(error)
    except requests.RequestException as error:
        # The error's own text has the whole URL, with what is secret in it; its inner reason has the host alone.
        reason = getattr(error.args[0] if error.args else None, "reason", None) or type(error).__name__
        passing = isinstance(error, requests.ConnectionError | requests.Timeout)
        if passing and not isinstance(error, requests.exceptions.SSLError):
            return str(reason)
        raise UserError(f"{shown(url)} cannot be reached ({reason}): needed is a URL that opens") from error


def _headers(url: str, partial: _Partial) -> dict[str, str]:
    # "identity": a server may otherwise unpack a .gz, or pack it once more, on its way.
    headers = {"Accept-Encoding": "identity"}
    if (validator := partial.validator(url)) is not None:
        headers |= {"Range": f"bytes={partial.size_bytes()}-", "If-Range": validator}
    return headers


def _take(response: "requests.Response", url: str, partial: _Partial, progress: "Progress") -> str | None:
    status = f"{response.status_code} {response.reason}"
    if response.status_code >= 500:
        return status
    if response.status_code == 416:  # the part has as many bytes as the file, or more
        partial.remove()
        return status
    if response.status_code not in (200, 206):
        raise UserError(f"{shown(url)} answers {status}: needed is a URL of a file")
    span = _span(response)
    if response.status_code == 200:
        partial.start(url, _strong_validator(response))
    elif span.first != partial.size_bytes():
        partial.remove()
        return "the server sent another part than asked for"
    _append(response, partial, span, progress)
    missing = span.total is not None and partial.size_bytes() != span.total
    return f"{partial.size_bytes()} of {span.total} bytes" if missing else None


@dataclass(frozen=True)
class _Span:
    """The first byte of an answer within the file, and the size of the file in bytes where the server tells it."""

    first: int
    total: int | None


def _span(response: "requests.Response") -> _Span:
    if response.status_code == 200:
        length = response.headers.get("Content-Length", "")
        return _Span(0, int(length) if length.isascii() and length.isdigit() else None)
    match = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", response.headers.get("Content-Range", ""))
    if match is None:
        return _Span(-1, None)
    return _Span(int(match[1]), None if match[2] == "*" else int(match[2]))


def _strong_validator(response: "requests.Response") -> str | None:
    etag = response.headers.get("ETag")
    if etag is not None and not etag.startswith("W/"):
        return etag
    return response.headers.get("Last-Modified")


def _append(response: "requests.Response", partial: _Partial, span: _Span, progress: "Progress") -> None:
    task = progress.task_ids[0] if progress.task_ids else progress.add_task(partial.path.stem)
    progress.update(task, total=span.total, completed=span.first)
    with partial.path.open("ab") as file:
        for chunk in response.raw.stream(_CHUNK_BYTES, decode_content=False):
            file.write(chunk)
            progress.advance(task, len(chunk))


def _check(url: str, partial: _Partial, sha256: str | None) -> None:
    if sha256 is None:
        return
    found = sha256_of(partial.path)
    if found != sha256.lower():
        partial.remove()
        raise UserError(f"{shown(url)} has the SHA-256 {found}, and expected is {sha256}: the file was removed")
