"""Where registered versions come from, as MLflow keeps it: tags of the version, and files of its run."""

import hashlib
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from earmark.registry import versions
from earmark.tracking import connection

FOLDER = "provenance"
"""The tag with the folder in which a run's artifacts have the files, and that which all such folders lie in."""


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


@connection.translated_errors()
def save_files(run_id: str, files: Mapping[str, bytes]) -> dict[str, str]:
    """Stores the files with the run, in a folder that is theirs by content, since two may register the same model at
    once; returns the version's tag that says where."""
    digest = hashlib.sha256()
    with tempfile.TemporaryDirectory(prefix="earmark-") as folder:
        for name, content in sorted(files.items()):
            digest.update(f"{name} {len(content)}\n".encode() + content)
            (Path(folder) / name).write_bytes(content)
        kept = f"{FOLDER}/{digest.hexdigest()[:16]}"
        MlflowClient().log_artifacts(run_id, folder, kept)
    return {FOLDER: kept}


def read(name: str, wanted: str) -> Registered:
    """The version of the registered model `name` with this number or alias; UserError where there is none, or the
    registry does not answer."""
    version = versions.open_registry(name).find(wanted)
    run_tags = _run_tags(version.run_id)
    kept = version.tags.get(FOLDER)
    files = _files(version.run_id, kept) if run_tags is not None and kept else {}
    return Registered(name, version.number, version.aliases, version.run_id, Origin(version.tags, files), run_tags)


@connection.translated_errors()
def _run_tags(run_id: str) -> dict[str, str] | None:
    if not run_id:
        return None
    try:
        run = MlflowClient().get_run(run_id)
    except MlflowException as error:
        connection.raise_unless(error, "RESOURCE_DOES_NOT_EXIST")
        return None
    return dict(run.data.tags) if run.info.lifecycle_stage == "active" else None


@connection.translated_errors()
def _files(run_id: str, kept: str) -> dict[str, bytes]:
    """Those files that are left."""
    client = MlflowClient()
    with tempfile.TemporaryDirectory(prefix="earmark-") as folder:
        paths = [entry.path for entry in client.list_artifacts(run_id, kept) if not entry.is_dir]
        found = [Path(client.download_artifacts(run_id, path, folder)) for path in paths]
        return {path.name: path.read_bytes() for path in found}
