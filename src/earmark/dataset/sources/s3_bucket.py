"""Lists and reads the objects of a bucket. What fails for a moment is tried again, here and nowhere else."""

import re
import threading
from collections.abc import Collection, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from earmark.addresses import redact_url
from earmark.dataset.sources.s3_errors import (
    CHANGED_CODES,
    MISSING_CODES,
    ChangedObjectError,
    broken_transfer_errors,
    code_of,
    explain,
    explain_settings,
    is_transient,
    is_unreachable,
)
from earmark.dataset.sources.s3_keys import BucketObject, normal
from earmark.dataset.sources.s3_staging import StagingFolder
from earmark.errors import UserError

if TYPE_CHECKING:
    from tenacity import RetryCallState, Retrying

SCHEME = "s3://"
WORKERS = 16
_BUCKET_NAME = re.compile(r"[A-Za-z0-9._-]{3,255}")
_TRIES = 8
_TRIES_TO_CONNECT = 3
_CHUNK_BYTES = 2**20


class Bucket:
    """The objects below an address; thread-safe.

    Raises, in all methods:
        UserError: one sentence; credentials are missing or refused, or the server fails in 8 tries.
    """

    def __init__(self, address: str, timeout_seconds: float) -> None:
        self.address = address
        self.name, self.prefix = _split(address)
        self.stopped = threading.Event()
        self._client = _client(address, timeout_seconds)
        self._endpoint = redact_url(self._client.meta.endpoint_url)
        self._has_answered = False
        self._retrying = self._retries()

    def address_of(self, item: BucketObject) -> str:
        """Return the address of an object."""
        return f"{SCHEME}{self.name}/{item.key}"

    def list_objects(self) -> Collection[BucketObject]:
        """Return all objects below the prefix, each once."""
        objects: dict[str, BucketObject] = {}
        with self._explained_errors(self.address):
            for page in self._pages():
                for item in page.get("Contents", ()):
                    path = normal(item["Key"].removeprefix(self.prefix))
                    objects[item["Key"]] = BucketObject(item["Key"], path, item["ETag"].strip('"'), item["Size"])
        return objects.values()

    def _pages(self) -> Iterator[dict[str, Any]]:
        # Not boto3's paginator: a page that breaks off ends it, and the listing would start over.
        request = {"Bucket": self.name, "Prefix": self.prefix}
        while True:
            page = self._retrying(self._client.list_objects_v2, **request)
            self._has_answered = True
            yield page
            if not page.get("IsTruncated"):
                return
            request["ContinuationToken"] = page["NextContinuationToken"]

    def look_again(self, item: BucketObject) -> BucketObject | None:
        """Return the current version of the object, or None if it is gone."""
        from botocore.exceptions import ClientError

        with self._explained_errors(self.address_of(item)):
            try:
                head = self._retrying(self._client.head_object, Bucket=self.name, Key=item.key)
            except ClientError as error:
                if code_of(error) in MISSING_CODES:
                    return None
                raise
        return item._replace(etag=head["ETag"].strip('"'), size=head["ContentLength"])

    def fetch(self, item: BucketObject, stage: StagingFolder) -> Path:
        """Return the staged file with the content of exactly this version.

        Raises:
            ChangedObjectError: the object has changed or is gone.
        """
        with self._explained_errors(self.address_of(item)):
            return self._retrying(self._fetch, item, stage)

    def _fetch(self, item: BucketObject, stage: StagingFolder) -> Path:
        from botocore.exceptions import ClientError

        try:
            answer = self._client.get_object(Bucket=self.name, Key=item.key, IfMatch=f'"{item.etag}"')
        except ClientError as error:
            if code_of(error) in CHANGED_CODES:
                raise ChangedObjectError from error
            raise
        with closing(answer["Body"]) as body:
            if answer["ETag"].strip('"') != item.etag:  # the server ignores If-Match
                raise ChangedObjectError
            return stage.store(item, self._chunks(body))

    def _chunks(self, body: Any) -> Iterator[bytes]:
        while not self.stopped.is_set() and (chunk := body.read(_CHUNK_BYTES)):
            yield chunk

    def _retries(self) -> "Retrying":
        """Return what calls a function again after a transient error, until `stopped` is set."""
        import tenacity

        return tenacity.Retrying(
            retry=tenacity.retry_if_exception(is_transient),
            stop=self._is_last_try,
            wait=tenacity.wait_random_exponential(multiplier=0.25, max=10.0),
            sleep=tenacity.sleep_using_event(self.stopped),
            reraise=True,
        )

    def _is_last_try(self, state: "RetryCallState") -> bool:
        """Return whether to give up: soon where no server has ever answered, since there may be none."""
        error = state.outcome.exception() if state.outcome else None
        may_be_nowhere = not self._has_answered and is_unreachable(error)
        tries = _TRIES_TO_CONNECT if may_be_nowhere else _TRIES
        return self.stopped.is_set() or state.attempt_number >= tries

    @contextmanager
    def _explained_errors(self, subject: str) -> Iterator[None]:
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            yield
        except (BotoCoreError, ClientError, *broken_transfer_errors()) as error:
            raise UserError(explain(error, subject, self.name, self._endpoint)) from error


def is_address(source: str) -> bool:
    """Return whether a source is an address in a bucket."""
    return source.startswith(SCHEME)


def _split(address: str) -> tuple[str, str]:
    """Return the bucket of an address, and its prefix, which is empty or ends with a slash."""
    bucket, _, prefix = address.removeprefix(SCHEME).partition("/")
    if not is_address(address) or not _BUCKET_NAME.fullmatch(bucket):
        secretless = address.removeprefix(SCHEME).rpartition("@")[2]
        raise UserError(f"{SCHEME}{secretless!a} is not the address of a bucket; expected s3://<bucket>/<prefix>")
    prefix = prefix.rstrip("/")
    return bucket, f"{prefix}/" if prefix else ""


def _client(address: str, timeout_seconds: float) -> Any:
    import boto3
    from botocore.config import Config
    from botocore.exceptions import BotoCoreError

    config = Config(
        connect_timeout=timeout_seconds,
        read_timeout=timeout_seconds,
        max_pool_connections=WORKERS,
        # Bucket retries: botocore would not read a broken body again, and its waits cannot be interrupted.
        retries={"mode": "standard", "total_max_attempts": 1},
    )
    try:
        return boto3.session.Session().client("s3", config=config)
    except (BotoCoreError, ValueError) as error:
        raise UserError(f"{address} cannot be opened with the AWS settings ({explain_settings(error)})") from error
