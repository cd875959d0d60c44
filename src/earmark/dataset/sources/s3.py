"""A folder of an S3 bucket as an inbox: new objects are fetched in parallel and completely; every key is checked."""

import hashlib
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import NamedTuple

from earmark.dataset.sources.s3_bucket import WORKERS, Bucket, is_address
from earmark.dataset.sources.s3_errors import ChangedObjectError
from earmark.dataset.sources.s3_keys import BucketObject, classify, oversize
from earmark.dataset.sources.s3_staging import StagingFolder
from earmark.dataset.sources.source import Context, Source
from earmark.dataset.sources.source_file import Memory, SourceFile
from earmark.io.progress import progress

STAGING = "inbox-"
"""Prefix of the folders to which objects of a bucket are fetched."""
_PREFETCH = 256  # objects that are requested before the first of them is yielded
_TRIES_OF_A_CHANGING_OBJECT = 5


class _Staged(NamedTuple):
    """An object that was fetched, and the file with its content."""

    object: BucketObject
    file: Path


_Outcome = _Staged | SourceFile | None
"""A fetched object; one that became too large; or None for one that is skipped."""


def open_source(address: str, context: Context) -> Source | None:
    """Return what is below an address such as "s3://bucket/prefix"; None for other addresses."""
    if not is_address(address):
        return None
    staging = context.downloads / f"{STAGING}{hashlib.sha256(address.encode()).hexdigest()[:12]}"

    def files(memory: Memory) -> Iterator[SourceFile]:
        return entries(address, staging, memory, context.existing_labels)

    return Source(address, "", partial(local_fingerprint, address), files, is_shared=True, staging=staging)


def local_fingerprint(address: str, timeout_seconds: float = 20.0) -> str:
    """Return hex digits that change when an object below an address is added, removed or changed; no object is read.

    Raises:
        UserError: as ``entries`` before it fetches.
    """
    bucket = Bucket(address, timeout_seconds)
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
    bucket = Bucket(address, timeout_seconds)
    classified = classify(bucket.list_objects(), bucket.prefix, existing_labels)
    plan = [item if isinstance(item, SourceFile) else _look_up(item, memory) for item in classified]
    missing = sum(isinstance(item, BucketObject) for item in plan)
    if not missing:
        yield from (item for item in plan if isinstance(item, SourceFile))
        return
    stage = StagingFolder(staging, address)
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
def _workers(bucket: Bucket) -> Iterator[ThreadPoolExecutor]:
    workers = ThreadPoolExecutor(WORKERS, thread_name_prefix="inbox")
    try:
        yield workers
    finally:
        bucket.stopped.set()
        workers.shutdown(cancel_futures=True)


def _fetch_current(bucket: Bucket, stage: StagingFolder, item: BucketObject) -> _Outcome:
    """Fetch the current version of an object; it is refused if it became too large, and None if it is skipped."""
    for _ in range(_TRIES_OF_A_CHANGING_OBJECT):
        try:
            return _Staged(item, stage.find(item) or bucket.fetch(item, stage))
        except ChangedObjectError:
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
