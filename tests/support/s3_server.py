"""An S3 server for tests, and an HTTP proxy in front of it that counts, holds and spoils requests."""

import http.client
import logging
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

_HOP_BY_HOP = {"connection", "keep-alive", "transfer-encoding", "content-length", "date", "server"}
_BUSY = b"<Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>"
_DENIED = b"<Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>"
_ERRORS = {"busy": (503, _BUSY), "denied": (403, _DENIED)}


@contextmanager
def serving() -> Iterator[int]:
    """A server of moto on a free port of 127.0.0.1; its port."""
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.CRITICAL)
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    try:
        yield server.get_host_and_port()[1]
    finally:
        server.stop()


class Proxy(ThreadingHTTPServer):
    """Forwards requests to a server on 127.0.0.1.

    Attributes:
        gets: keys of the objects asked for with GET, each time.
        requests: how often each "<method> <path and query>" was asked for.
        faults: how often each fault befell a request.
        on_get: called with the key of an object before its GET is forwarded.
        fault: what befalls the n-th request (from 0) of a "<method> <path and query>": "drop" the connection, "stall"
            until the end, "truncate" the body, "shorten" it together with its Content-Length, be "busy" (503), be
            "denied" (403), or "" for nothing.
    """

    daemon_threads = True
    request_queue_size = 64

    def __init__(self, upstream_port: int) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.upstream_port = upstream_port
        self.ended = threading.Event()
        self.gets: list[str] = []
        self.requests: Counter[str] = Counter()
        self.faults: Counter[str] = Counter()
        self.on_get: Callable[[str], object] = lambda _: None
        self.fault: Callable[[str, int], str] = lambda *_: ""
        self._lock = threading.Lock()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def account(self, method: str, path: str) -> str:
        """Counts a request; what befalls it."""
        request = f"{method} {path}"
        with self._lock:
            fault = self.fault(request, self.requests[request])
            self.requests[request] += 1
            self.faults[fault] += 1
            key = _object_key(path)
            if method == "GET" and key:
                self.gets.append(key)
        return fault

    def handle_error(self, *_: object) -> None:
        """Says nothing of clients that were killed."""


def _object_key(path: str) -> str:
    return unquote(urlsplit(path).path.removeprefix("/").partition("/")[2])


class _Handler(BaseHTTPRequestHandler):
    server: Proxy
    protocol_version = "HTTP/1.1"

    def _forward(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        fault = self.server.account(self.command, self.path)
        if fault in _ERRORS:
            self._answer(_ERRORS[fault][0], [("Content-Type", "application/xml")], _ERRORS[fault][1])
            return
        if fault in ("drop", "stall"):
            if fault == "stall":
                self.server.ended.wait()
            self.close_connection = True
            return
        if self.command == "GET" and _object_key(self.path):
            self.server.on_get(_object_key(self.path))
        status, headers, content = self._ask(body)
        if fault == "shorten":
            content = content[: len(content) // 2]
        self._answer(status, headers, content, is_cut=fault == "truncate")

    def _ask(self, body: bytes) -> tuple[int, list[tuple[str, str]], bytes]:
        upstream = http.client.HTTPConnection("127.0.0.1", self.server.upstream_port)
        try:
            upstream.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
            for name, value in self.headers.items():
                if name.lower() != "expect":
                    upstream.putheader(name, value)
            upstream.endheaders(body)
            response = upstream.getresponse()
            self._length = response.headers.get("Content-Length", "0")
            headers = [(name, value) for name, value in response.getheaders() if name.lower() not in _HOP_BY_HOP]
            return response.status, headers, response.read()
        finally:
            upstream.close()

    def _answer(self, status: int, headers: list[tuple[str, str]], body: bytes, is_cut: bool = False) -> None:
        self.send_response(status)
        for name, value in headers:
            self.send_header(name, value)
        self.send_header("Content-Length", self._length if self.command == "HEAD" and status == 200 else str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body[: len(body) // 2] if is_cut else body)
        self.close_connection |= is_cut

    def log_message(self, *_: object) -> None:
        pass

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = _forward


@contextmanager
def proxying(upstream_port: int) -> Iterator[Proxy]:
    """A proxy on a free port of 127.0.0.1."""
    with Proxy(upstream_port) as proxy:
        thread = threading.Thread(target=proxy.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield proxy
        finally:
            proxy.ended.set()
            proxy.shutdown()
            thread.join()


def use(endpoint: str, monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    """Sets the AWS settings of the environment to a server of tests, whatever this machine's are; an empty settings
    file is left in `folder`."""
    empty = folder / "no-aws-settings"
    empty.touch()
    settings = {
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "secret-of-the-test",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_CONFIG_FILE": str(empty),
        "AWS_SHARED_CREDENTIALS_FILE": str(empty),
        "NO_PROXY": "127.0.0.1",
    }
    for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_ENDPOINT_URL_S3"):
        monkeypatch.delenv(name, raising=False)
    for name, value in settings.items():
        monkeypatch.setenv(name, value)


@contextmanager
def bucket(name: str, monkeypatch: pytest.MonkeyPatch, folder: Path) -> Iterator:
    """A client, as of boto3, of a server with an empty bucket, which the environment points to."""
    import boto3

    with serving() as port:
        use(f"http://127.0.0.1:{port}", monkeypatch, folder)
        client = boto3.client("s3")
        client.create_bucket(Bucket=name)
        yield client
