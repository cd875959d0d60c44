"""What an error of a bucket means: a reason to try again, a change, or a sentence for people."""

from typing import Any

GONE = ("NoSuchKey", "404")
OVERTAKEN = ("PreconditionFailed", "412", *GONE)
_THROTTLED = ("SlowDown", "RequestTimeout", "Throttling", "ThrottlingException", "RequestLimitExceeded", "429")
_DENIED = ("AccessDenied", "403", "401", "InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken", "InvalidToken")


class TransferError(Exception):
    """The content ended early."""


def sentence(error: Exception, what: str, bucket: str, endpoint: str) -> str:
    """Return one sentence on what cannot be read and what is needed, without anything secret."""
    from botocore.exceptions import ClientError

    if not isinstance(error, ClientError):
        if is_passing(error):
            return f"{what} cannot be read from {endpoint} ({type(error).__name__}): needed is a server that answers"
        return f"{what} cannot be read with the AWS settings ({settings_reason(error)})"
    code = code_of(error)
    if code == "NoSuchBucket":
        return f"{what} cannot be read: {endpoint} has no bucket {bucket!r}, and needed is one that exists"
    if code in _DENIED:
        return f"{what} is refused by {endpoint} ({code}): needed are credentials that may list and read the bucket"
    return f"{what} cannot be read: {endpoint} answers {code}, and needed is a bucket that can be listed and read"


def settings_reason(error: Exception) -> str:
    """Return what is wrong with the settings, and what is needed."""
    # Only the name of the error: its text may hold what a credentials program printed, or a URL with a password.
    return (
        f"{type(error).__name__}: needed are credentials, as in AWS_PROFILE or in AWS_ACCESS_KEY_ID and "
        "AWS_SECRET_ACCESS_KEY, and with AWS_ENDPOINT_URL an http(s) URL"
    )


def code_of(error: Any) -> str:
    """Return the code that S3 gave a botocore ClientError, such as "NoSuchKey"; a status where it has no more."""
    return str(error.response.get("Error", {}).get("Code", ""))


def is_passing(error: BaseException) -> bool:
    """Return whether the same request may succeed a moment later."""
    from botocore.exceptions import ClientError

    if isinstance(error, ClientError):
        status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
        return status >= 500 or code_of(error) in _THROTTLED
    return isinstance(error, broken_off())


def is_passing_once_reached(error: BaseException) -> bool:
    """Return whether to go on with a server that has not answered yet: not where there may be none."""
    from botocore.exceptions import ConnectionError

    return is_passing(error) and not isinstance(error, ConnectionError)


def broken_off() -> tuple[type[BaseException], ...]:
    """Return the errors of a request or an answer that broke off, was garbled, or never came."""
    from botocore import exceptions
    from botocore.parsers import ResponseParserError
    from urllib3.exceptions import HTTPError

    # urllib3's own come through while a body is read.
    return (
        exceptions.ConnectionError,
        exceptions.HTTPClientError,
        exceptions.IncompleteReadError,
        exceptions.FlexibleChecksumError,
        ResponseParserError,
        HTTPError,
        TransferError,
    )
