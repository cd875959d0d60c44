"""An inbox in a bucket: what is new is fetched many objects at a time, whole or not at all, and no key is trusted."""

import hashlib
import re
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from earmark.dataset.sources.archive import sha256_of
from earmark.dataset.sources.download import shown
from earmark.dataset.sources.s3_errors import (
    GONE,
    OVERTAKEN,
    TransferError,
    broken_off,
    code_of,
    is_passing,
    is_passing_once_reached,
    sentence,
    settings_reason,
)
from earmark.dataset.sources.s3_keys import BucketObject, judged, normal, oversize
from earmark.dataset.sources.source_file import Found, Memory
from earmark.errors import UserError
from earmark.io.progress import progress

_SCHEME = "s3://"
_BUCKET_NAME = re.compile(r"[A-Za-z0-9._-]{3,255}")
_WORKERS = 16
_AHEAD = 256  # objects asked for before the first of them is yielded
_TRIES = 8
_TRIES_OF_A_REQUEST = 3
_LOOKS = 5  # at an object that changes again and again
_CHUNK_BYTES = 2**20
_PARTIAL = ".part"


class _Staged(NamedTuple):
    """An object that was fetched, and the file that has its content."""

    object: BucketObject
    file: Path


class _ChangedObjectError(Exception):
    """The object is no longer the one that was asked for."""


def is_address(source: str) -> bool:
    """Return whether a source is one in a bucket."""
    return source.startswith(_SCHEME)


def glance(address: str, timeout_seconds: float = 20.0) -> str:
    """Return hex digits that change when an object below an address does, comes or goes; none is read.

    Raises:
        UserError: as ``entries`` does before it fetches.
    """
    bucket = _Bucket(address, timeout_seconds)
    listing = sorted(f"{each.key}\n{each.version}\n" for each in bucket.listed())
    return hashlib.sha256("".join(listing).encode("utf-8", "surrogatepass")).hexdigest()


def entries(
    address: str,
    staging: Path,
    memory: Memory,
    known_labels: frozenset[str] = frozenset(),
    timeout_seconds: float = 20.0,
) -> Iterator[Found]:
    """Yield every file of the data set below an address once, sorted by path; remembered versions are not fetched.

    What is fetched waits in ``staging``, from where a later call takes it; the caller removes that folder once it has
    stored what was yielded. Objects that are deleted, or change again and again, meanwhile are left out with a note on
    stderr. The endpoint, the region and the credentials are those of boto3's settings.

    Args:
        address: "s3://bucket/prefix"; the prefix is a folder, and may be empty.
        staging: folder of this address, made when needed.
        memory: versions are "<ETag>:<size in bytes>".
        known_labels: labels of the data set, which a bucket's may not resemble in all but case or Unicode form.
        timeout_seconds: to connect, and between two reads.

    Raises:
        UserError: a malformed address, no such bucket, no or refused credentials, a server that cannot be reached or
            fails in 8 tries of one object, or a staging folder that cannot be written.
    """
    bucket = _Bucket(address, timeout_seconds)
    planned = [_recalled(each, memory) for each in judged(bucket.listed(), bucket.prefix, known_labels)]
    missing = sum(isinstance(each, BucketObject) for each in planned)
    if not missing:
        yield from planned
        return
    stage = _Stage(staging, address)
    with progress("inbox", missing, "objects") as advance, _workers(bucket) as workers:

        def start(wanted: BucketObject) -> Future:
            future = workers.submit(_staged, bucket, stage, wanted)
            future.add_done_callback(lambda _: advance(1))
            return future

        for each in _ahead(planned, start):
            found = each if isinstance(each, Found) else _content(each.result())
            if found is not None:
                yield found


def _recalled(found: Found | BucketObject, memory: Memory) -> Found | BucketObject:
    if isinstance(found, Found):
        return found
    version, sha256 = memory.get(found.path, ("", ""))
    return Found(found.path, version, sha256=sha256) if version == found.version else found


