"""Stores and reads the provenance of registered versions in MLflow: files of the version's run, and a few tags."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass

from earmark.paths import ACCEPTED
from earmark.provenance.environment import SHA256
from earmark.registry import versions
from earmark.tracking import runs
from earmark.versioning.dvc_lock import hash_tag

FOLDER = "provenance"
"""The folder of a run's artifacts that holds provenance files, and the tag that names the version's subfolder."""
RECORD = "record.json"
"""The file that holds the record. Its SHA-256 is the name of the subfolder, so that a change is noticed."""
TAGS = ("git_commit", hash_tag(ACCEPTED))
"""Entries of the record that are tags of the version too: they are read for all versions at once."""


@dataclass(frozen=True)
class Provenance:
    """The provenance of a version: a record of facts by name, and the content of files by name.

    If it was read and is not intact, the record has the version's tags only.
    """

    record: Mapping[str, str]
    files: Mapping[str, bytes]
    is_intact: bool = True


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
        return self.provenance.record.get("candidate", "")


def save(run_id: str, provenance: Provenance) -> dict[str, str]:
    """Logs the record and the files to the run; returns the tags of the version.

    The folder is named by the record's content, since two processes may register the same model at the same time.
    """
    record = json.dumps(dict(sorted(provenance.record.items())), indent=2, ensure_ascii=False).encode()
    run_folder = f"{FOLDER}/{hashlib.sha256(record).hexdigest()}"
    runs.log_files(run_id, run_folder, {**provenance.files, RECORD: record})
    return {FOLDER: run_folder, **{name: provenance.record[name] for name in TAGS if name in provenance.record}}


def read(name: str, number_or_alias: str) -> Registered:
    """Returns the version of the registered model `name` with this number or alias.

    The record is record.json and the version's tags; only the tags if record.json is missing or was changed.

    Raises:
        UserError: there is no such version, or MLflow does not answer.
    """
    version = versions.open_registry(name).find(number_or_alias)
    run_tags = runs.tags_of(version.run_id) if version.run_id else None
    run_folder = version.tags.get(FOLDER)
    files = runs.files_of(version.run_id, run_folder) if run_tags is not None and run_folder else {}
    sha256 = (run_folder or "").rpartition("/")[2]
    content = files.get(RECORD, b"")
    facts = _facts(content) if hashlib.sha256(content).hexdigest() == sha256 else None
    is_intact = facts is not None
    record = {**version.tags, SHA256 + RECORD: sha256, **(facts or {})}
    provenance = Provenance(record, files, is_intact)
    return Registered(name, version.number, version.aliases, version.run_id, provenance, run_tags)


def _facts(content: bytes) -> dict[str, str] | None:
    """The facts of a record; None if `content` is not one."""
    try:
        facts = json.loads(content)
    except ValueError:
        return None
    is_record = isinstance(facts, dict) and all(isinstance(fact, str) for fact in facts.values())
    return facts if is_record else None
