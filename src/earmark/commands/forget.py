"""A person's recordings out of the data set: their bytes, what was computed from them, and who still has them."""

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import pandas as pd

from earmark.dataset import ingestion_record, manifest, shards, splits, state
from earmark.dataset.sources import STAGING
from earmark.dataset.state import Raw
from earmark.errors import UserError
from earmark.features import feature_shards
from earmark.io.files import (
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
    PREDICTIONS,
    QUARANTINE,
    QUARANTINED,
    RAW,
    REGISTERED,
    REPORT,
    SEEN,
    features_folder,
    raw_folder,
)
from earmark.versioning import dvc_cache, dvc_lock


def forget(params: Params, speaker: str) -> str:
    """Removes every recording of `speaker` from data/; returns what was done, and what is left to do elsewhere.

    Only the shards that hold them are rewritten. The record that stays, data/raw/forgotten.json, has the date, the
    count, and the SHA-256 of each recording, so that they are not ingested again; nothing that names the person.
    UserError where there is no such speaker, or the registry does not answer: nothing has changed then.
    """
    with exclusive_writer(RAW), exclusive_writer(features_folder(params)):
        restore(RAW)
        recorded = ingestion_record.read(RAW)
        before = state.load(RAW)
        gone = _recordings_of(before, state.read_memory(SEEN), speaker)
        sha256 = frozenset(gone["sha256"])
        trained = _trained_on(params, sha256)
        cached = _cached_objects(sha256, speaker)
        touched = before.members[before.members["sha256"].isin(sha256)]["shard"].unique()
        elsewhere = _copies(params, touched)
        # First what was computed: a run that is killed in between is simply made again.
        _remove_derived(params, sha256, speaker, touched)
        _rewrite(before, speaker, sha256, touched, ingestion_record.identity_of(recorded))
    return _report(gone, speaker, touched, trained, cached, elsewhere)


def _is_of(speaker: str, paths: pd.Series) -> pd.Series:
    """Which paths are of recordings of `speaker`, by their names."""
    return paths.map(splits.speaker_of) == speaker


def _recordings_of(before: Raw, seen: pd.DataFrame, speaker: str) -> pd.DataFrame:
    """The rows of the speaker's recordings, retired ones too, and of others that are the same recordings."""
    if before.members.empty:
        raise UserError(f"{RAW} has no recordings; 'dvc checkout {RAW}' or 'dvc pull' brings them back")
    met = pd.concat([before.memory, seen])
    theirs = {*before.members.loc[before.members["speaker"] == speaker, "sha256"]} if speaker else set()
    theirs |= {*met.loc[_is_of(speaker, met["path"]), "sha256"]}
    rows = before.members[before.members["sha256"].isin(theirs) & (before.members["split"] != shards.NOISE)]
    if rows.empty:
        raise UserError(f"{RAW} has no recording of a speaker {speaker!r}; 'earmark ls' lists them")
    return rows


def _rewrite(before: Raw, speaker: str, sha256: frozenset[str], touched: Sequence[str], identity: dict) -> None:
    removed = before.members["sha256"].isin(sha256)
    moving = before.members[before.members["shard"].isin(touched) & ~removed]
    content = moving.drop_duplicates("sha256").sort_values(["shard", "offset"])
    with whole_folder(RAW, keep=[name for name in before.shards if name not in touched]) as folder:
        with shards.ShardWriter(folder) as writer:
            recordings = zip(content.itertuples(), shards.read_recordings(RAW, content), strict=True)
            places = {row.sha256: writer.add(row.id, bytes_, row.sha256) for row, bytes_ in recordings}
        state.save(folder, _without(before, speaker, sha256, places, writer.names), identity)


def _without(before: Raw, speaker: str, sha256: frozenset[str], places: dict[str, tuple], names: dict[str, str]) -> Raw:
    members = before.members[~before.members["sha256"].isin(sha256)].copy()
    moved = members["sha256"].isin(places)
    for position, column in enumerate(manifest.PLACE):
        members.loc[moved, column] = members.loc[moved, "sha256"].map(lambda each, at=position: places[each][at])
    members.loc[moved, "shard"] = members.loc[moved, "shard"].map(names)
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
            role: {split: [each for each in ids if splits.speaker_of(each) != speaker] for split, ids in lists.items()}
            for role, lists in before.lists.items()
        },
        refused=before.refused[~_is_of(speaker, before.refused["path"])].reset_index(drop=True),
        forgotten=(*before.forgotten, record),
    )


def _remove_derived(params: Params, sha256: frozenset[str], speaker: str, touched: Sequence[str]) -> None:
    """What was computed from the recordings, what killed runs left of it, and what was fetched and not yet stored; the
    stages make what is missing anew."""
    clear_leftovers(RAW.parent)
    for staging in DOWNLOADS.glob(f"{STAGING}*"):
        shutil.rmtree(staging)
    for folder in {FEATURES, features_folder(params)}:
        feature_shards.remove(folder, touched)
        if is_local(folder):
            clear_leftovers(folder)
    for each in sha256:
        (QUARANTINE / f"{each}.wav").unlink(missing_ok=True)
    if QUARANTINED.exists():
        rows = pd.read_csv(QUARANTINED, dtype="str", keep_default_na=False)
        with whole_file(QUARANTINED) as path:
            rows[~rows["sha256"].isin(sha256) & ~_is_of(speaker, rows["id"])].to_csv(path, index=False)
    if ACCEPTED.exists():
        accepted = pd.read_parquet(ACCEPTED)
        with whole_file(ACCEPTED) as path:
            accepted[~accepted["sha256"].isin(sha256)].to_parquet(path, index=False)
    for path in (PREDICTIONS, REPORT, REGISTERED):
        path.unlink(missing_ok=True)
    seen = state.read_memory(SEEN)
    with whole_file(SEEN) as path:
        state.write_memory(path, seen[~seen["sha256"].isin(sha256)])


