"""Downloads against a real server that breaks off, refuses, and changes its file."""

import hashlib
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from earmark.addresses import redact_url
from earmark.dataset.sources.download import download
from earmark.errors import UserError

CONTENT = bytes(range(256)) * 4096
OTHER = CONTENT[::-1] + b"more"


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


class Server(ThreadingHTTPServer):
    """Serves one file, notes the requests, takes one of ``breaks`` and ``statuses`` a request, then ``changes``."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.content = CONTENT
        self.etag: str | None = '"first"'
        self.last_modified: str | None = None
        self.breaks: list[int] = []
        self.statuses: list[int] = []
        self.changes: list[tuple[bytes, str | None]] = []
        self.knows_ranges = True
        self.tells_length = True
        self.requests: list[dict[str, str]] = []
        self.sent_bytes = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/speech.tar.gz"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        self.server.requests.append(dict(self.headers))
        if self.server.statuses and (status := self.server.statuses.pop(0)) != 200:
            self.send_error(status)
            return
        first = self._first_byte()
        body = self.server.content[first:]
        self._head(first, len(body))
        stop = self.server.breaks.pop(0) if self.server.breaks else len(body)
        self.wfile.write(body[:stop])
        self.server.sent_bytes += len(body[:stop])
        if self.server.changes:
            self.server.content, self.server.etag = self.server.changes.pop(0)
        self.close_connection = True

    def _first_byte(self) -> int:
        byte_range = self.headers.get("Range")
        current = self.headers.get("If-Range") in (self.server.etag, self.server.last_modified)
        if not self.server.knows_ranges or byte_range is None or not current:
            return 0
        return int(byte_range.removeprefix("bytes=").removesuffix("-"))

    def _head(self, first: int, length: int) -> None:
        size = len(self.server.content)
        self.send_response(206 if first else 200)
        if first:
            self.send_header("Content-Range", f"bytes {first}-{size - 1}/{size}")
        if self.server.tells_length:
            self.send_header("Content-Length", str(length))
        if self.server.etag is not None:
            self.send_header("ETag", self.server.etag)
        if self.server.last_modified is not None:
            self.send_header("Last-Modified", self.server.last_modified)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with Server() as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield running
        running.shutdown()
        thread.join()


@pytest.fixture
def destination(tmp_path: Path) -> Path:
    return tmp_path / "downloads" / "speech.tar.gz"


def fetch(server: Server, destination: Path, content: bytes | None = CONTENT) -> Path:
    return download(server.url, destination, sha256(content) if content else None, backoff_seconds=0.0)


def names(destination: Path) -> list[str]:
    return sorted(path.name for path in destination.parent.iterdir())


def break_off(server: Server, destination: Path, after_bytes: int) -> None:
    """Leave what an ended process leaves: the first bytes in the .part, and the version beside it."""
    server.breaks = [after_bytes] + [0] * 5
    with pytest.raises(UserError, match="sent no new bytes in 5 tries in a row"):
        fetch(server, destination)
    assert destination.with_name("speech.tar.gz.part").stat().st_size == after_bytes
    server.requests.clear()
    server.sent_bytes = 0


def test_a_file_arrives_whole_and_alone(server, destination):
    assert fetch(server, destination) == destination
    assert destination.read_bytes() == CONTENT
    assert names(destination) == ["speech.tar.gz"]


def test_progress_is_on_stderr_and_stdout_stays_clean(server, destination, capsys):
    fetch(server, destination)
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "speech.tar.gz" in captured.err


def test_a_file_that_is_there_needs_no_network(destination):
    destination.parent.mkdir()
    destination.write_bytes(CONTENT)
    nowhere = "http://127.0.0.1:9/speech.tar.gz"
    assert download(nowhere, destination, sha256(CONTENT)) == destination
    assert download(nowhere, destination, sha256(CONTENT).upper()) == destination
    assert download(nowhere, destination, None) == destination


def test_a_file_with_another_checksum_is_replaced(server, destination):
    destination.parent.mkdir()
    destination.write_bytes(b"damaged")
    fetch(server, destination)
    assert destination.read_bytes() == CONTENT


def test_a_connection_that_breaks_is_continued_where_it_broke(server, destination):
    server.breaks = [1000, 2000, 100_000]
    fetch(server, destination)
    assert destination.read_bytes() == CONTENT
    assert [request.get("Range") for request in server.requests] == [
        None,
        "bytes=1000-",
        "bytes=3000-",
        "bytes=103000-",
    ]
    assert server.sent_bytes == len(CONTENT)


def test_many_breaks_are_borne_while_each_brings_something(server, destination):
    server.breaks = [50_000] * 20
    fetch(server, destination)
    assert destination.read_bytes() == CONTENT


def test_a_later_call_resumes(server, destination):
    break_off(server, destination, 300_000)
    fetch(server, destination)
    assert destination.read_bytes() == CONTENT
    assert server.requests[0]["Range"] == "bytes=300000-"
    assert server.requests[0]["If-Range"] == '"first"'
    assert server.sent_bytes == len(CONTENT) - 300_000
    assert names(destination) == ["speech.tar.gz"]


def test_without_a_strong_etag_the_date_tells_the_version(server, destination):
    server.etag, server.last_modified = 'W/"weak"', "Tue, 01 Aug 2017 00:00:00 GMT"
    break_off(server, destination, 300_000)
    fetch(server, destination)
    assert server.requests[0]["If-Range"] == server.last_modified
    assert destination.read_bytes() == CONTENT


def test_a_file_that_changed_is_never_spliced(server, destination):
    break_off(server, destination, 300_000)
    server.content, server.etag = OTHER, '"second"'
    fetch(server, destination, content=None)
    assert destination.read_bytes() == OTHER


@pytest.mark.parametrize(("before", "after"), [('"first"', '"second"'), (None, None), ('W/"weak"', 'W/"weak"')])
def test_a_file_that_changes_when_the_connection_breaks_is_never_spliced(server, destination, before, after):
    server.etag, server.breaks, server.changes = before, [300_000], [(OTHER, after)]
    fetch(server, destination, content=None)
    assert destination.read_bytes() == OTHER
    assert len(server.requests) == 2


@pytest.mark.parametrize("sidecar", [None, "", "{", "[]", '{"url": 1}', '{"url": "http://other/", "validator": "x"}'])
def test_gathered_bytes_of_an_unknown_version_are_dropped(server, destination, sidecar):
    destination.parent.mkdir()
    destination.with_name("speech.tar.gz.part").write_bytes(b"of something else")
    if sidecar is not None:
        destination.with_name("speech.tar.gz.part.json").write_text(sidecar)
    fetch(server, destination, content=None)
    assert "Range" not in server.requests[0]
    assert destination.read_bytes() == CONTENT
    assert names(destination) == ["speech.tar.gz"]


def test_a_server_without_ranges_is_asked_for_the_whole_again(server, destination):
    server.knows_ranges = False
    server.breaks = [1000, 500_000]
    fetch(server, destination)
    assert destination.read_bytes() == CONTENT


def test_a_part_that_the_server_says_is_too_long_is_dropped(server, destination):
    break_off(server, destination, 300_000)
    server.statuses = [416]
    fetch(server, destination)
    assert destination.read_bytes() == CONTENT


def test_a_file_of_untold_length_is_taken(server, destination):
    server.tells_length = False
    fetch(server, destination)
    assert destination.read_bytes() == CONTENT


def test_an_empty_file_is_a_file(server, destination):
    server.content = b""
    fetch(server, destination, content=None)
    assert destination.read_bytes() == b""


@pytest.mark.parametrize("status", [500, 502, 503, 504, 520])
def test_a_server_error_that_passes_is_borne(server, destination, status):
    server.statuses = [status, status]
    fetch(server, destination)
    assert destination.read_bytes() == CONTENT


def test_a_server_error_that_stays_is_reported(server, destination):
    server.statuses = [503] * 6
    with pytest.raises(UserError, match=r"speech\.tar\.gz sent no new bytes in 5 tries .*503 Service Unavailable"):
        fetch(server, destination)
    assert len(server.requests) == 5


@pytest.mark.parametrize("status", [401, 403, 404, 410])
def test_a_refusal_is_reported_at_once(server, destination, status):
    server.statuses = [status]
    with pytest.raises(UserError, match=rf"http://127\.0\.0\.1:\d+/speech\.tar\.gz answers {status} "):
        fetch(server, destination)
    assert len(server.requests) == 1
    assert not destination.exists()


def test_another_checksum_is_reported_and_nothing_stays(server, destination):
    expected = sha256(OTHER)
    with pytest.raises(UserError) as caught:
        fetch(server, destination, content=OTHER)
    for part in (server.url, expected, sha256(CONTENT)):
        assert part in str(caught.value)
    assert names(destination) == []


def test_a_server_that_is_not_there_is_reported(destination):
    with socket.socket() as bound:  # bound, never listening: its port refuses
        bound.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{bound.getsockname()[1]}/speech.tar.gz?token=secret"
        with pytest.raises(UserError, match=r"speech\.tar\.gz sent no new bytes .*refused") as caught:
            download(url, destination, None, backoff_seconds=0.0)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    "url", ["ftp://host/a.zip", "file:///etc/passwd", "a.zip", "//host/a.zip", "http://[::1/a.zip"]
)
def test_only_http_and_https_are_downloaded(url, destination):
    with pytest.raises(UserError, match="expected http"):
        download(url, destination, None)
    assert not destination.parent.exists()


def test_a_place_that_cannot_be_written_is_reported(server, tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(UserError, match="cannot be written"):
        fetch(server, tmp_path / "file" / "speech.tar.gz")


def test_a_url_is_shown_without_its_secrets():
    assert redact_url("https://user:word@host:8/a/b.zip?signature=1#x") == "https://host:8/a/b.zip"
