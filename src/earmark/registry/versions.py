"""The versions of one registered model in MLflow's registry; each distinct model content is registered once."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from mlflow import MlflowClient
from mlflow.entities import Run
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException

from earmark.errors import UserError
from earmark.io import hashing
from earmark.registry import alias_log
from earmark.registry.aliases import MAX_DESCRIPTION, Aliases
from earmark.tracking.connection import client, connect, raise_unless, translated_errors
from earmark.tracking.models import all_versions, download_model, ensure_registered_model
from earmark.tracking.runs import CONTENT

VERDICT = "verdict"
"""The tag with the gate's verdict; versions that were not evaluated lack it."""
DESCRIPTION = (
    "A sound classifier: float32 waveforms in [-1, 1] to labels and probabilities, front end and labels inside."
)


@dataclass(frozen=True)
class Version:
    """A version of the registered model `name`; `content` is the SHA-256 of its model folder, "" if unknown."""

    name: str
    number: str
    content: str
    aliases: tuple[str, ...]
    tags: Mapping[str, str]
    registered: datetime
    run_id: str

    @property
    def title(self) -> str:
        """The name for people, such as "earmark version 3"."""
        return f"{self.name} version {self.number}"


class Registry:
    """The versions of the registered model `name`; `aliases` moves its aliases.

    Every method raises UserError if MLflow does not answer.
    """

    def __init__(self, name: str, client: MlflowClient, aliases: Aliases):
        self.name, self.aliases, self._client = name, aliases, client

    def versions(self) -> list[Version]:
        """Returns all versions, oldest first; an empty list if the model was never registered."""
        aliases = self.aliases.mlflow_aliases()
        with translated_errors():
            return [_to_version(version, aliases) for version in all_versions(self._client, self.name)]

    def find(self, number_or_alias: str) -> Version:
        """Returns the version with this number or alias.

        Raises:
            UserError: there is no such version.
        """
        versions = self.versions()
        for version in versions:
            if number_or_alias == version.number or number_or_alias in version.aliases:
                return version
        numbers = [version.number for version in versions]
        names = [*numbers, *sorted({alias for version in versions for alias in version.aliases})]
        raise UserError(
            f"{self.name} has no version or alias {number_or_alias!r}; expected one of {', '.join(names)}"
            if names
            else f"{self.name} has no version {number_or_alias!r}, nor any other; 'earmark register' makes one"
        )

    def with_content(self, content: str) -> Version | None:
        """Returns the version with this content, or None; the oldest if two processes have just registered it."""
        return next((version for version in self.versions() if version.content == content), None)

    def add(self, run_id: str, content: str, tags: Mapping[str, str]) -> Version:
        """Registers the model of a run as a new version with tags, and returns the version with this content.

        If another process registers the same content at the same time, the older of the two versions stays.
        """
        with translated_errors():
            ensure_registered_model(self._client, self.name, DESCRIPTION)
            model_id = _model_id(self._client.get_run(run_id))
            self._client.create_model_version(
                self.name, f"models:/{model_id}", run_id, tags={**tags, CONTENT: content}, model_id=model_id
            )
        version = self.with_content(content)
        if version is None:
            raise UserError(f"{self.name}: the new version was deleted in MLflow; run 'earmark register' again")
        return self.delete_duplicates(version)

    def delete_duplicates(self, version: Version) -> Version:
        """Deletes later versions with the content of `version`, and returns `version`.

        A process that registers the same content at the same time leaves such a version if it is killed. Only versions
        without a verdict are deleted, and only if no alias was ever moved to them.
        """
        with_moves = {move.after for move in self.aliases.state().valid_moves}
        for other in self.versions():
            is_duplicate = other.content == version.content and int(other.number) > int(version.number)
            if is_duplicate and not other.aliases and VERDICT not in other.tags and other.number not in with_moves:
                self._delete(other.number)
        return version

    def _delete(self, number: str) -> None:
        with translated_errors():
            try:
                self._client.delete_model_version(self.name, number)
            except MlflowException as error:
                raise_unless(error, "RESOURCE_DOES_NOT_EXIST")  # its own process has deleted it

    def describe(self, version: Version, description: str, tags: Mapping[str, str]) -> None:
        """Sets the description of `version` and adds tags."""
        with translated_errors():
            for key, value in tags.items():
                self._client.set_model_version_tag(self.name, version.number, key, value)
            self._client.update_model_version(self.name, version.number, description=description[:MAX_DESCRIPTION])

    def download(self, number: str, folder: Path) -> Path:
        """Downloads the model folder of a version to a place below `folder`, and returns its path.

        Raises:
            UserError: the files are gone or have changed.
        """
        version = self.find(number)
        model = download_model(f"models:/{self.name}/{number}", folder)
        if version.content and hashing.content_sha256(model) != version.content:
            raise UserError(f"the files of {self.name} version {number} are not those that were registered")
        return model


def open_registry(name: str) -> Registry:
    """Opens the registry at MLFLOW_TRACKING_URI, or in mlflow.db.

    Raises:
        UserError: MLflow does not answer.
    """
    mlflow = client()
    return Registry(name, mlflow, Aliases(name, mlflow))


def _model_id(run: Run) -> str:
    """The id of the last model that was logged to the run."""
    models = run.outputs.model_outputs if run.outputs else []
    if not models:
        raise UserError(
            f"MLflow's run {run.info.run_id} has no model; delete the run, and 'earmark register' logs it again"
        )
    return models[-1].model_id


def _to_version(entity: ModelVersion, aliases: Mapping[str, str]) -> Version:
    number = str(entity.version)
    return Version(
        name=entity.name,
        number=number,
        content=entity.tags.get(CONTENT, ""),
        aliases=tuple(sorted(alias for alias, target in aliases.items() if target == number)),
        tags=entity.tags,
        registered=datetime.fromtimestamp(entity.creation_timestamp / 1000, UTC),
        run_id=entity.run_id or "",
    )


@dataclass(frozen=True)
class TrainedVersion:
    """A registered version by its title, and DVC's hash of the clips that it was trained on ("" if unknown)."""

    title: str
    accepted_md5: str


def trained_versions(experiment: str) -> list[TrainedVersion]:
    """Returns the versions of all registered models.

    Raises:
        UserError: MLflow does not answer.
    """
    client = connect(experiment)
    with translated_errors():
        return [_trained_version(client, entity) for entity in all_versions(client) if alias_log.ID not in entity.tags]


def _trained_version(client: MlflowClient, entity: ModelVersion) -> TrainedVersion:
    aliases = client.get_model_version(entity.name, entity.version).aliases
    title = f"{entity.name} version {entity.version}" + (f" ({', '.join(aliases)})" if aliases else "")
    return TrainedVersion(title, entity.tags.get("dvc.data/accepted.parquet", ""))
