"""The door to MLflow's model registry: the versions of one registered model, each distinct content once."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from mlflow import MlflowClient
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException

from earmark.errors import UserError
from earmark.io import hashing
from earmark.registry import alias_log
from earmark.registry.aliases import MAX_DESCRIPTION, Aliases
from earmark.tracking.connection import answering, client, connect, require
from earmark.tracking.models import all_versions, download_model, make_model
from earmark.tracking.runs import CONTENT

VERDICT = "verdict"
"""The tag of a version that was judged."""
DESCRIPTION = (
    "A sound classifier: float32 waveforms in [-1, 1] to labels and probabilities, front end and labels inside."
)


@dataclass(frozen=True)
class Version:
    """A registered version of the model `name`; `content` is the SHA-256 of its model folder, "" if unknown."""

    name: str
    number: str
    content: str
    aliases: tuple[str, ...]
    tags: Mapping[str, str]
    registered: datetime
    run_id: str

    @property
    def title(self) -> str:
        """As people name it."""
        return f"{self.name} version {self.number}"


class Registry:
    """The versions of the registered model `name`; `aliases` moves its aliases.

    Every method raises UserError where MLflow does not answer.
    """

    def __init__(self, name: str, client: MlflowClient, aliases: Aliases):
        self.name, self.aliases, self._client = name, aliases, client

    def versions(self) -> list[Version]:
        """Every version, the first one first; none where the model has never been registered."""
        aliases = self.aliases.in_mlflow()
        with answering():
            return [_version(each, aliases) for each in all_versions(self._client, self.name)]

    def find(self, wanted: str) -> Version:
        """The version with this number or alias; UserError where there is none."""
        found = self.versions()
        for version in found:
            if wanted == version.number or wanted in version.aliases:
                return version
        there = [*(each.number for each in found), *sorted({alias for each in found for alias in each.aliases})]
        raise UserError(
            f"{self.name} has no version or alias {wanted!r}; allowed are {', '.join(there)}"
            if there
            else f"{self.name} has no version {wanted!r}, nor any other; 'earmark register' makes one"
        )

    def with_content(self, content: str) -> Version | None:
        """The version with this content, or None; the first, while two processes are making one."""
        return next((each for each in self.versions() if each.content == content), None)

    def add(self, run_id: str, content: str, tags: Mapping[str, str]) -> Version:
        """Registers the model of a run, of this content, as a new version with tags; where another process has done so
        at the same time, the first of the two stays, and is what is returned."""
        with answering():
            make_model(self._client, self.name, DESCRIPTION)
            model_id = self._client.get_run(run_id).outputs.model_outputs[-1].model_id
            self._client.create_model_version(
                self.name, f"models:/{model_id}", run_id, tags={**tags, CONTENT: content}, model_id=model_id
            )
        return self.sole(self.with_content(content))

    def sole(self, version: Version) -> Version:
        """`version`, once later ones of its content are gone that a process made at the same time, and was perhaps
        killed: they have no verdict, and no alias was ever moved to them."""
        moved = {move.after for move in self.aliases.record().counted}
        for twin in self.versions():
            is_twin = twin.content == version.content and int(twin.number) > int(version.number)
            if is_twin and not twin.aliases and VERDICT not in twin.tags and twin.number not in moved:
                self._delete(twin.number)
        return version

    def _delete(self, number: str) -> None:
        with answering():
            try:
                self._client.delete_model_version(self.name, number)
            except MlflowException as error:
                require(error, "RESOURCE_DOES_NOT_EXIST")  # its own process was faster

    def describe(self, version: Version, description: str, tags: Mapping[str, str]) -> None:
        """Gives `version` a description and more tags."""
        with answering():
            for key, value in tags.items():
                self._client.set_model_version_tag(self.name, version.number, key, value)
            self._client.update_model_version(self.name, version.number, description=description[:MAX_DESCRIPTION])

    def download(self, number: str, folder: Path) -> Path:
        """The model folder of a version, below `folder`; UserError where its files are gone or not what they were."""
        version = self.find(number)
        model = download_model(f"models:/{self.name}/{number}", folder)
        if version.content and hashing.content_sha256(model) != version.content:
            raise UserError(f"the files of {self.name} version {number} are not those that were registered")
        return model


def open_registry(name: str) -> Registry:
    """The registry at MLFLOW_TRACKING_URI, or in mlflow.db; UserError where it does not answer."""
    mlflow = client()
    return Registry(name, mlflow, Aliases(name, mlflow))


def _version(found: ModelVersion, aliases: Mapping[str, str]) -> Version:
    number = str(found.version)
    mine = tuple(sorted(alias for alias, target in aliases.items() if target == number))
    registered = datetime.fromtimestamp(found.creation_timestamp / 1000, UTC)
    return Version(found.name, number, found.tags.get(CONTENT, ""), mine, found.tags, registered, found.run_id or "")


@dataclass(frozen=True)
class TrainedVersion:
    """A registered version as people name it, and DVC's hash of the clips that it was trained on, "" if unknown."""

    title: str
    accepted_md5: str


def trained_versions(experiment: str) -> list[TrainedVersion]:
    """Every version in the registry, of whatever name; UserError where the registry does not answer."""
    client = connect(experiment)
    with answering():
        return [_trained_version(client, each) for each in all_versions(client) if alias_log.ID not in each.tags]


def _trained_version(client: MlflowClient, found: ModelVersion) -> TrainedVersion:
    aliases = client.get_model_version(found.name, found.version).aliases
    title = f"{found.name} version {found.version}" + (f" ({', '.join(aliases)})" if aliases else "")
    return TrainedVersion(title, found.tags.get("dvc.data/accepted.parquet", ""))
