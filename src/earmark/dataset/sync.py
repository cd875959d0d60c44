"""data/raw brought up to date: what its source and its inbox have now, beside what it had before."""

import os
import shutil
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime

import pandas as pd

from earmark.dataset import ingestion_record, layout, manifest, shards, splits, state
from earmark.dataset.importer import Intake
from earmark.dataset.sources import Source, open_inbox
from earmark.dataset.state import Raw
from earmark.errors import UserError
from earmark.io.files import whole_file, whole_folder
from earmark.params import Params
from earmark.paths import DOWNLOADS, RAW, SEEN

SHOWN = 3
"""How many refused files the sentence names."""


class _UnchangedError(Exception):
    """Leaves data/raw as it is."""


def grow(params: Params, source: Source, recorded: Mapping[str, object]) -> str:
    """Reads what is new in the source and the inbox into data/raw; returns a sentence on what happened."""
    before = state.load(RAW)
    intake = Intake(before, state.read_memory(SEEN))
    sources = {"source": source}
    try:
        with whole_folder(RAW, keep=before.shards) as folder:
            with shards.ShardWriter(folder) as writer:
                _read(intake, "source", source, writer, recorded)
                if params.dataset.inbox:
                    sources["inbox"] = open_inbox(params.dataset.inbox, intake.labels, DOWNLOADS)
                    _read(intake, "inbox", sources["inbox"], writer, recorded)
            identity = ingestion_record.splitting(params) | {role: each.signature for role, each in sources.items()}
            after = _after(params, before, intake, writer.names, {each.name for each in sources.values()})
            if after.same_as(before) and recorded == recorded | identity:
                raise _UnchangedError
            for path in folder.glob("*.tar"):
                if path.name not in after.shards:
                    path.unlink()
            state.save(folder, after, identity)
    except _UnchangedError:
        pass
    _clean_up(intake, sources)
    return _sentence(before, after, intake, [each.name for each in sources.values()])


def _read(
    intake: Intake, role: str, source: Source, writer: shards.ShardWriter, recorded: Mapping[str, object]
) -> None:
    if not ingestion_record.has_read(recorded, role, source.signature):
        intake.read(role, source, writer)


def _after(params: Params, before: Raw, intake: Intake, names: Mapping[str, str], asked: set[str]) -> Raw:
    brought = intake.brought()
    current = manifest.merged(before.current, intake.source(), manifest.described(brought, shards.NOISE))
    layout.check_labels(sorted(set(current["label"]) - {layout.NOISE_FOLDER}))
    after = Raw(
        members=manifest.manifest(before.members, current, intake.met(), intake.stored(names), _today()),
        memory=brought,
        lists={role: lists for role, lists in {**before.lists, **intake.lists}.items() if lists},
        refused=intake.refused(asked),
        forgotten=before.forgotten,
    )
    members = manifest.with_splits(after.members, lambda ids: _splits(params, after, ids), shards.NOISE)
    return replace(after, members=members.astype(shards.COLUMNS))


def _splits(params: Params, after: Raw, ids: list[str]) -> list[str]:
    nobody: frozenset[str] = frozenset()
    validation, testing = (after.listed.get(split, nobody) for split in ("validation", "testing"))
    return splits.assign(ids, params.split.method, params.split.fractions, params.seed, validation, testing)


def _today() -> str:
    """The date, UTC, or that of SOURCE_DATE_EPOCH, with which the same inputs give the same bytes on any day."""
    epoch = os.environ.get("SOURCE_DATE_EPOCH")
    try:
        now = datetime.fromtimestamp(int(epoch), UTC) if epoch else datetime.now(UTC)
    except (ValueError, OverflowError, OSError):
        raise UserError(f"SOURCE_DATE_EPOCH is {epoch!r}; allowed are seconds since 1970") from None
    return now.date().isoformat()


def _clean_up(intake: Intake, sources: dict[str, Source]) -> None:
    """What is of use to this machine only: checksums of local files, and what a bucket's objects waited in."""
    with whole_file(SEEN) as path:
        state.write_memory(path, intake.local_memory())
    for source in sources.values():
        if source.staging:
            shutil.rmtree(source.staging, ignore_errors=True)


def _sentence(before: Raw, after: Raw, intake: Intake, names: list[str]) -> str:
    known = pd.MultiIndex.from_frame(before.current[["id", "sha256"]])
    clips = after.current[after.current["split"] != shards.NOISE]
    new = clips[~pd.MultiIndex.from_frame(clips[["id", "sha256"]]).isin(known)]
    where = " and ".join(sorted(names))
    said = f"{len(new)} new clips from {where}" if len(new) else f"nothing new in {where}"
    parts = [f"{said}: {len(clips)} clips of {clips['label'].nunique()} labels"] if len(new) else [said]
    gone = len(before.current) - int(known.isin(pd.MultiIndex.from_frame(after.current[["id", "sha256"]])).sum())
    parts += [f"{gone} gone or replaced"] * bool(gone)
    parts += [f"{intake.duplicates} duplicates left out"] * bool(len(new) and intake.duplicates)
    parts += [f"{intake.forgotten} that were forgotten are still there: remove them"] * bool(intake.forgotten)
    return ", ".join(parts) + _refusals(after.refused)


def _refusals(refused: pd.DataFrame) -> str:
    if refused.empty:
        return ""
    shown = [f"  {row.path}: {row.reason}" for row in refused.head(SHOWN).itertuples()]
    more = [f"  and {len(refused) - SHOWN} more, see {RAW / state.REFUSED}"] * (len(refused) > SHOWN)
    return "\n".join([f"; {len(refused)} files are refused:", *shown, *more])
