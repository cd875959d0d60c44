"""MLflow's registered models: their versions, tags and aliases, and downloads by address."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import mlflow
from mlflow import MlflowClient
from mlflow.entities.model_registry import ModelVersion
from mlflow.entities.model_registry import RegisteredModel as StoredModel
from mlflow.exceptions import MlflowException

from earmark.errors import UserError
from earmark.tracking.connection import (
    address,
    configure,
    few_retries,
    first_line,
    raise_unless,
    retried_on,
    translated_errors,
)

MAX_DESCRIPTION = 5000
NOT_FOUND = "RESOURCE_DOES_NOT_EXIST"
LOST_RACE = ("INTERNAL_ERROR", "TEMPORARILY_UNAVAILABLE")
"""MLflow's errors for a new version whose number another process was given first."""


@dataclass(frozen=True)
class StoredVersion:
    """A version of the registered model `name`; `run_id` is "" if no run made it."""

    name: str
    number: str
    run_id: str
    tags: Mapping[str, str]
    created: datetime


class RegisteredModel:
    """The registered model `name`, which may not exist yet.

    Every method raises ServiceUnavailableError if MLflow does not answer, and UserError if it refuses.
    """

    def __init__(self, name: str, client: MlflowClient):
        self.name, self._client = name, client

    @translated_errors()
    def create(self, description: str) -> None:
        """Creates the model unless it exists."""
        if self.created():
            return
        try:
            self._client.create_registered_model(self.name, description=description)
        except MlflowException as error:
            raise_unless(error, "RESOURCE_ALREADY_EXISTS")

    @translated_errors()
    def created(self) -> str:
        """The time of creation, which tells the model from an earlier one of its name; "" if there is no such model."""
        model = self._registered()
        return str(model.creation_timestamp) if model else ""

    @translated_errors()
    def aliases(self) -> dict[str, str]:
        """Alias -> version number; empty if there is no such model."""
        model = self._registered()
        return {alias: str(number) for alias, number in model.aliases.items()} if model else {}

    def _registered(self) -> StoredModel | None:
        try:
            return self._client.get_registered_model(self.name)
        except MlflowException as error:
            raise_unless(error, NOT_FOUND)
            return None

    @translated_errors()
    def set_alias(self, alias: str, number: str) -> None:
        """Points `alias` to version `number`; does nothing if there is no such version."""
        try:
            # If two processes set an alias that does not exist yet, MLflow refuses the second.
            for attempt in retried_on("BAD_REQUEST"):
                with attempt:
                    self._client.set_registered_model_alias(self.name, alias, number)
        except MlflowException as error:
            raise_unless(error, NOT_FOUND)

    @translated_errors()
    def delete_alias(self, alias: str) -> None:
        """Deletes `alias`."""
        self._client.delete_registered_model_alias(self.name, alias)

    @translated_errors()
    def versions(self) -> list[StoredVersion]:
        """All versions, oldest first; empty if there is no such model."""
        return _search(self._client, f"name = '{self.name}'")

    @translated_errors()
    def has_version(self, number: str) -> bool:
        """Whether there is a version `number`."""
        try:
            self._client.get_model_version(self.name, number)
        except MlflowException as error:
            raise_unless(error, NOT_FOUND)
            return False
        return True

    @translated_errors()
    def add_entry(self, source: str, tags: Mapping[str, str], description: str) -> None:
        """Adds a version that has no files. MLflow gives it the next number, whatever other processes add."""
        # MLflow gives up after losing the race for a number three times: so we retry. If the answer to a request is
        # lost, there are two such versions.
        for attempt in retried_on(*LOST_RACE):
            with attempt:
                self._client.create_model_version(
                    self.name, source, tags=dict(tags), description=description[:MAX_DESCRIPTION], await_creation_for=0
                )

    @translated_errors()
    def add_model_of(self, run_id: str, tags: Mapping[str, str]) -> None:
        """Adds the last model that was logged to a run as a version.

        Raises:
            UserError: the run has no model.
        """
        run = self._client.get_run(run_id)
        models = run.outputs.model_outputs if run.outputs else []
        if not models:
            raise UserError(f"MLflow's run {run_id} has no model; delete the run, and 'earmark register' logs it again")
        model_id = models[-1].model_id
        self._client.create_model_version(self.name, f"models:/{model_id}", run_id, tags=dict(tags), model_id=model_id)

    @translated_errors()
    def delete_version(self, number: str) -> None:
        """Deletes version `number` if it is still there."""
        try:
            self._client.delete_model_version(self.name, number)
        except MlflowException as error:
            raise_unless(error, NOT_FOUND)

    @translated_errors()
    def set_tags(self, number: str, tags: Mapping[str, str]) -> None:
        """Sets tags of version `number`."""
        for key, value in tags.items():
            self._client.set_model_version_tag(self.name, number, key, value)

    @translated_errors()
    def describe(self, number: str, description: str) -> None:
        """Sets the description of version `number`."""
        self._client.update_model_version(self.name, number, description=description[:MAX_DESCRIPTION])


@translated_errors()
def versions_of_all_models(client: MlflowClient) -> list[StoredVersion]:
    """The versions of all registered models, ordered by name and number."""
    return _search(client, None)


def _search(client: MlflowClient, query: str | None) -> list[StoredVersion]:
    order = ["name ASC", "version_number ASC"]
    page = client.search_model_versions(query, order_by=order)
    versions = list(page)
    while page.token:
        page = client.search_model_versions(query, order_by=order, page_token=page.token)
        versions += page
    return [_stored(version) for version in versions]


def _stored(version: ModelVersion) -> StoredVersion:
    created = datetime.fromtimestamp(version.creation_timestamp / 1000, UTC)
    return StoredVersion(version.name, str(version.version), version.run_id or "", version.tags, created)


def download_model(uri: str, folder: Path) -> Path:
    """Downloads the model at a `models:/…` address to a place below `folder`, and returns its model folder.

    Raises:
        UserError: there is no such model, or earmark did not make it.
    """
    configure()
    try:
        with translated_errors(uri), few_retries():
            root = Path(mlflow.artifacts.download_artifacts(artifact_uri=uri, dst_path=str(folder)))
    except (ImportError, ValueError) as error:  # MLflow cannot parse the address, or lacks a package for it
        raise UserError(f"{uri} cannot be downloaded from MLflow at {address()}: {first_line(error)}") from None
    models = sorted(path.parent for path in root.glob("artifacts/*/model.keras"))
    if not models:
        raise UserError(f"{uri} is no model of earmark: it holds no artifacts/…/model.keras")
    return models[0]
