"""`earmark forget`: removes a speaker's recordings and everything computed from them; lists where copies remain."""

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import pandas as pd

from earmark.dataset import ingestion_record, manifest, shards, splits, state
from earmark.dataset.sources.s3 import STAGING
from earmark.dataset.state import RawState
from earmark.errors import UserError
from earmark.features import feature_shards
from earmark.io.files import (
    AnyPath,
    clear_leftovers,
    exclusive_writer,
    is_local,
    restore,
    storage_errors,
    whole_file,
    whole_folder,
)
from earmark.params import Params
from earmark.paths import (
    ACCEPTED,
    DOWNLOADS,
    FEATURES,
    LOCAL_CACHE,
    PREDICTIONS,
    QUARANTINE,
    QUARANTINED,
    RAW,
    REGISTERED,
    REPORT,
    features_folder,
    is_raw_copied,
    raw_folder,
)
from earmark.versioning import dvc_cache, dvc_lock


def forget(params: Params, speaker: str) -> str:
    """Removes every recording of `speaker` from data/; returns what was done, and what remains to be done elsewhere.

    Only the shards that hold the recordings are rewritten. data/raw/forgotten.json keeps the date, the count and the
    SHA-256 of each recording, so that they are not ingested again. Nothing in it names the person.

    Raises:
        UserError: there is no such speaker, or the registry does not answer. Nothing has changed then.
    """
    with exclusive_writer(RAW), exclusive_writer(features_folder(params)):
        restore(RAW)
        record = ingestion_record.read(RAW)
        before = state.load(RAW)
        removed = _recordings_of(before, state.read_memory(LOCAL_CACHE), speaker)
        sha256 = frozenset(removed["sha256"])
        versions = _versions_trained_on(params, sha256)
        cached = _cached_objects(sha256, speaker)
        shard_names = before.members[before.members["sha256"].isin(sha256)]["shard"].unique()
        copies = _shard_copies(params, shard_names)
        # Derived files first: if this run is killed in between, running it again does the rest.
        _remove_derived(params, sha256, speaker, shard_names)
        _rewrite(before, speaker, sha256, shard_names, ingestion_record.identity_of(record))
    return _report(removed, speaker, shard_names, versions, cached, copies)


def _are_of(speaker: str, paths: pd.Series) -> pd.Series:
    """Whether each path is the name of a recording of `speaker`."""
    return paths.map(splits.speaker_of) == speaker


def _recordings_of(before: RawState, local_cache: pd.DataFrame, speaker: str) -> pd.DataFrame:
    """The rows of the speaker's recordings, also retired ones, and of identical recordings under other names."""
    if before.members.empty:
        raise UserError(f"{RAW} has no recordings; 'dvc checkout {RAW}' or 'dvc pull' brings them back")
    paths = pd.concat([before.memory, local_cache])
    sha256 = {*before.members.loc[before.members["speaker"] == speaker, "sha256"]} if speaker else set()
    sha256 |= {*paths.loc[_are_of(speaker, paths["path"]), "sha256"]}
    rows = before.members[before.members["sha256"].isin(sha256) & (before.members["split"] != shards.NOISE)]
    if rows.empty:
        raise UserError(f"{RAW} has no recording of a speaker {speaker!r}; 'earmark ls' lists them")
    return rows


def _rewrite(
    before: RawState, speaker: str, sha256: frozenset[str], shard_names: Sequence[str], identity: Mapping[str, object]
) -> None:
    is_removed = before.members["sha256"].isin(sha256)
    staying = before.members[before.members["shard"].isin(shard_names) & ~is_removed]
    content = staying.drop_duplicates("sha256").sort_values(["shard", "offset"])
    with whole_folder(RAW, keep=[name for name in before.shards if name not in shard_names]) as folder:
        with shards.ShardWriter(folder) as writer:
            recordings = zip(content.itertuples(), shards.read_recordings(RAW, content), strict=True)
            places = {row.sha256: writer.add(row.id, bytes_, row.sha256) for row, bytes_ in recordings}
        state.save(folder, _without(before, speaker, sha256, places, writer.names), identity)


