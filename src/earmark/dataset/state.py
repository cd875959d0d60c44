"""What data/raw holds beside its shards: where it came from, what its inbox held, and what was forgotten."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd
import pyarrow

from earmark.dataset import ingestion_record, shards
from earmark.io.files import write_json

MEMORY = "inbox.parquet"
LISTS = "lists.json"
REFUSED = "refused.csv"
FORGOTTEN = "forgotten.json"

_MEMORY_COLUMNS = ["source", "path", "version", "sha256"]
_REFUSED_COLUMNS = ["path", "reason", "source"]


@dataclass(frozen=True)
class Raw:
    """The state of data/raw.

    Attributes:
        members: the manifest, retired rows included.
        memory: `source`, `path`, `version`, `sha256` of all that inboxes ever brought.
        lists: for "source" and "inbox", split -> ids that its lists name.
        refused: `path`, `reason`, `source` of files that are not taken.
        forgotten: the records of `earmark forget`, oldest first.
    """

    members: pd.DataFrame
    memory: pd.DataFrame
    lists: Mapping[str, Mapping[str, list[str]]] = field(default_factory=dict)
    refused: pd.DataFrame = field(default_factory=lambda: refused_frame([]))
    forgotten: tuple[dict, ...] = ()

    @property
    def current(self) -> pd.DataFrame:
        """The manifest rows that count."""
        return self.members[~self.members["retired"]]

    @property
    def shards(self) -> list[str]:
        """File names of the shards in use, sorted."""
        return sorted(self.members["shard"].unique())

    @property
    def listed(self) -> dict[str, frozenset[str]]:
        """Split -> ids that any of the lists name for it."""
        found: dict[str, set[str]] = {}
        for role in self.lists.values():
            for split, ids in role.items():
                found.setdefault(split, set()).update(ids)
        return {split: frozenset(ids) for split, ids in found.items()}

    @property
    def forgotten_sha256(self) -> frozenset[str]:
        """SHA-256 of every recording that was forgotten."""
        return frozenset(sha256 for record in self.forgotten for sha256 in record["sha256"])

    def same_as(self, other: "Raw") -> bool:
        """Whether nothing would change on disk."""
        frames = ("members", "memory", "refused")
        return (self.lists, self.forgotten) == (other.lists, other.forgotten) and all(
            getattr(self, name).equals(getattr(other, name)) for name in frames
        )


def memory_frame(rows: list[tuple[str, str, str, str]]) -> pd.DataFrame:
    """(source, path, version, sha256) sorted as they are stored."""
    return pd.DataFrame(sorted(rows), columns=_MEMORY_COLUMNS, dtype="str")


def refused_frame(rows: list[tuple[str, str, str]]) -> pd.DataFrame:
    """(path, reason, source) sorted as they are stored."""
    return pd.DataFrame(sorted(rows), columns=_REFUSED_COLUMNS, dtype="str")


def load(folder: Path) -> Raw:
    """The state of `folder`; an empty one where its ledger has nothing."""
    if not ingestion_record.read(folder):
        return Raw(_empty_members(), memory_frame([]))
    return Raw(
        members=shards.read_members(folder),
        # Strictly, unlike what is remembered of local folders: all that an inbox brought stands nowhere else.
        memory=pd.read_parquet(folder / MEMORY) if (folder / MEMORY).exists() else memory_frame([]),
        lists=_read_json(folder / LISTS, {}),
        refused=pd.read_csv(folder / REFUSED, dtype="str") if (folder / REFUSED).exists() else refused_frame([]),
        forgotten=tuple(_read_json(folder / FORGOTTEN, [])),
    )


def save(folder: Path, raw: Raw, identity: Mapping[str, object]) -> None:
    """Writes `raw` and what it was made from into `folder`, which has the shards already; the ledger last."""
    shards.write_manifest(folder, raw.members)
    if len(raw.memory):
        write_memory(folder / MEMORY, raw.memory)
    if raw.lists:
        write_json(folder / LISTS, raw.lists)
    if len(raw.refused):
        raw.refused.to_csv(folder / REFUSED, index=False)
    if raw.forgotten:
        write_json(folder / FORGOTTEN, list(raw.forgotten))
    ingestion_record.write(folder, identity)


def read_memory(path: Path) -> pd.DataFrame:
    """What is remembered of local folders in `path`; nothing where it is missing or damaged, since it only saves
    reading."""
    try:
        return pd.read_parquet(path)
    except (FileNotFoundError, pyarrow.ArrowException):
        return memory_frame([])


def write_memory(path: Path, memory: pd.DataFrame) -> None:
    """Writes what is remembered to `path`."""
    memory.to_parquet(path, index=False)


def _empty_members() -> pd.DataFrame:
    return pd.DataFrame({name: pd.Series(dtype=kind) for name, kind in shards.COLUMNS.items()})


def _read_json(path: Path, otherwise: object) -> object:
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else otherwise
