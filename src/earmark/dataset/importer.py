"""What one ingestion reads: each file of a source stored, known, forgotten, refused, or a list of a split."""

import hashlib
from collections.abc import Mapping

import pandas as pd

from earmark.audio.decode import DecodeError, facts
from earmark.dataset import layout, manifest, shards, state
from earmark.dataset.sources import Source
from earmark.dataset.sources.source_file import Found
from earmark.dataset.state import Raw

_MEASURED = manifest.FACTS[:-1]


class Intake:
    """Reads sources into shards, and keeps account of what was met.

    Attributes:
        lists: for each role that was read, split -> ids that its lists name.
        forgotten: how many recordings were met that `earmark forget` removed.
    """

    def __init__(self, before: Raw, seen: pd.DataFrame):
        self.lists: dict[str, dict[str, list[str]]] = {}
        self.forgotten = 0
        self._before, self._seen = before, seen
        self._known = set(before.members["sha256"])
        self._unwanted = before.forgotten_sha256
        self._listings: dict[str, pd.DataFrame] = {}
        self._stored: list[tuple] = []
        self._read: dict[str, list[tuple[str, str, str, str]]] = {}
        self._shared: set[str] = set()
        self._refused: list[tuple[str, str, str]] = []

    def read(self, role: str, source: Source, writer: shards.ShardWriter) -> None:
        """Reads `source` as the "source" or the "inbox"; new content goes to `writer`."""
        rows = self._read[source.name] = []
        if source.is_shared:
            self._shared.add(source.name)
        lists, unwanted = {}, set()
        for found in source.entries(self._memory_of(source)):
            entry = layout.interpret(found.path)
            if found.refused:
                self._refused.append((found.path, found.refused, source.name))
            elif isinstance(entry, layout.SplitList):
                lists[entry.split] = layout.parse_list(found.content, found.path)
            elif sha256 := self._store(found, writer):
                rows.append((source.name, found.path, found.version, sha256))
            else:
                unwanted.add(found.path)
        self.forgotten += len(unwanted)
        self._listings[role] = manifest.described(state.memory_frame(rows), shards.NOISE)
        if lists or role == "source":
            self.lists[role] = {split: sorted(ids - unwanted) for split, ids in lists.items()}

    @property
    def labels(self) -> frozenset[str]:
        """The labels that the data set has by now."""
        before = self._before.current
        if "source" in self._listings:
            before = before[before["source"].map(manifest.is_inbox).astype(bool)]
        frames = (before, *self._listings.values())
        return frozenset(label for each in frames for label in each["label"].unique()) - {layout.NOISE_FOLDER}

    def source(self) -> pd.DataFrame | None:
        """What the source has, as `catalogue.merged` takes it; None where it was not read."""
        return self._listings.get("source")

    def met(self) -> pd.DataFrame:
        """Everything that any of the sources has, as `catalogue.described`."""
        nothing = manifest.described(state.memory_frame([]), shards.NOISE)
        return pd.concat([nothing, *self._listings.values()], ignore_index=True)

    def stored(self, names: Mapping[str, str]) -> pd.DataFrame:
        """Content that was stored: `sha256`, place and facts; `names` are the closed writer's."""
        stored = pd.DataFrame(self._stored, columns=["sha256", *manifest.PLACE, *manifest.FACTS])
        return stored.assign(shard=stored["shard"].map(names))

    @property
    def duplicates(self) -> int:
        """Files whose content was there under the same label."""
        return sum(len(each) - len(each.drop_duplicates(["label", "sha256"])) for each in self._listings.values())

    def refused(self, asked: set[str]) -> pd.DataFrame:
        """Files of the sources `asked` that are not taken: `path`, `reason`, `source`; those of one that was not read
        stay."""
        kept = self._before.refused[self._before.refused["source"].isin(asked - self._read.keys())]
        return state.refused_frame(self._refused + list(kept.itertuples(index=False, name=None)))

    def brought(self) -> pd.DataFrame:
        """All that inboxes ever brought: `source`, `path`, `version` where it is the same on every machine, `sha256`.

        What arrives under the name of what was there takes its place."""
        rows = [
            (name, path, version if name in self._shared else "", sha256)
            for name, read in self._read.items()
            if manifest.is_inbox(name)
            for _, path, version, sha256 in read
        ]
        both = pd.concat([self._before.memory, state.memory_frame(rows)], ignore_index=True)
        kept = both.drop_duplicates("path", keep="last")
        return state.memory_frame(list(kept.itertuples(index=False, name=None)))

    def local_memory(self) -> pd.DataFrame:
        """What is remembered of this machine's folders."""
        local = [row for name, rows in self._read.items() if name not in self._shared for row in rows if row[2]]
        kept = self._seen[~self._seen["source"].isin(self._read)]
        return state.memory_frame(local + list(kept.itertuples(index=False, name=None)))

    def _memory_of(self, source: Source) -> Mapping[str, tuple[str, str]]:
        rows = self._before.memory if source.is_shared else self._seen
        rows = rows[rows["source"] == source.name]
        remembered = zip(rows["path"], rows["version"], rows["sha256"], strict=True)
        return {path: (version, sha256) for path, version, sha256 in remembered if sha256 in self._known}

    def _store(self, found: Found, writer: shards.ShardWriter) -> str:
        """The SHA-256 of the content, stored if it is new; "" where it was forgotten."""
        sha256 = found.sha256 or hashlib.sha256(found.content).hexdigest()
        if sha256 in self._unwanted:
            return ""
        if sha256 not in self._known:
            self._known.add(sha256)
            self._stored.append((sha256, *writer.add(found.path, found.content, sha256), *_facts(found.content)))
        return sha256


def _facts(content: bytes) -> tuple:
    try:
        found = facts(content)
    except DecodeError as error:
        return ("", *(0,) * (len(_MEASURED) - 1), str(error))
    return (*(getattr(found, name) for name in _MEASURED), "")