def _ahead(
    planned: Iterable[Found | BucketObject], start: Callable[[BucketObject], Future]
) -> Iterator[Found | Future]:
    """Start what is to be fetched, a bounded number ahead, and return all in its order."""
    waiting: deque[Found | Future] = deque()
    started = 0
    for each in planned:
        waiting.append(each if isinstance(each, Found) else start(each))
        started += isinstance(each, BucketObject)
        while started > _AHEAD:
            first = waiting.popleft()
            started -= not isinstance(first, Found)
            yield first
    while waiting:
        yield waiting.popleft()


def _content(outcome: _Staged | Found | None) -> Found | None:
    if not isinstance(outcome, _Staged):
        return outcome
    return Found(outcome.object.path, outcome.object.version, content=outcome.file.read_bytes())


@contextmanager
def _workers(bucket: "_Bucket") -> Iterator[ThreadPoolExecutor]:
    workers = ThreadPoolExecutor(_WORKERS, thread_name_prefix="inbox")
    try:
        yield workers
    finally:
        bucket.stopped.set()
        workers.shutdown(cancel_futures=True)


class _Bucket:
    """The objects below an address; safe to use by many threads."""

    def __init__(self, address: str, timeout_seconds: float) -> None:
        self.address = address
        self.name, self.prefix = _split(address)
        self.stopped = threading.Event()
        self._client = _client(address, timeout_seconds)
        self._endpoint = shown(self._client.meta.endpoint_url)

    def shown(self, wanted: BucketObject) -> str:
        """Return the address of an object."""
        return f"{_SCHEME}{self.name}/{wanted.key}"

    def listed(self) -> Iterable[BucketObject]:
        """Return all objects below the prefix, each once."""
        objects: dict[str, BucketObject] = {}
        request = {"Bucket": self.name, "Prefix": self.prefix}
        passing = is_passing_once_reached
        with self._explained(self.address):
            while True:
                page = self._persistently(passing, self._client.list_objects_v2, **request)
                for item in page.get("Contents", ()):
                    path = normal(item["Key"].removeprefix(self.prefix))
                    objects[item["Key"]] = BucketObject(item["Key"], path, item["ETag"].strip('"'), item["Size"])
                if not page.get("IsTruncated"):
                    return objects.values()
                request["ContinuationToken"] = page["NextContinuationToken"]
                passing = is_passing

    def look_again(self, wanted: BucketObject) -> BucketObject | None:
        """Return the object as it is now, or None where it is gone."""
        from botocore.exceptions import ClientError

        with self._explained(self.shown(wanted)):
            try:
                head = self._persistently(is_passing, self._client.head_object, Bucket=self.name, Key=wanted.key)
            except ClientError as error:
                if code_of(error) in GONE:
                    return None
                raise
        return wanted._replace(etag=head["ETag"].strip('"'), size=head["ContentLength"])

    def fetch(self, wanted: BucketObject, stage: "_Stage") -> Path:
        """Return the staged file with the content of this very version.

        Raises:
            _ChangedObjectError: the object has changed or is gone.
        """
        with self._explained(self.shown(wanted)):
            return self._persistently(is_passing, self._fetch, wanted, stage)

    def _fetch(self, wanted: BucketObject, stage: "_Stage") -> Path:
        from botocore.exceptions import ClientError

        try:
            answer = self._client.get_object(Bucket=self.name, Key=wanted.key, IfMatch=f'"{wanted.etag}"')
        except ClientError as error:
            if code_of(error) in OVERTAKEN:
                raise _ChangedObjectError from error
            raise
        with closing(answer["Body"]) as body:
            if answer["ETag"].strip('"') != wanted.etag:  # a server that does not know If-Match
                raise _ChangedObjectError
            return stage.store(wanted, self._chunks(body))

    def _chunks(self, body: Any) -> Iterator[bytes]:
        while not self.stopped.is_set() and (chunk := body.read(_CHUNK_BYTES)):
            yield chunk

    def _persistently(self, passing: Callable[[BaseException], bool], call: Callable, *args: Any, **kwargs: Any) -> Any:
        import tenacity

        return tenacity.Retrying(
            retry=tenacity.retry_if_exception(passing),
            stop=tenacity.stop_after_attempt(_TRIES) | tenacity.stop_when_event_set(self.stopped),
            wait=tenacity.wait_random_exponential(multiplier=0.2, max=5.0),
            sleep=tenacity.sleep_using_event(self.stopped),
            reraise=True,
        )(call, *args, **kwargs)

    @contextmanager
    def _explained(self, what: str) -> Iterator[None]:
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            yield
        except (BotoCoreError, ClientError, *broken_off()) as error:
            raise UserError(sentence(error, what, self.name, self._endpoint)) from error


