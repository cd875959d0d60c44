"""Reads an inbox from an S3 bucket: new objects are fetched in parallel and completely; every key is checked."""

import hashlib
import re
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, NamedTuple, ParamSpec, TypeVar

from earmark.dataset.sources.archive import sha256_of
from earmark.dataset.sources.download import redact_url
from earmark.dataset.sources.s3_errors import (
    CHANGED_CODES,
    MISSING_CODES,
    TransferError,
    broken_transfer_errors,
    code_of,
    explain,
    explain_settings,
    is_transient,
    is_transient_once_connected,
)
from earmark.dataset.sources.s3_keys import BucketObject, classify, normal, oversize
from earmark.dataset.sources.source_file import Memory, SourceFile
from earmark.errors import UserError
from earmark.io.progress import progress

_SCHEME = "s3://"
_BUCKET_NAME = re.compile(r"[A-Za-z0-9._-]{3,255}")
_WORKERS = 16
_PREFETCH = 256  # objects that are requested before the first of them is yielded
_TRIES = 8
_TRIES_OF_A_REQUEST = 3
_TRIES_OF_A_CHANGING_OBJECT = 5
_CHUNK_BYTES = 2**20
_PARTIAL = ".part"


class _Staged(NamedTuple):
    """An object that was fetched, and the file with its content."""

    object: BucketObject
    file: Path


_Outcome = _Staged | SourceFile | None
"""A fetched object; one that became too large; or None for one that is skipped."""
_Arguments = ParamSpec("_Arguments")
_Result = TypeVar("_Result")


class _ChangedObjectError(Exception):
    """The object has changed since it was listed, or is gone."""


def is_address(source: str) -> bool:
    """Return whether a source is an address in a bucket."""
    return source.startswith(_SCHEME)


def local_fingerprint(address: str, timeout_seconds: float = 20.0) -> str:
    """Return hex digits that change when an object below an address is added, removed or changed; no object is read.

    Raises:
        UserError: as ``entries`` before it fetches.
    """
    bucket = _Bucket(address, timeout_seconds)
    listing = sorted(f"{item.key}\n{item.version}\n" for item in bucket.list_objects())
    return hashlib.sha256("".join(listing).encode("utf-8", "surrogatepass")).hexdigest()


def entries(
    address: str,
    staging: Path,
    memory: Memory,
    existing_labels: frozenset[str] = frozenset(),
    timeout_seconds: float = 20.0,
) -> Iterator[SourceFile]:
    """Yield every file of the data set below an address once, sorted by path; versions in ``memory`` are not fetched.

    Objects are fetched to ``staging`` and reused from there by a later call; the caller removes that folder after
    storing what was yielded. Objects that are deleted or keep changing while they are read are skipped with a note on
    stderr. Endpoint, region and credentials come from boto3's settings.

    Args:
        address: "s3://bucket/prefix"; the prefix is a folder and may be empty.
        staging: folder for this address, created when needed.
        memory: its versions are "<ETag>:<size in bytes>".
        existing_labels: labels of the data set; a label that differs from one only in case or Unicode form is refused.
        timeout_seconds: timeout to connect, and between two reads.

    Raises:
        UserError: the address is malformed, the bucket does not exist, credentials are missing or refused, the server
            cannot be reached or fails in 8 tries of one object, or the staging folder cannot be written.
    """
    bucket = _Bucket(address, timeout_seconds)
    classified = classify(bucket.list_objects(), bucket.prefix, existing_labels)
    plan = [item if isinstance(item, SourceFile) else _look_up(item, memory) for item in classified]
    missing = sum(isinstance(item, BucketObject) for item in plan)
    if not missing:
        yield from (item for item in plan if isinstance(item, SourceFile))
        return
    stage = _Stage(staging, address)
    with progress("inbox", missing, "objects") as advance, _workers(bucket) as workers:

        def start(item: BucketObject) -> Future[_Outcome]:
            future = workers.submit(_fetch_current, bucket, stage, item)
            future.add_done_callback(lambda _: advance(1))
            return future

        for item in _prefetch(plan, start):
            file = item if isinstance(item, SourceFile) else _read_staged(item.result())
            if file is not None:
                yield file


