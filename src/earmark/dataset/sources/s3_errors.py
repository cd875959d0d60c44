"""Classifies errors of a bucket: transient, a changed or missing object, or a sentence for people."""

from typing import Any

MISSING_CODES = ("NoSuchKey", "404")
CHANGED_CODES = ("PreconditionFailed", "412", *MISSING_CODES)
_THROTTLED = ("SlowDown", "RequestTimeout", "Throttling", "ThrottlingException", "RequestLimitExceeded", "429")
_DENIED = ("AccessDenied", "403", "401", "InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken", "InvalidToken")


class TransferError(Exception):
    """The content has another length than expected."""


class ChangedObjectError(Exception):
    """The object has changed since it was listed, or is gone."""


def explain(error: Exception, subject: str, bucket: str, endpoint: str) -> str:
    """Return one sentence that says what cannot be read and what is expected, without any secret."""
    from botocore.exceptions import ClientError

    if not isinstance(error, ClientError):
        if is_transient(error):
            return f"{subject} cannot be read from {endpoint} ({type(error).__name__}); expected a server that answers"
        return f"{subject} cannot be read with the AWS settings ({explain_settings(error)})"
    code = code_of(error)
    if code == "NoSuchBucket":
        return f"{subject} cannot be read: {endpoint} has no bucket {bucket!r}; expected one that exists"
    if code in _DENIED:
        return f"{subject} is refused by {endpoint} ({code}); expected credentials that may list and read the bucket"
    return f"{subject} cannot be read: {endpoint} answers {code}; expected a bucket that can be listed and read"


def explain_settings(error: Exception) -> str:
    """Return what is wrong with the AWS settings, and what is expected."""
    # Only the name of the error: its text may contain the output of a credentials program, or a URL with a password.
    return (
        f"{type(error).__name__}; expected credentials in AWS_PROFILE, or in AWS_ACCESS_KEY_ID and "
        "AWS_SECRET_ACCESS_KEY, and an http(s) URL in AWS_ENDPOINT_URL if it is set"
    )


def code_of(error: Any) -> str:
    """Return the S3 code of a botocore ClientError, such as "NoSuchKey", or the HTTP status if it has no code."""
    return str(error.response.get("Error", {}).get("Code", ""))


def is_transient(error: BaseException) -> bool:
    """Return whether the same request may succeed a moment later."""
    from botocore.exceptions import ClientError

    if isinstance(error, ClientError):
        status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
        return status >= 500 or code_of(error) in _THROTTLED
    return isinstance(error, broken_transfer_errors())


def is_unreachable(error: BaseException | None) -> bool:
    """Return whether no connection was possible, as when there is no server."""
    from botocore.exceptions import ConnectionError

    return isinstance(error, ConnectionError)


def broken_transfer_errors() -> tuple[type[Exception], ...]:
    """Return the errors of a request or response that was cut off, was garbled, or never arrived."""
    from botocore import exceptions
    from botocore.parsers import ResponseParserError
    from urllib3.exceptions import HTTPError

    # urllib3's errors are passed through while a body is read.
    return (
        exceptions.ConnectionError,
        exceptions.HTTPClientError,
        exceptions.IncompleteReadError,
        exceptions.FlexibleChecksumError,
        ResponseParserError,
        HTTPError,
        TransferError,
    )