def _copies(params: Params, touched: Sequence[str]) -> list[str]:
    """Shards with the recordings where extraction reads raw shards, if that is a copy of data/raw."""
    copy = raw_folder(params)
    if is_local(copy) and copy.resolve() == RAW.resolve():
        return []
    with storage_errors(copy):
        return [str(copy / shard) for shard in touched if (copy / shard).exists()]


@dataclass(frozen=True)
class _Trained:
    """Registered versions that were trained on the recordings, and those of which it cannot be told."""

    on_them: list[str]
    unknown: list[str]


def _trained_on(params: Params, sha256: frozenset[str]) -> _Trained:
    from earmark.registry import versions

    found = _Trained([], [])
    for version in versions.trained_versions(params.register_.name):
        path = dvc_cache.cached_file(version.accepted_md5)
        if path is None:
            found.unknown.append(version.title)
            continue
        rows = pd.read_parquet(path, columns=["sha256", "split"])
        if not sha256.isdisjoint(rows.loc[rows["split"] != "testing", "sha256"]):
            found.on_them.append(version.title)
    return found


def _cached_objects(sha256: frozenset[str], speaker: str) -> list[str]:
    """Objects of DVC's cache, by path within it, that hold the recordings, what was computed from them, or names: of
    every version of data/ that the cache knows."""
    listings = dvc_cache.cached_listings()
    manifests = [listing for listing in listings if shards.MANIFEST in listing]
    stems = {stem for listing in manifests for stem in _stems_holding(listing, sha256)} | sha256
    files = [item for listing in listings for item in listing.items()]
    recorded = dvc_lock.dvc_hashes()
    files += [(path.name, recorded.get(f"dvc:{path.as_posix()}", "")) for path in (ACCEPTED, PREDICTIONS)]
    found = {md5 for name, md5 in files if Path(name).stem in stems or _is_named(name, md5, sha256, speaker)}
    # Whom a page lets hear is not looked for in it.
    report = recorded.get(f"dvc:{REPORT.as_posix()}", "")
    found |= {report} if dvc_cache.cached_file(report) else set()
    return sorted(map(dvc_cache.object_path, found))


def _stems_holding(listing: Mapping[str, str], sha256: frozenset[str]) -> set[str]:
    """Names, without suffix, of the shards that hold any of the recordings in one version of data/raw."""
    manifest = dvc_cache.cached_file(listing[shards.MANIFEST])
    rows = pd.read_parquet(manifest, columns=["sha256", "shard"]) if manifest else pd.DataFrame(columns=["sha256"])
    return {Path(name).stem for name in rows.loc[rows["sha256"].isin(sha256), "shard"].unique()} if len(rows) else set()


def _is_named(name: str, md5: str, sha256: frozenset[str], speaker: str) -> bool:
    path = dvc_cache.cached_file(md5) if name.endswith((".parquet", ".csv", ".json")) else None
    if path is None:
        return False
    if name.endswith(".parquet"):
        return not sha256.isdisjoint(pd.read_parquet(path, columns=["sha256"])["sha256"])
    return speaker in path.read_text(encoding="utf-8")


def _report(
    gone: pd.DataFrame,
    speaker: str,
    touched: Sequence[str],
    trained: _Trained,
    cached: list[str],
    elsewhere: list[str],
) -> str:
    lines = [f"{gone['sha256'].nunique()} recordings are gone; shards written anew without them: {len(touched)}"]
    twins = sorted(gone.loc[gone["speaker"] != speaker, "id"].unique())
    if twins:
        lines += [f"gone too, since they are the same recordings under other names: {', '.join(twins)}"]
    lines += [f"trained on them: {', '.join(trained.on_them) or 'no registered version that is known'}"]
    lines += [
        "MLflow keeps, of every run that was evaluated, report.html, in which the worst mistakes can be heard, and of"
        " each version's run provenance/…/validation.json, which names clips"
    ]
    if trained.unknown:
        lines += [f"cannot be told of: {', '.join(trained.unknown)}, whose training data is not in DVC's cache"]
    where = " and ".join(sorted(gone["source"].unique()))
    lines += [
        f"they may still be in {where}: remove them there; earmark does not take them again",
        "next: 'dvc repro' and 'earmark register' make what was computed from them anew, models and reports too",
    ]
    if elsewhere:
        lines += [
            f"bring that copy of {RAW} up to date, its manifest too; these shards of it still hold them:",
            *(f"  {each}" for each in elsewhere),
        ]
    if cached:
        lines += [
            "then 'dvc gc --workspace' removes them from DVC's cache and 'dvc gc --workspace --cloud' from its remote",
            "('--remote NAME' from another), with all else that no present output needs; still there are:",
            *(f"  {each}" for each in cached),
        ]
    return "\n".join(lines)