def _look_up(item: BucketObject, memory: Memory) -> SourceFile | BucketObject:
    version, sha256 = memory.get(item.path, ("", ""))
    return SourceFile(item.path, version, sha256=sha256) if version == item.version else item


def _prefetch(
    plan: Iterable[SourceFile | BucketObject], start: Callable[[BucketObject], Future[_Outcome]]
) -> Iterator[SourceFile | Future[_Outcome]]:
    """Start to fetch a limited number of objects ahead, and yield everything in the order of the plan."""
    waiting: deque[SourceFile | Future[_Outcome]] = deque()
    started = 0
    for item in plan:
        waiting.append(item if isinstance(item, SourceFile) else start(item))
        started += isinstance(item, BucketObject)
        while started > _PREFETCH:
            first = waiting.popleft()
            started -= not isinstance(first, SourceFile)
            yield first
    while waiting:
        yield waiting.popleft()


def _read_staged(outcome: _Outcome) -> SourceFile | None:
    if not isinstance(outcome, _Staged):
        return outcome
    return SourceFile(outcome.object.path, outcome.object.version, content=outcome.file.read_bytes())


@contextmanager
def _workers(bucket: "_Bucket") -> Iterator[ThreadPoolExecutor]:
    workers = ThreadPoolExecutor(_WORKERS, thread_name_prefix="inbox")
    try:
        yield workers
    finally:
        bucket.stopped.set()
        workers.shutdown(cancel_futures=True)


class _Bucket:
    """The objects below an address; thread-safe."""

    def __init__(self, address: str, timeout_seconds: float) -> None:
        self.address = address
        self.name, self.prefix = _split(address)
        self.stopped = threading.Event()
        self._client = _client(address, timeout_seconds)
        self._endpoint = redact_url(self._client.meta.endpoint_url)

    def address_of(self, item: BucketObject) -> str:
        """Return the address of an object."""
        return f"{_SCHEME}{self.name}/{item.key}"

    def list_objects(self) -> Iterable[BucketObject]:
        """Return all objects below the prefix, each once."""
        objects: dict[str, BucketObject] = {}
        request = {"Bucket": self.name, "Prefix": self.prefix}
        retry_on = is_transient_once_connected
        with self._explained_errors(self.address):
            while True:
                page = self._with_retries(retry_on, self._client.list_objects_v2, **request)
                for item in page.get("Contents", ()):
                    path = normal(item["Key"].removeprefix(self.prefix))
                    objects[item["Key"]] = BucketObject(item["Key"], path, item["ETag"].strip('"'), item["Size"])
                if not page.get("IsTruncated"):
                    return objects.values()
                request["ContinuationToken"] = page["NextContinuationToken"]
                retry_on = is_transient

    def look_again(self, item: BucketObject) -> BucketObject | None:
        """Return the current version of the object, or None if it is gone."""
        from botocore.exceptions import ClientError

        with self._explained_errors(self.address_of(item)):
            try:
                head = self._with_retries(is_transient, self._client.head_object, Bucket=self.name, Key=item.key)
            except ClientError as error:
                if code_of(error) in MISSING_CODES:
                    return None
                raise
        return item._replace(etag=head["ETag"].strip('"'), size=head["ContentLength"])

    def fetch(self, item: BucketObject, stage: "_Stage") -> Path:
        """Return the staged file with the content of exactly this version.

        Raises:
            _ChangedObjectError: the object has changed or is gone.
        """
        with self._explained_errors(self.address_of(item)):
            return self._with_retries(is_transient, self._fetch, item, stage)

    def _fetch(self, item: BucketObject, stage: "_Stage") -> Path:
        from botocore.exceptions import ClientError

        try:
            answer = self._client.get_object(Bucket=self.name, Key=item.key, IfMatch=f'"{item.etag}"')
        except ClientError as error:
            if code_of(error) in CHANGED_CODES:
                raise _ChangedObjectError from error
            raise
        with closing(answer["Body"]) as body:
            if answer["ETag"].strip('"') != item.etag:  # the server ignores If-Match
                raise _ChangedObjectError
            return stage.store(item, self._chunks(body))

    def _chunks(self, body: Any) -> Iterator[bytes]:
        while not self.stopped.is_set() and (chunk := body.read(_CHUNK_BYTES)):
            yield chunk

    def _with_retries(
        self,
        retry_on: Callable[[BaseException], bool],
        call: Callable[_Arguments, _Result],
        *args: _Arguments.args,
        **kwargs: _Arguments.kwargs,
    ) -> _Result:
        import tenacity

        return tenacity.Retrying(
            retry=tenacity.retry_if_exception(retry_on),
            stop=tenacity.stop_after_attempt(_TRIES) | tenacity.stop_when_event_set(self.stopped),
            wait=tenacity.wait_random_exponential(multiplier=0.2, max=5.0),
            sleep=tenacity.sleep_using_event(self.stopped),
            reraise=True,
        )(call, *args, **kwargs)

    @contextmanager
    def _explained_errors(self, subject: str) -> Iterator[None]:
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            yield
        except (BotoCoreError, ClientError, *broken_transfer_errors()) as error:
            raise UserError(explain(error, subject, self.name, self._endpoint)) from error