def _staged(bucket: _Bucket, stage: "_Stage", wanted: BucketObject) -> _Staged | Found | None:
    """Return an object as it is now, staged; refused, where it has become too large; or None where it is left out."""
    for _ in range(_LOOKS):
        try:
            return _Staged(wanted, stage.find(wanted) or bucket.fetch(wanted, stage))
        except _ChangedObjectError:
            current = bucket.look_again(wanted)
        if current is None:
            _note(f"{bucket.shown(wanted)} was deleted before it was read, and is left out")
            return None
        if reason := oversize(current):
            return Found(current.path, current.version, refused=reason)
        wanted = current
    _note(f"{bucket.shown(wanted)} changed {_LOOKS} times while it was read, and is left for the next time")
    return None


def _note(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


class _Stage:
    """A folder of fetched objects: "<hash of address, key and version>-<SHA-256 of the content>"."""

    def __init__(self, folder: Path, address: str) -> None:
        self._folder, self._address = folder, address
        with _writing(folder):
            folder.mkdir(parents=True, exist_ok=True)
            for leftover in folder.glob(f"*{_PARTIAL}"):
                leftover.unlink()
            self._known = {file.name.partition("-")[0]: file for file in folder.iterdir()}

    def find(self, wanted: BucketObject) -> Path | None:
        """Return the file that an earlier call staged for this very version, if it is whole."""
        file = self._known.get(self._stem(wanted))
        whole = file is not None and sha256_of(file) == file.name.partition("-")[2]
        return file if whole else None

    def store(self, wanted: BucketObject, chunks: Iterable[bytes]) -> Path:
        """Return the file that now has the chunks.

        Raises:
            TransferError: they are not as many bytes as the object has.
        """
        partial = self._folder / (self._stem(wanted) + _PARTIAL)
        digest, size = hashlib.sha256(), 0
        with _writing(self._folder):
            try:
                with partial.open("wb") as file:
                    for chunk in chunks:
                        file.write(chunk)
                        digest.update(chunk)
                        size += len(chunk)
                if size != wanted.size:
                    raise TransferError(f"{size} of {wanted.size} bytes")
                return partial.replace(self._folder / f"{self._stem(wanted)}-{digest.hexdigest()}")
            finally:
                partial.unlink(missing_ok=True)

    def _stem(self, wanted: BucketObject) -> str:
        return hashlib.sha256("\0".join((self._address, wanted.key, wanted.version)).encode()).hexdigest()[:32]


@contextmanager
def _writing(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno is None:  # botocore's timeouts are OSErrors too
            raise
        raise UserError(f"{folder} cannot be written ({error.strerror}): needed is a place with room") from error


def _split(address: str) -> tuple[str, str]:
    """Return the bucket of an address, and its prefix with a trailing slash or empty."""
    bucket, _, prefix = address.removeprefix(_SCHEME).partition("/")
    if not is_address(address) or not _BUCKET_NAME.fullmatch(bucket):
        secretless = address.removeprefix(_SCHEME).rpartition("@")[2]
        raise UserError(f"{_SCHEME}{secretless!a} is no address of a bucket: allowed is s3://<bucket>/<prefix>")
    prefix = prefix.rstrip("/")
    return bucket, f"{prefix}/" if prefix else ""


def _client(address: str, timeout_seconds: float) -> Any:
    import boto3
    from botocore.config import Config
    from botocore.exceptions import BotoCoreError

    config = Config(
        connect_timeout=timeout_seconds,
        read_timeout=timeout_seconds,
        max_pool_connections=_WORKERS,
        retries={"mode": "standard", "total_max_attempts": _TRIES_OF_A_REQUEST},
    )
    try:
        return boto3.session.Session().client("s3", config=config)
    except (BotoCoreError, ValueError) as error:
        raise UserError(f"{address} cannot be opened with the AWS settings ({settings_reason(error)})") from error
