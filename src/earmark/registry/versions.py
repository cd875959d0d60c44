"""The versions of one registered model in MLflow's registry; each distinct model content is registered once."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from earmark.errors import UserError
from earmark.io import hashing
from earmark.paths import ACCEPTED
from earmark.registry.alias_log.aliases import Aliases
from earmark.registry.alias_log.replay import ID
from earmark.tracking import connection
from earmark.tracking.registered_model import (
    RegisteredModel,
    StoredVersion,
    download_model,
    versions_of_all_models,
)
from earmark.tracking.runs import CONTENT
from earmark.versioning.dvc_lock import hash_tag

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

    def __init__(self, model: RegisteredModel, aliases: Aliases):
        self.name, self.aliases, self._model = model.name, aliases, model

    def versions(self) -> list[Version]:
        """Returns all versions, oldest first; an empty list if the model was never registered."""
        aliases = self._model.aliases()
        return [_to_version(version, aliases) for version in self._model.versions()]

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
        self._model.create(DESCRIPTION)
        self._model.add_model_of(run_id, {**tags, CONTENT: content})
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
                self._model.delete_version(other.number)
        return version

    def describe(self, version: Version, description: str, verdict: str) -> None:
        """Sets the verdict and the description of `version`."""
        self._model.set_tags(version.number, {VERDICT: verdict})
        self._model.describe(version.number, description)

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
    client = connection.client()
    model, log = RegisteredModel(name, client), RegisteredModel(f"{name}-moves", client)
    return Registry(model, Aliases(model, log))


def _to_version(stored: StoredVersion, aliases: Mapping[str, str]) -> Version:
    return Version(
        name=stored.name,
        number=stored.number,
        content=stored.tags.get(CONTENT, ""),
        aliases=tuple(sorted(alias for alias, number in aliases.items() if number == stored.number)),
        tags=stored.tags,
        registered=stored.created,
        run_id=stored.run_id,
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
    client = connection.connect(experiment)
    versions = [version for version in versions_of_all_models(client) if ID not in version.tags]
    aliases = {name: RegisteredModel(name, client).aliases() for name in {version.name for version in versions}}
    return [_trained_version(_to_version(version, aliases[version.name])) for version in versions]


def _trained_version(version: Version) -> TrainedVersion:
    title = version.title + (f" ({', '.join(version.aliases)})" if version.aliases else "")
    return TrainedVersion(title, version.tags.get(hash_tag(ACCEPTED), ""))
