"""Reads the files of a source into raw shards: new ones are stored; forgotten and refused ones are not."""

import hashlib
from collections.abc import Mapping

import pandas as pd

from earmark.audio.decode import DecodeError, facts
from earmark.dataset import layout, manifest, shards, state
from earmark.dataset.sources.source import Source
from earmark.dataset.sources.source_file import SourceFile
from earmark.dataset.state import RawState

_MEASURED = manifest.FACTS[:-1]


class Importer:
    """Reads sources into shards and keeps account of their files.

    Attributes:
        lists: "source" or "inbox", if it was read -> split -> ids in its lists.
        forgotten: number of files with a recording that `earmark forget` removed.
    """

    def __init__(self, before: RawState, local_cache: pd.DataFrame):
        self.lists: dict[str, dict[str, list[str]]] = {}
        self.forgotten = 0
        self._before, self._local_cache = before, local_cache
        self._stored_sha256 = set(before.members["sha256"])
        self._forgotten_sha256 = before.forgotten_sha256
        self._recordings: dict[str, pd.DataFrame] = {}
        self._stored: list[tuple[object, ...]] = []
        self._read: dict[str, list[state.MemoryRow]] = {}
        self._shared: set[str] = set()
        self._refused: list[state.RefusedRow] = []

    def read(self, role: str, source: Source, writer: shards.ShardWriter) -> None:
        """Read `source` as the "source" or the "inbox"; `writer` stores new content."""
        rows: list[state.MemoryRow] = []
        self._read[source.name] = rows
        if source.is_shared:
            self._shared.add(source.name)
        lists: dict[str, frozenset[str]] = {}
        forgotten = set()
        for file in source.entries(self._memory_of(source)):
            entry = layout.interpret(file.path)
            if file.refused:
                self._refused.append((file.path, file.refused, source.name))
            elif isinstance(entry, layout.SplitList):
                lists[entry.split] = layout.parse_list(file.read_content, file.path)
            elif sha256 := self._store(file, writer):
                rows.append((source.name, file.path, file.version, sha256))
            else:
                forgotten.add(file.path)
        self.forgotten += len(forgotten)
        self._recordings[role] = manifest.describe(state.memory_frame(rows), shards.NOISE)
        if lists or role == "source":
            self.lists[role] = {split: sorted(ids - forgotten) for split, ids in lists.items()}

    @property
    def labels(self) -> frozenset[str]:
        """The labels of the data set as far as it was read."""
        before = self._before.current
        if "source" in self._recordings:
            before = before[before["source"].map(manifest.is_inbox).astype(bool)]
        frames = (before, *self._recordings.values())
        return frozenset(label for frame in frames for label in frame["label"].unique()) - {layout.NOISE_FOLDER}

    def source_recordings(self) -> pd.DataFrame | None:
        """The recordings of the source (`manifest.describe`); None if it was not read."""
        return self._recordings.get("source")

    def all_recordings(self) -> pd.DataFrame:
        """The recordings of all sources that were read (`manifest.describe`)."""
        empty = manifest.describe(state.memory_frame([]), shards.NOISE)
        return pd.concat([empty, *self._recordings.values()], ignore_index=True)

    def stored(self, names: Mapping[str, str]) -> pd.DataFrame:
        """Content that was stored: `sha256`, place and facts; `names` are those of the closed writer."""
        stored = pd.DataFrame(self._stored, columns=["sha256", *manifest.PLACE, *manifest.FACTS])
        return stored.assign(shard=stored["shard"].map(names))

    @property
    def duplicates(self) -> int:
        """Number of files with the content and label of another file of their source."""
        frames = self._recordings.values()
        return sum(len(frame) - len(frame.drop_duplicates(["label", "sha256"])) for frame in frames)

    def refused(self, sources: set[str]) -> pd.DataFrame:
        """Files of these sources that are refused: `path`, `reason`, `source`.

        For a source that was not read now, they are those of the last time.
        """
        previous = self._before.refused[self._before.refused["source"].isin(sources - self._read.keys())]
        return state.refused_frame(self._refused + list(previous.itertuples(index=False, name=None)))

    def inbox_memory(self) -> pd.DataFrame:
        """All files that inboxes ever had: `source`, `path`, `version`, `sha256`; a later file replaces an earlier one.

        `version` is empty unless it is the same on every machine.
        """
        rows = [
            (name, path, version if name in self._shared else "", sha256)
            for name, files in self._read.items()
            if manifest.is_inbox(name)
            for _, path, version, sha256 in files
        ]
        both = pd.concat([self._before.memory, state.memory_frame(rows)], ignore_index=True)
        latest = both.drop_duplicates("path", keep="last")
        return state.memory_frame(list(latest.itertuples(index=False, name=None)))

    def local_memory(self) -> pd.DataFrame:
        """The files of local folders with their versions on this machine."""
        local = [row for name, rows in self._read.items() if name not in self._shared for row in rows if row[2]]
        others = self._local_cache[~self._local_cache["source"].isin(self._read)]
        return state.memory_frame(local + list(others.itertuples(index=False, name=None)))

    def _memory_of(self, source: Source) -> Mapping[str, tuple[str, str]]:
        rows = self._before.memory if source.is_shared else self._local_cache
        rows = rows[rows["source"] == source.name]
        files = zip(rows["path"], rows["version"], rows["sha256"], strict=True)
        return {path: (version, sha256) for path, version, sha256 in files if sha256 in self._stored_sha256}

    def _store(self, file: SourceFile, writer: shards.ShardWriter) -> str:
        """Store the content if it is new; return its SHA-256, or "" if it was forgotten."""
        sha256 = file.sha256 or hashlib.sha256(file.read_content).hexdigest()
        if sha256 in self._forgotten_sha256:
            return ""
        if sha256 not in self._stored_sha256:
            self._stored_sha256.add(sha256)
            place = writer.add(file.path, file.read_content, sha256)
            self._stored.append((sha256, *place, *_measure(file.read_content)))
        return sha256


def _measure(content: bytes) -> tuple[object, ...]:
    """The columns `manifest.FACTS` of a recording."""
    try:
        measured = facts(content)
    except DecodeError as error:
        return ("", *(0,) * (len(_MEASURED) - 1), str(error))
    return (*(getattr(measured, name) for name in _MEASURED), "")