def _without(
    before: RawState,
    speaker: str,
    sha256: frozenset[str],
    places: Mapping[str, tuple[object, ...]],
    shard_names: Mapping[str, str],
) -> RawState:
    """The state without the recordings; those that moved have new `places`, and their shards new names."""
    members = before.members[~before.members["sha256"].isin(sha256)].copy()
    moved = members["sha256"].isin(places)
    for position, column in enumerate(manifest.PLACE):
        members.loc[moved, column] = members.loc[moved, "sha256"].map(lambda key, at=position: places[key][at])
    members.loc[moved, "shard"] = members.loc[moved, "shard"].map(shard_names)
    record = {
        "forgotten_on": datetime.now(UTC).date().isoformat(),
        "recordings": len(sha256),
        "sha256": sorted(sha256),
    }
    return replace(
        before,
        members=members.astype(shards.COLUMNS).sort_values(["shard", "offset", "id", "sha256"], ignore_index=True),
        memory=before.memory[~before.memory["sha256"].isin(sha256)].reset_index(drop=True),
        lists={
            role: {split: [name for name in ids if splits.speaker_of(name) != speaker] for split, ids in lists.items()}
            for role, lists in before.lists.items()
        },
        refused=before.refused[~_are_of(speaker, before.refused["path"])].reset_index(drop=True),
        forgotten=(*before.forgotten, record),
    )


def _remove_derived(params: Params, sha256: frozenset[str], speaker: str, shard_names: Sequence[str]) -> None:
    """Removes what was computed from the recordings, leftovers of killed runs, and downloads that were not stored yet.

    The stages make again what is missing.
    """
    clear_leftovers(RAW.parent)
    for staging in DOWNLOADS.glob(f"{STAGING}*"):
        shutil.rmtree(staging)
    folders: set[AnyPath] = {FEATURES, features_folder(params)}
    for folder in folders:
        feature_shards.remove(folder, shard_names)
        if is_local(folder):
            clear_leftovers(folder)
    for recording in sha256:
        (QUARANTINE / f"{recording}.wav").unlink(missing_ok=True)
    if QUARANTINED.exists():
        rows = pd.read_csv(QUARANTINED, dtype="str", keep_default_na=False)
        with whole_file(QUARANTINED) as path:
            rows[~rows["sha256"].isin(sha256) & ~_are_of(speaker, rows["id"])].to_csv(path, index=False)
    if ACCEPTED.exists():
        accepted = pd.read_parquet(ACCEPTED)
        with whole_file(ACCEPTED) as path:
            accepted[~accepted["sha256"].isin(sha256)].to_parquet(path, index=False)
    for path in (PREDICTIONS, REPORT, REGISTERED):
        path.unlink(missing_ok=True)
    local_cache = state.read_memory(LOCAL_CACHE)
    with whole_file(LOCAL_CACHE) as path:
        state.write_memory(path, local_cache[~local_cache["sha256"].isin(sha256)])


def _shard_copies(params: Params, shard_names: Sequence[str]) -> list[str]:
    """The shards with the recordings in extract.raw, if that is a copy of data/raw."""
    if not is_raw_copied(params):
        return []
    copy = raw_folder(params)
    with storage_errors(copy):
        return [str(copy / shard) for shard in shard_names if (copy / shard).exists()]


@dataclass(frozen=True)
class _Versions:
    """Titles of registered versions: those that were trained on the recordings, and those that may have been."""

    trained: list[str]
    unknown: list[str]


def _versions_trained_on(params: Params, sha256: frozenset[str]) -> _Versions:
    from earmark.registry import versions

    titles = _Versions([], [])
    for version in versions.trained_versions(params.register_.name):
        path = dvc_cache.cached_file(version.accepted_md5)
        if path is None:
            titles.unknown.append(version.title)
            continue
        rows = pd.read_parquet(path, columns=["sha256", "split"])
        if not sha256.isdisjoint(rows.loc[rows["split"].isin(("training", "validation")), "sha256"]):
            titles.trained.append(version.title)
    return titles


