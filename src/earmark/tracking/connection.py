"""Connects to MLflow, and turns its failures into errors of one sentence."""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import unquote, urlsplit

import mlflow
import tenacity
from boto3.exceptions import Boto3Error
from botocore.exceptions import BotoCoreError, ClientError
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from sqlalchemy import create_engine
from sqlalchemy.exc import SQLAlchemyError

from earmark.addresses import without_passwords
from earmark.errors import ServiceUnavailableError, UserError
from earmark.paths import MLFLOW_DATABASE
from earmark.tracking.local_store import follow_moved_checkout

DEFAULT_URI = f"sqlite:///{MLFLOW_DATABASE}"
NOT_FOUND = 404
RETRIES, TIMEOUT = "MLFLOW_HTTP_REQUEST_MAX_RETRIES", "MLFLOW_HTTP_REQUEST_TIMEOUT"


def client() -> MlflowClient:
    """Returns a client of the server at MLFLOW_TRACKING_URI, or of the SQLite file mlflow.db.

    Raises:
        UserError: MLflow does not answer.
    """
    configure()
    with _first_request():
        mlflow_client = MlflowClient()
        mlflow_client.search_registered_models(max_results=1)
    return mlflow_client


def connect(experiment: str) -> MlflowClient:
    """Does the same as `client`, and makes `experiment` the one that new runs belong to."""
    configure()
    with _first_request():
        mlflow.set_experiment(experiment)
    return MlflowClient()


@contextmanager
def translated_errors(subject: str = "") -> Iterator[None]:
    """Translates failures of MLflow's database, server or artifact store; `subject` is what is being downloaded.

    Raises:
        UserError: MLflow answers that there is no such thing.
        ServiceUnavailableError: MLflow does not answer.
    """
    try:
        yield
    except (MlflowException, SQLAlchemyError, BotoCoreError, ClientError, Boto3Error, OSError) as error:
        server = f"MLflow at {address()}"
        failure = f"{subject} cannot be downloaded from {server}" if subject else f"{server} does not answer"
        kind = UserError if _is_gone(error) else ServiceUnavailableError
        raise kind(f"{failure}: {first_line(error)}") from None


def _is_gone(error: Exception) -> bool:
    """Whether MLflow or its store has answered that there is no such thing, or that there cannot be one."""
    if isinstance(error, MlflowException):
        return error.error_code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE")
    if isinstance(error, ClientError):
        status: object = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode")
    else:
        status = getattr(getattr(error, "response", None), "status_code", None)
    return isinstance(error, FileNotFoundError) or status == NOT_FOUND


@contextmanager
def _first_request() -> Iterator[None]:
    """Translates errors of the first request, which also shows a missing database driver or a malformed address."""
    with translated_errors(), few_retries():
        try:
            _require_database(mlflow.get_tracking_uri())
            yield
        except (ImportError, ValueError) as error:
            raise MlflowException(str(error)) from error


def _require_database(uri: str) -> None:
    """Connects to the database at `uri`, if it is one: MLflow itself tries for a hundred seconds."""
    if urlsplit(uri).scheme.partition("+")[0] in ("postgresql", "mysql", "mssql"):
        engine = create_engine(uri)
        try:
            engine.connect().close()
        finally:
            engine.dispose()


@contextmanager
def few_retries(retries: int = 2, timeout_seconds: int | None = None) -> Iterator[None]:
    """Limits retries and waiting, so that a server that is down is reported within seconds; MLflow waits for minutes.

    What the environment sets stays.
    """
    limits = {RETRIES: retries} | ({TIMEOUT: timeout_seconds} if timeout_seconds else {})
    ours = {name: str(value) for name, value in limits.items() if name not in os.environ}
    os.environ.update(ours)
    try:
        yield
    finally:
        for name in ours:
            os.environ.pop(name, None)


def retried_on(*codes: str) -> tenacity.Retrying:
    """Yields attempts while MLflow refuses with one of these codes because another process was faster."""
    return tenacity.Retrying(
        retry=tenacity.retry_if_exception(
            lambda error: isinstance(error, MlflowException) and error.error_code in codes
        ),
        stop=tenacity.stop_after_attempt(20),
        wait=tenacity.wait_random_exponential(multiplier=0.05, max=2.0),
        reraise=True,
    )


def raise_unless(error: MlflowException, code: str) -> None:
    """Raises `error` unless its code is `code`."""
    if error.error_code != code:
        raise error


def configure() -> None:
    """Sets the tracking URI, and keeps MLflow's log messages off the terminal; its errors still are exceptions."""
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    for name in ("mlflow", "alembic"):
        logging.getLogger(name).setLevel(logging.ERROR)
    uri = _log_in(os.environ.get("MLFLOW_TRACKING_URI") or DEFAULT_URI)
    mlflow.set_tracking_uri(uri)
    if uri in (DEFAULT_URI, f"sqlite:///{MLFLOW_DATABASE.absolute()}"):
        with translated_errors():
            follow_moved_checkout(MLFLOW_DATABASE)


def _log_in(uri: str) -> str:
    """Moves user and password from the address of a server to MLflow's variables, since MLflow prints the address."""
    try:
        parts = urlsplit(uri)
    except ValueError:  # MLflow refuses it in its own words
        return uri
    user_information, separator, host = parts.netloc.rpartition("@")
    if not separator or parts.scheme not in ("http", "https"):
        return uri
    user, _, password = user_information.partition(":")
    os.environ["MLFLOW_TRACKING_USERNAME"], os.environ["MLFLOW_TRACKING_PASSWORD"] = unquote(user), unquote(password)
    os.environ["MLFLOW_TRACKING_URI"] = parts._replace(netloc=host).geturl()
    return os.environ["MLFLOW_TRACKING_URI"]


def address() -> str:
    """The tracking URI, without a password."""
    return without_passwords(mlflow.get_tracking_uri())


def first_line(error: Exception) -> str:
    """The first line of the error's text, at most 200 characters, or the name of its class."""
    # An HTTP client appends its list of attempts.
    text, attempts, _ = without_passwords(str(error).strip()).partition(" failed with exception ")
    return f"{text.splitlines()[0][:200]}{' failed' * bool(attempts)}" if text else type(error).__name__
