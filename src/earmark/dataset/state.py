"""The state of data/raw: manifest, lists, refused and forgotten recordings, and the files from its inboxes."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

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

MemoryRow = tuple[str, str, str, str]
"""(source, path, version, sha256) of a file that need not be read again while its version stays the same."""
RefusedRow = tuple[str, str, str]
"""(path, reason, source) of a file that was refused."""


@dataclass(frozen=True)
class RawState:
    """The state of data/raw.

    Attributes:
        members: the manifest, retired rows included.
        memory: `source`, `path`, `version`, `sha256` of all files ever read from inboxes.
        lists: "source" or "inbox" -> split -> ids in its lists.
        refused: `path`, `reason`, `source` of refused files.
        forgotten: the records of `earmark forget`, oldest first.
    """

    members: pd.DataFrame
    memory: pd.DataFrame
    lists: Mapping[str, Mapping[str, list[str]]] = field(default_factory=dict)
    refused: pd.DataFrame = field(default_factory=lambda: refused_frame([]))
    forgotten: tuple[dict[str, Any], ...] = ()

    @property
    def current(self) -> pd.DataFrame:
        """The manifest rows that are not retired."""
        return self.members[~self.members["retired"]]

    @property
    def shards(self) -> list[str]:
        """File names of the shards in use, sorted."""
        return sorted(self.members["shard"].unique())

    @property
    def listed_ids(self) -> dict[str, frozenset[str]]:
        """Split -> ids in any of its lists."""
        merged: dict[str, set[str]] = {}
        for lists in self.lists.values():
            for split, ids in lists.items():
                merged.setdefault(split, set()).update(ids)
        return {split: frozenset(ids) for split, ids in merged.items()}

    @property
    def forgotten_sha256(self) -> frozenset[str]:
        """SHA-256 of every forgotten recording."""
        return frozenset(sha256 for record in self.forgotten for sha256 in record["sha256"])

    def same_as(self, other: "RawState") -> bool:
        """Whether both give the same files."""
        frames = ("members", "memory", "refused")
        return (self.lists, self.forgotten) == (other.lists, other.forgotten) and all(
            getattr(self, name).equals(getattr(other, name)) for name in frames
        )


def memory_frame(rows: list[MemoryRow]) -> pd.DataFrame:
    """`source`, `path`, `version` and `sha256`, sorted as they are stored."""
    return pd.DataFrame(sorted(rows), columns=_MEMORY_COLUMNS, dtype="str")


def refused_frame(rows: list[RefusedRow]) -> pd.DataFrame:
    """`path`, `reason` and `source`, sorted as they are stored."""
    return pd.DataFrame(sorted(rows), columns=_REFUSED_COLUMNS, dtype="str")


def load(folder: Path) -> RawState:
    """The state of `folder`; an empty state if nothing was ingested yet."""
    if not ingestion_record.read(folder):
        return RawState(_empty_members(), memory_frame([]))
    return RawState(
        members=shards.read_members(folder),
        # Not `read_memory`, which tolerates damage: the files of inboxes are recorded nowhere else.
        memory=pd.read_parquet(folder / MEMORY) if (folder / MEMORY).exists() else memory_frame([]),
        lists=_read_json(folder / LISTS, {}),
        refused=pd.read_csv(folder / REFUSED, dtype="str") if (folder / REFUSED).exists() else refused_frame([]),
        forgotten=tuple(_read_json(folder / FORGOTTEN, [])),
    )


def save(folder: Path, raw_state: RawState, identity: Mapping[str, object]) -> None:
    """Write a state to `folder`, which has the shards already.

    Args:
        folder: the folder.
        raw_state: the state.
        identity: the sources and settings that it was built from; written last, as the ingestion record.
    """
    shards.write_manifest(folder, raw_state.members)
    if len(raw_state.memory):
        write_memory(folder / MEMORY, raw_state.memory)
    if raw_state.lists:
        write_json(folder / LISTS, raw_state.lists)
    if len(raw_state.refused):
        raw_state.refused.to_csv(folder / REFUSED, index=False)
    if raw_state.forgotten:
        write_json(folder / FORGOTTEN, list(raw_state.forgotten))
    ingestion_record.write(folder, identity)


def read_memory(path: Path) -> pd.DataFrame:
    """The cached checksums of local files; empty if `path` is missing or damaged, since they only save reading."""
    try:
        return pd.read_parquet(path)
    except (FileNotFoundError, pyarrow.ArrowException):
        return memory_frame([])


def write_memory(path: Path, memory: pd.DataFrame) -> None:
    """Write the checksums of files to `path`."""
    memory.to_parquet(path, index=False)


def _empty_members() -> pd.DataFrame:
    return pd.DataFrame({name: pd.Series(dtype=kind) for name, kind in shards.COLUMNS.items()})


def _read_json(path: Path, default: Any) -> Any:
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else default