def _fetch_current(bucket: _Bucket, stage: "_Stage", item: BucketObject) -> _Outcome:
    """Fetch the current version of an object; it is refused if it became too large, and None if it is skipped."""
    for _ in range(_TRIES_OF_A_CHANGING_OBJECT):
        try:
            return _Staged(item, stage.find(item) or bucket.fetch(item, stage))
        except _ChangedObjectError:
            current = bucket.look_again(item)
        if current is None:
            _note(f"{bucket.address_of(item)} was deleted before it was read; it is skipped")
            return None
        if reason := oversize(current):
            return SourceFile(current.path, current.version, refused=reason)
        item = current
    _note(
        f"{bucket.address_of(item)} changed {_TRIES_OF_A_CHANGING_OBJECT} times while it was read;"
        " it is skipped until the next run"
    )
    return None


def _note(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


class _Stage:
    """A folder of fetched objects, named "<hash of address, key and version>-<SHA-256 of the content>"."""

    def __init__(self, folder: Path, address: str) -> None:
        self._folder, self._address = folder, address
        with _writing(folder):
            folder.mkdir(parents=True, exist_ok=True)
            for leftover in folder.glob(f"*{_PARTIAL}"):
                leftover.unlink()
            self._files = {file.name.partition("-")[0]: file for file in folder.iterdir()}

    def find(self, item: BucketObject) -> Path | None:
        """Return the file that an earlier call staged for exactly this version, if it is whole."""
        file = self._files.get(self._stem(item))
        is_whole = file is not None and sha256_of(file) == file.name.partition("-")[2]
        return file if is_whole else None

    def store(self, item: BucketObject, chunks: Iterable[bytes]) -> Path:
        """Write the chunks to a file and return it.

        Raises:
            TransferError: there are fewer or more bytes than the object has.
        """
        partial = self._folder / (self._stem(item) + _PARTIAL)
        digest, size = hashlib.sha256(), 0
        with _writing(self._folder):
            try:
                with partial.open("wb") as file:
                    for chunk in chunks:
                        file.write(chunk)
                        digest.update(chunk)
                        size += len(chunk)
                if size != item.size:
                    raise TransferError(f"{size} of {item.size} bytes")
                return partial.replace(self._folder / f"{self._stem(item)}-{digest.hexdigest()}")
            finally:
                partial.unlink(missing_ok=True)

    def _stem(self, item: BucketObject) -> str:
        return hashlib.sha256("\0".join((self._address, item.key, item.version)).encode()).hexdigest()[:32]


@contextmanager
def _writing(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno is None:  # botocore's timeouts are OSErrors too
            raise
        raise UserError(f"{folder} cannot be written ({error.strerror}); expected a folder with space") from error


def _split(address: str) -> tuple[str, str]:
    """Return the bucket of an address, and its prefix, which is empty or ends with a slash."""
    bucket, _, prefix = address.removeprefix(_SCHEME).partition("/")
    if not is_address(address) or not _BUCKET_NAME.fullmatch(bucket):
        secretless = address.removeprefix(_SCHEME).rpartition("@")[2]
        raise UserError(f"{_SCHEME}{secretless!a} is not the address of a bucket; expected s3://<bucket>/<prefix>")
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
        raise UserError(f"{address} cannot be opened with the AWS settings ({explain_settings(error)})") from error
