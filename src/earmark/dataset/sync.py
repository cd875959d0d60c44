"""Brings data/raw up to date with its source and its inbox."""

import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pandas as pd

from earmark.dataset import ingestion_record, layout, manifest, shards, splits, state
from earmark.dataset.importer import Importer
from earmark.dataset.sources import open_inbox
from earmark.dataset.sources.source import Context, Source
from earmark.dataset.state import RawState
from earmark.errors import UserError
from earmark.io.files import whole_file, whole_folder
from earmark.params import Params
from earmark.paths import DOWNLOADS, LOCAL_CACHE, RAW

MAX_SHOWN = 3
"""How many refused files the message names."""


class _UnchangedError(Exception):
    """Nothing is new: data/raw stays as it is."""


def synchronise(params: Params, source: Source, record: dict[str, Any]) -> str:
    """Read new recordings of the source and the inbox into data/raw; return a sentence that says what happened.

    Args:
        params: the parameters.
        source: the source that they name.
        record: the ingestion record of data/raw.
    """
    before = state.load(RAW)
    importer = Importer(before, state.read_memory(LOCAL_CACHE))
    sources = {"source": source}
    try:
        with whole_folder(RAW, keep=before.shards) as folder:
            with shards.ShardWriter(folder) as writer:
                _read(importer, "source", source, writer, record)
                if params.dataset.inbox:
                    context = Context(params.seed, params.dataset.speakers, DOWNLOADS, importer.labels)
                    sources["inbox"] = open_inbox(params.dataset.inbox, context)
                    _read(importer, "inbox", sources["inbox"], writer, record)
            signatures = {role: opened.signature for role, opened in sources.items()}
            identity = ingestion_record.split_settings(params) | signatures
            after = _new_state(params, before, importer, writer.names, {opened.name for opened in sources.values()})
            if after.same_as(before) and record == record | identity:
                raise _UnchangedError
            for path in folder.glob("*.tar"):
                if path.name not in after.shards:
                    path.unlink()
            state.save(folder, after, identity)
    except _UnchangedError:
        pass
    _clean_up(importer, sources)
    return _sentence(before, after, importer, [opened.name for opened in sources.values()])


def _read(
    importer: Importer, role: str, source: Source, writer: shards.ShardWriter, record: Mapping[str, object]
) -> None:
    if not ingestion_record.is_recorded(record, role, source.signature):
        importer.read(role, source, writer)


def _new_state(
    params: Params, before: RawState, importer: Importer, names: Mapping[str, str], sources: set[str]
) -> RawState:
    memory, read = importer.inbox_memory(), importer.all_recordings()
    current = manifest.merge(before.current, importer.source_recordings(), manifest.describe(memory, shards.NOISE))
    layout.check_labels(sorted(set(current["label"]) - {layout.NOISE_FOLDER}))
    after = RawState(
        members=manifest.build(before.members, current, read, importer.stored(names), _today()),
        memory=memory,
        lists={role: lists for role, lists in {**before.lists, **importer.lists}.items() if lists},
        refused=importer.refused(sources),
        forgotten=before.forgotten,
    )
    members = manifest.with_splits(after.members, lambda ids: _splits(params, after, ids), shards.NOISE)
    return replace(after, members=members.astype(shards.COLUMNS))


def _splits(params: Params, after: RawState, ids: list[str]) -> Sequence[str]:
    empty: frozenset[str] = frozenset()
    validation, test = (after.listed_ids.get(split, empty) for split in ("validation", "test"))
    return splits.assign(ids, params.split.method, params.split.fractions, params.seed, validation, test)


def _today() -> str:
    """The date (UTC); SOURCE_DATE_EPOCH sets it, so that the same inputs give the same bytes on any day."""
    epoch = os.environ.get("SOURCE_DATE_EPOCH")
    try:
        now = datetime.fromtimestamp(int(epoch), UTC) if epoch else datetime.now(UTC)
    except (ValueError, OverflowError, OSError):
        raise UserError(f"SOURCE_DATE_EPOCH is {epoch!r}; expected seconds since 1970") from None
    return now.date().isoformat()


def _clean_up(importer: Importer, sources: dict[str, Source]) -> None:
    """Save the checksums of local files, and remove the folders to which objects of a bucket were fetched."""
    with whole_file(LOCAL_CACHE) as path:
        state.write_memory(path, importer.local_memory())
    for source in sources.values():
        if source.staging:
            shutil.rmtree(source.staging, ignore_errors=True)


def _sentence(before: RawState, after: RawState, importer: Importer, names: list[str]) -> str:
    old = pd.MultiIndex.from_frame(before.current[["id", "sha256"]])
    clips = after.current[after.current["split"] != shards.NOISE]
    new = clips[~pd.MultiIndex.from_frame(clips[["id", "sha256"]]).isin(old)]
    where = " and ".join(sorted(names))
    summary = f"{len(new)} new clips from {where}" if len(new) else f"nothing new in {where}"
    parts = [f"{summary}: {len(clips)} clips of {clips['label'].nunique()} labels"] if len(new) else [summary]
    retired = len(before.current) - int(old.isin(pd.MultiIndex.from_frame(after.current[["id", "sha256"]])).sum())
    parts += [f"{retired} gone or replaced"] * bool(retired)
    parts += [f"{importer.duplicates} duplicates left out"] * bool(len(new) and importer.duplicates)
    parts += [f"{importer.forgotten} that were forgotten are still there: remove them"] * bool(importer.forgotten)
    return ", ".join(parts) + _refusals(after.refused)


def _refusals(refused: pd.DataFrame) -> str:
    if refused.empty:
        return ""
    shown = [f"  {row.path}: {row.reason}" for row in refused.head(MAX_SHOWN).itertuples()]
    more = [f"  and {len(refused) - MAX_SHOWN} more, see {RAW / state.REFUSED}"] * (len(refused) > MAX_SHOWN)
    return "\n".join([f"; {len(refused)} files are refused:", *shown, *more])
