"""Stores and reads the provenance of registered versions in MLflow: tags of the version, and files of its run."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

from earmark.registry import versions
from earmark.tracking import runs

FOLDER = "provenance"
"""The folder of a run's artifacts that holds provenance files, and the tag that names the version's subfolder."""


@dataclass(frozen=True)
class Provenance:
    """The provenance of a version: tags, and the content of files by name."""

    tags: Mapping[str, str]
    files: Mapping[str, bytes]


@dataclass(frozen=True)
class Registered:
    """A registered version. `run_tags` is None if its run is gone; `provenance.files` then has what still exists."""

    name: str
    number: str
    aliases: tuple[str, ...]
    run_id: str
    provenance: Provenance
    run_tags: Mapping[str, str] | None

    @property
    def title(self) -> str:
        """The name for people, such as "earmark version 3 (champion)"."""
        return f"{self.name} version {self.number}" + (f" ({', '.join(self.aliases)})" if self.aliases else "")

    @property
    def address(self) -> str:
        """MLflow's address of the version."""
        return f"models:/{self.name}/{self.number}"

    @property
    def candidate(self) -> str:
        """The candidate's name; "" if unknown."""
        return self.provenance.tags.get("candidate", "")


def save_files(run_id: str, files: Mapping[str, bytes]) -> dict[str, str]:
    """Logs the files to the run and returns the version's tag that says where.

    The folder is named by the files' content, since two processes may register the same model at the same time.
    """
    digest = hashlib.sha256()
    for name, content in sorted(files.items()):
        digest.update(f"{name} {len(content)}\n".encode() + content)
    run_folder = f"{FOLDER}/{digest.hexdigest()[:16]}"
    runs.log_files(run_id, run_folder, files)
    return {FOLDER: run_folder}


def read(name: str, number_or_alias: str) -> Registered:
    """Returns the version of the registered model `name` with this number or alias.

    Raises:
        UserError: there is no such version, or MLflow does not answer.
    """
    version = versions.open_registry(name).find(number_or_alias)
    run_tags = runs.tags_of(version.run_id) if version.run_id else None
    run_folder = version.tags.get(FOLDER)
    files = runs.files_of(version.run_id, run_folder) if run_tags is not None and run_folder else {}
    return Registered(name, version.number, version.aliases, version.run_id, Provenance(version.tags, files), run_tags)
