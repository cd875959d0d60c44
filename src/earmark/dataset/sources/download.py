"""Downloads a file over HTTP: resumes after a broken connection, checks the SHA-256, writes atomically."""

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

from earmark.addresses import redact_url
from earmark.dataset.sources.archive import sha256_of
from earmark.errors import UserError

if TYPE_CHECKING:
    import requests
    from rich.progress import Progress

_TRIES_WITHOUT_PROGRESS = 5
_TIMEOUT_SECONDS = (10.0, 60.0)  # to connect, between two reads
_CHUNK_BYTES = 2**18


def download(url: str, destination: Path, sha256: str | None, *, backoff_seconds: float = 0.5) -> Path:
    """Download the file at an http or https URL to ``destination`` and return ``destination``.

    Bytes are collected in "<destination>.part", which a later call resumes if the server says that the file has not
    changed. The destination appears by a rename. Progress is shown on stderr.

    Args:
        url: address of the file.
        destination: path for the file; an existing file with the right checksum is kept.
        sha256: the expected checksum as 64 hex digits, or None if it is unknown.
        backoff_seconds: first wait between two tries, doubled by each try in a row that brings no new bytes.

    Raises:
        UserError: the scheme is another one; the server refuses, or sends no new bytes in 5 tries in a row; the
            checksum differs, in which case the file is removed; or the disk cannot be written.
    """
    if split_url(url).scheme not in ("http", "https"):
        raise UserError(f"the URL {redact_url(url)} cannot be downloaded; expected http or https")
    if destination.is_file() and (sha256 is None or sha256_of(destination) == sha256.lower()):
        return destination
    partial = _Partial(destination)
    try:
        destination.parent.mkdir(parents=True, exist_ok=True)
        _fetch(url, partial, backoff_seconds)
        _check(url, partial, sha256)
        partial.finish(destination)
    except OSError as error:
        raise UserError(f"{destination} cannot be written ({error.strerror}); expected a folder with space") from error
    return destination


def split_url(url: str) -> SplitResult:
    """Return the parts of a URL.

    Raises:
        UserError: the text is not a URL.
    """
    try:
        return urlsplit(url)
    except ValueError as error:
        raise UserError(f"{url!r} is not a URL ({error}); expected http(s)://<host>/<path>") from error


class _Partial:
    """The bytes received so far, and the server's validator (ETag or date) of the version that they belong to."""

    def __init__(self, destination: Path) -> None:
        self.path = destination.with_name(destination.name + ".part")
        self._sidecar = destination.with_name(destination.name + ".part.json")

    def size_bytes(self) -> int:
        return self.path.stat().st_size if self.path.is_file() else 0

    def validator(self, url: str) -> str | None:
        """Return the value of If-Range with which the download can be resumed, or None to start again."""
        try:
            sidecar = json.loads(self._sidecar.read_text(encoding="utf-8"))
        except (FileNotFoundError, ValueError):
            return None
        if not isinstance(sidecar, dict) or sidecar.get("url") != url or self.size_bytes() == 0:
            return None
        validator = sidecar.get("validator")
        return validator if isinstance(validator, str) else None

    def start(self, url: str, validator: str | None) -> None:
        """Discard the bytes received so far before those of another version arrive."""
        self.path.write_bytes(b"")
        self._sidecar.write_text(json.dumps({"url": url, "validator": validator}), encoding="utf-8")

    def remove(self) -> None:
        self.path.unlink(missing_ok=True)
        self._sidecar.unlink(missing_ok=True)

    def finish(self, destination: Path) -> None:
        """Sync the file and rename it to its destination."""
        with self.path.open("rb") as file:
            os.fsync(file.fileno())
        self.path.replace(destination)
        self._sidecar.unlink(missing_ok=True)
        folder = os.open(destination.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def _fetch(url: str, partial: _Partial, backoff_seconds: float) -> None:
    largest_bytes, idle_tries = partial.size_bytes(), 0
    with _progress() as progress:
        while (failure := _receive(url, partial, progress)) is not None:
            idle_tries = 0 if partial.size_bytes() > largest_bytes else idle_tries + 1
            largest_bytes = max(largest_bytes, partial.size_bytes())
            if idle_tries >= _TRIES_WITHOUT_PROGRESS:
                raise UserError(
                    f"{redact_url(url)} sent no new bytes in {idle_tries} tries in a row ({failure}); "
                    "run the command again to resume when the server answers"
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
    """Append the bytes of one request; return None when the file is complete, else the reason to try again."""
    import requests
    import urllib3

    try:
        with requests.get(url, headers=_headers(url, partial), stream=True, timeout=_TIMEOUT_SECONDS) as response:
            return _receive_body(response, url, partial, progress)
    except urllib3.exceptions.HTTPError as error:  # in the middle of a body
        return str(error)
    except requests.RequestException as error:
        # The text of the error has the whole URL with its secrets; the inner reason has only the host.
        reason = getattr(error.args[0] if error.args else None, "reason", None) or type(error).__name__
        is_transient = isinstance(error, requests.ConnectionError | requests.Timeout)
        if is_transient and not isinstance(error, requests.exceptions.SSLError):
            return str(reason)
        raise UserError(f"{redact_url(url)} cannot be reached ({reason}); expected a URL that opens") from error


def _headers(url: str, partial: _Partial) -> dict[str, str]:
    # "identity": otherwise a server may decompress a .gz file, or compress it again.
    headers = {"Accept-Encoding": "identity"}
    if (validator := partial.validator(url)) is not None:
        headers |= {"Range": f"bytes={partial.size_bytes()}-", "If-Range": validator}
    return headers


def _receive_body(response: "requests.Response", url: str, partial: _Partial, progress: "Progress") -> str | None:
    status = f"{response.status_code} {response.reason}"
    if response.status_code >= 500:
        return status
    if response.status_code == 416:  # the partial file has as many bytes as the file, or more
        partial.remove()
        return status
    if response.status_code not in (200, 206):
        raise UserError(f"{redact_url(url)} answers {status}; expected the URL of a file")
    span = _span(response)
    if response.status_code == 200:
        partial.start(url, _strong_validator(response))
    elif span.first != partial.size_bytes():
        partial.remove()
        return "the server sent another range than requested"
    _append(response, partial, span, progress)
    missing = span.total is not None and partial.size_bytes() != span.total
    return f"{partial.size_bytes()} of {span.total} bytes" if missing else None


@dataclass(frozen=True)
class _Span:
    """Position in the file of a response's first byte, and the size of the file in bytes if the server sends it."""

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
    actual = sha256_of(partial.path)
    if actual != sha256.lower():
        partial.remove()
        raise UserError(f"{redact_url(url)} has the SHA-256 {actual}; expected {sha256}: the file was removed")