def _cached_objects(sha256: frozenset[str], speaker: str) -> list[str]:
    """Paths within DVC's cache of all objects that hold the recordings, what was computed from them, or their names.

    Every version of data/ in the cache is searched.
    """
    listings = dvc_cache.cached_listings()
    manifests = [listing for listing in listings if shards.MANIFEST in listing]
    stems = {stem for listing in manifests for stem in _stems_holding(listing, sha256)} | sha256
    files = [item for listing in listings for item in listing.items()]
    recorded = dvc_lock.output_hashes()
    files += [(path.name, recorded.get(path.as_posix(), "")) for path in (ACCEPTED, PREDICTIONS)]
    md5s = {md5 for name, md5 in files if Path(name).stem in stems or _is_named(name, md5, sha256, speaker)}
    # The report may play any speaker's clips, so it is always listed.
    report = recorded.get(REPORT.as_posix(), "")
    md5s |= {report} if dvc_cache.cached_file(report) else set()
    return sorted(map(dvc_cache.object_path, md5s))


def _stems_holding(listing: Mapping[str, str], sha256: frozenset[str]) -> set[str]:
    """Names, without suffix, of the shards that hold one of the recordings in a version of data/raw."""
    manifest = dvc_cache.cached_file(listing[shards.MANIFEST])
    rows = pd.read_parquet(manifest, columns=["sha256", "shard"]) if manifest else pd.DataFrame(columns=["sha256"])
    return {Path(name).stem for name in rows.loc[rows["sha256"].isin(sha256), "shard"].unique()} if len(rows) else set()


def _is_named(name: str, md5: str, sha256: frozenset[str], speaker: str) -> bool:
    """Whether a table or text file in the cache lists one of the recordings, or names the speaker."""
    path = dvc_cache.cached_file(md5) if name.endswith((".parquet", ".csv", ".json")) else None
    if path is None:
        return False
    if name.endswith(".parquet"):
        return not sha256.isdisjoint(pd.read_parquet(path, columns=["sha256"])["sha256"])
    return speaker in path.read_text(encoding="utf-8")


def _report(
    removed: pd.DataFrame,
    speaker: str,
    shard_names: Sequence[str],
    versions: _Versions,
    cached: list[str],
    copies: list[str],
) -> str:
    lines = [f"removed {removed['sha256'].nunique()} recordings; rewrote {len(shard_names)} shards without them"]
    twins = sorted(removed.loc[removed["speaker"] != speaker, "id"].unique())
    if twins:
        lines += [f"also removed, because they are the same recordings under other names: {', '.join(twins)}"]
    lines += [f"trained on them: {', '.join(versions.trained) or 'no registered version, as far as DVC knows'}"]
    if versions.unknown:
        lines += [f"perhaps trained on them: {', '.join(versions.unknown)}; DVC's cache lacks their training data"]
    lines += [
        "MLflow keeps, for every evaluated run, report.html, which plays the worst mistakes, and for each version's run"
        " provenance/…/validation.json, which names clips"
    ]
    sources = " and ".join(sorted(removed["source"].unique()))
    lines += [
        f"they may still be in {sources}: remove them there; earmark does not ingest them again",
        "next: 'dvc repro' and 'earmark register' make features, models and reports again without them",
    ]
    if copies:
        lines += [
            f"before that, 'earmark upload' deletes them from the copy of {RAW}; these shards of it still hold them:",
            *(f"  {shard}" for shard in copies),
        ]
    if cached:
        lines += [
            "then 'dvc gc --workspace' removes them from DVC's cache, and 'dvc gc --workspace --cloud' from its remote",
            "('--remote NAME' for another one), with all else that no current output needs; the cache still has:",
            *(f"  {path}" for path in cached),
        ]
    return "\n".join(lines)
