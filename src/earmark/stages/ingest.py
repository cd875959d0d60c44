"""ingest: recordings from a source and an inbox into raw shards and a manifest."""

import os
import shutil
from dataclasses import replace
from datetime import UTC, datetime

import pandas as pd

from earmark.corpus import catalogue, layout, splits
from earmark.corpus.sources import Source, open_inbox, open_source
from earmark.params import Params
from earmark.stages.intake import Intake
from earmark.stages.paths import DOWNLOADS, RAW, SEEN
from earmark.stores import raw, shards
from earmark.stores.files import restore, sole_writer, whole_file, whole_folder
from earmark.stores.raw import Raw

SHOWN = 3
"""How many refused files the sentence names."""


class _NothingNew(Exception):
    """Leaves data/raw as it is."""


def ingest(params: Params) -> str:
    """Brings data/raw up to date with its source and its inbox; returns a sentence on what happened.

    Shards are added, never rewritten. data/raw changes as a whole or not at all, and stays untouched when nothing is
    new.
    """
    with sole_writer(RAW):
        restore(RAW)
        ledger = raw.read_ledger(RAW)
        source = open_source(params.dataset.source, params.seed, params.dataset.speakers, DOWNLOADS)
        if not params.dataset.inbox and _is_read(source, "source", ledger) and ledger == ledger | _identity(params, {}):
            return f"nothing new in {source.name}"
        return _update(params, source, ledger)


def _update(params: Params, source: Source, ledger: dict) -> str:
    before = raw.load(RAW)
    labels = frozenset(before.current["label"]) - {layout.NOISE_FOLDER}
    inbox = open_inbox(params.dataset.inbox, labels, DOWNLOADS) if params.dataset.inbox else None
    # The inbox first: what it has replaces what the source has under the same name.
    sources = {role: each for role, each in (("inbox", inbox), ("source", source)) if each}
    unread = {role: each for role, each in sources.items() if not _is_read(each, role, ledger)}
    identity = _identity(params, sources)
    intake = Intake(before, raw.read_memory(SEEN))
    try:
        with whole_folder(RAW, keep=before.shards) as folder:
            with shards.ShardWriter(folder) as writer:
                for role, each in unread.items():
                    intake.read(role, each, writer)
            after = _after(params, before, intake, intake.stored(writer.names))
            if after.same_as(before) and ledger == ledger | identity:
                raise _NothingNew
            for name in set(before.shards) - set(after.shards):
                (folder / name).unlink()
            raw.save(folder, after, identity)
    except _NothingNew:
        pass
    _clean_up(intake, sources)
    return _sentence(before, after, intake, [each.name for each in sources.values()])


def _is_read(source: Source, role: str, ledger: dict) -> bool:
    """Whether the ledger shows that this very source was read; one without a fingerprint is asked each time."""
    return bool(source.fingerprint) and ledger.get(role) == _signature(source)


def _identity(params: Params, sources: dict[str, Source]) -> dict:
    split = {"seed": params.seed, "split": params.split.model_dump(mode="json")}
    return split | {role: _signature(source) for role, source in sources.items()}


def _signature(source: Source) -> dict[str, str]:
    return {"name": source.name, "fingerprint": source.fingerprint}


def _after(params: Params, before: Raw, intake: Intake, stored: pd.DataFrame) -> Raw:
    current = catalogue.merged(before.current, intake.found("source"), intake.found("inbox"))
    layout.check_labels(sorted(set(current["label"]) - {layout.NOISE_FOLDER}))
    after = Raw(
        members=catalogue.manifest(before.members, current, stored, _today()),
        memory=intake.shared_memory(),
        lists={**before.lists, **intake.lists},
        refused=intake.refused(),
        forgotten=before.forgotten,
    )
    members = catalogue.with_splits(after.members, lambda ids: _splits(params, after, ids), shards.NOISE)
    return replace(after, members=members.astype(shards.COLUMNS))


def _splits(params: Params, after: Raw, ids: list[str]) -> list[str]:
    nobody: frozenset[str] = frozenset()
    validation, testing = (after.listed.get(split, nobody) for split in ("validation", "testing"))
    return splits.assign(ids, params.split.method, params.split.fractions, params.seed, validation, testing)


def _today() -> str:
    """The date, UTC, or that of SOURCE_DATE_EPOCH, with which the same inputs give the same bytes on any day."""
    epoch = os.environ.get("SOURCE_DATE_EPOCH")
    now = datetime.fromtimestamp(int(epoch), UTC) if epoch else datetime.now(UTC)
    return now.date().isoformat()


def _clean_up(intake: Intake, sources: dict[str, Source]) -> None:
    """What is of use to this machine only: checksums of local files, and what a bucket's objects waited in."""
    with whole_file(SEEN) as path:
        raw.write_memory(path, intake.local_memory())
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
    more = [f"  and {len(refused) - SHOWN} more, see {RAW / raw.REFUSED}"] * (len(refused) > SHOWN)
    return "\n".join([f"; {len(refused)} files are refused:", *shown, *more])
