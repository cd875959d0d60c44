"""The connection to MLflow: which server, and what is said where it does not answer."""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager

import mlflow
import tenacity
from boto3.exceptions import Boto3Error
from botocore.exceptions import BotoCoreError, ClientError
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from sqlalchemy.exc import SQLAlchemyError

from earmark.errors import ServiceUnavailableError, UserError

DEFAULT_URI = "sqlite:///mlflow.db"
NOT_FOUND = 404
RETRIES = "MLFLOW_HTTP_REQUEST_MAX_RETRIES"


def client() -> MlflowClient:
    """A client of MLFLOW_TRACKING_URI, or of the SQLite file mlflow.db; UserError where it does not answer."""
    start()
    with _first_request():
        found = MlflowClient()
        found.search_registered_models(max_results=1)
    return found


def connect(name: str) -> MlflowClient:
    """The same, with `name` as the experiment of runs."""
    start()
    with _first_request():
        mlflow.set_experiment(name)
    return MlflowClient()


@contextmanager
def answering(wanted: str = "") -> Iterator[None]:
    """Turns a failure of MLflow's database, server or artifact store into one sentence; `wanted` is what was asked for.

    Raises:
        UserError: MLflow answers that it has no such thing.
        ServiceUnavailableError: MLflow does not answer.
    """
    try:
        yield
    except (MlflowException, SQLAlchemyError, BotoCoreError, ClientError, Boto3Error, OSError) as error:
        mlflow_there = f"MLflow at {address()}"
        failure = f"{wanted} cannot be had from {mlflow_there}" if wanted else f"{mlflow_there} does not answer"
        kind = UserError if _is_gone(error) else ServiceUnavailableError
        raise kind(f"{failure}: {first_line(error)}") from None


def _is_gone(error: Exception) -> bool:
    """Whether MLflow or its store answered, that it has no such thing, or that there can be none."""
    if isinstance(error, MlflowException):
        return error.error_code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE")
    if isinstance(error, ClientError):
        return error.response.get("ResponseMetadata", {}).get("HTTPStatusCode") == NOT_FOUND
    status = getattr(getattr(error, "response", None), "status_code", None)
    return isinstance(error, FileNotFoundError) or status == NOT_FOUND


@contextmanager
def _first_request() -> Iterator[None]:
    """As `answering`, and not for long; here shows too that a database has no driver, or that an address is none."""
    with answering(), impatient():
        try:
            yield
        except (ImportError, ValueError) as error:
            raise MlflowException(str(error)) from error


@contextmanager
def impatient() -> Iterator[None]:
    """A server that is down is told after seconds; later calls have MLflow's own patience, which is minutes."""
    before = os.environ.get(RETRIES)
    os.environ.setdefault(RETRIES, "2")
    try:
        yield
    finally:
        if before is None:
            os.environ.pop(RETRIES)


def persistently(*codes: str) -> tenacity.Retrying:
    """Attempts, for as long as MLflow refuses with one of these codes what another process did at the same time."""
    return tenacity.Retrying(
        retry=tenacity.retry_if_exception(
            lambda error: isinstance(error, MlflowException) and error.error_code in codes
        ),
        stop=tenacity.stop_after_attempt(20),
        wait=tenacity.wait_random_exponential(multiplier=0.05, max=2.0),
        reraise=True,
    )


def require(error: MlflowException, code: str) -> None:
    """Raises `error` unless this is its code."""
    if error.error_code != code:
        raise error


def start() -> None:
    """Names the server, and keeps MLflow's remarks off the terminal: what it refuses still comes as an exception."""
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    for name in ("mlflow", "alembic"):
        logging.getLogger(name).setLevel(logging.ERROR)
    mlflow.set_tracking_uri(os.environ.get("MLFLOW_TRACKING_URI") or DEFAULT_URI)


def address() -> str:
    return mlflow.get_tracking_uri()


def first_line(error: Exception) -> str:
    # A client of HTTP goes on with all that it tried.
    said, tried, _ = str(error).strip().partition(" failed with exception ")
    return f"{said.splitlines()[0][:200]}{' failed' * bool(tried)}" if said else type(error).__name__
