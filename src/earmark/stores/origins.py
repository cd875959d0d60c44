"""Where registered versions come from, as MLflow keeps it: tags of the version, and files of its run."""

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from mlflow import MlflowClient
from mlflow.artifacts import download_artifacts
from mlflow.exceptions import MlflowException

from earmark.stores import registry

FOLDER = "provenance"
"""Where a run's artifacts have the files."""


@dataclass(frozen=True)
class Origin:
    """What a version is registered with: its tags, and the content of files by name."""

    tags: Mapping[str, str]
    files: Mapping[str, bytes]


@dataclass(frozen=True)
class Registered:
    """A version in the registry; `run_tags` is None where its run is gone, and `files` has what is left of them."""

    name: str
    number: str
    aliases: tuple[str, ...]
    run_id: str
    origin: Origin
    run_tags: Mapping[str, str] | None

    @property
    def title(self) -> str:
        """As people name it."""
        return f"{self.name} version {self.number}" + (f" ({', '.join(self.aliases)})" if self.aliases else "")

    @property
    def address(self) -> str:
        """As MLflow names it."""
        return f"models:/{self.name}/{self.number}"

    @property
    def candidate(self) -> str:
        """Which candidate it is; "" if unknown."""
        return self.origin.tags.get("candidate", "")


def keep(run_id: str, files: Mapping[str, bytes]) -> None:
    """Stores the files with the run; those of an earlier registration with the same names give way."""
    with tempfile.TemporaryDirectory(prefix="earmark-") as folder:
        for name, content in files.items():
            (Path(folder) / name).write_bytes(content)
        MlflowClient().log_artifacts(run_id, folder, FOLDER)


def read(name: str, wanted: str) -> Registered:
    """The version of the registered model `name` with this number or alias; UserError where there is none, or the
    registry does not answer."""
    version = registry.open_registry(name).find(wanted)
    run_tags = _run_tags(version.run_id)
    files = _files(version.run_id) if run_tags is not None else {}
    return Registered(name, version.number, version.aliases, version.run_id, Origin(version.tags, files), run_tags)


def _run_tags(run_id: str) -> dict[str, str] | None:
    try:
        run = MlflowClient().get_run(run_id)
    except MlflowException:
        return None
    return dict(run.data.tags) if run.info.lifecycle_stage == "active" else None


def _files(run_id: str) -> dict[str, bytes]:
    with tempfile.TemporaryDirectory(prefix="earmark-") as folder:
        try:
            root = Path(download_artifacts(run_id=run_id, artifact_path=FOLDER, dst_path=folder))
        except (MlflowException, OSError):
            return {}
        return {path.name: path.read_bytes() for path in root.iterdir() if path.is_file()}
