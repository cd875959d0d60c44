"""ingest: recordings from a source into raw shards and a manifest."""

import hashlib
import json
from pathlib import Path

import pandas as pd

from earmark.audio.decode import UndecodableAudio, facts
from earmark.corpus import layout, splits
from earmark.corpus.sources import Source, open_source
from earmark.params import Params
from earmark.stages.paths import DOWNLOADS, RAW
from earmark.stores import shards
from earmark.stores.files import whole_folder, write_json

IDENTITY = "source.json"
FORMAT_VERSION = 1
"""Raised when the same source would give other bytes."""


def ingest(params: Params) -> str:
    """Brings data/raw up to date with its source; returns a sentence on what happened. Untouched when nothing is
    new."""
    source = open_source(params.dataset.source, params.seed, params.dataset.speakers, DOWNLOADS)
    identity = {
        "format_version": FORMAT_VERSION,
        "source": source.name,
        "fingerprint": source.fingerprint,
        "seed": params.seed,
        "split": params.split.model_dump(mode="json"),
    }
    if _is_whole(RAW, identity):
        return f"nothing new in {source.name}"
    with whole_folder(RAW) as folder:
        manifest, duplicates = _store(source, params, folder)
        write_json(folder / IDENTITY, identity | {"bytes": _sizes(folder)})
    clips = manifest[manifest["split"] != shards.NOISE]
    skipped = f", {duplicates} duplicates left out" if duplicates else ""
    return f"{len(clips)} clips of {clips['label'].nunique()} labels from {source.name}{skipped}"


def _is_whole(folder: Path, identity: dict) -> bool:
    """Whether `folder` came from this very source and has every file at its full size."""
    try:
        recorded = json.loads((folder / IDENTITY).read_text(encoding="utf-8"))
        return recorded == identity | {"bytes": _sizes(folder)}
    except (FileNotFoundError, ValueError):
        return False


def _sizes(folder: Path) -> dict[str, int]:
    return {path.name: path.stat().st_size for path in sorted(folder.iterdir()) if path.name != IDENTITY}


def _store(source: Source, params: Params, folder: Path) -> tuple[pd.DataFrame, int]:
    lists: dict[str, frozenset[str]] = {}
    rows: list[dict] = []
    duplicates = 0
    seen: set[tuple[str, str]] = set()
    with shards.ShardWriter(folder) as writer:
        for path, content in source.entries():
            entry = layout.interpret(path)
            if isinstance(entry, layout.SplitList):
                lists[entry.split] = layout.parse_list(content, path)
            elif entry is not None:
                row = _row(entry, content, source.name)
                if (row["label"], row["sha256"]) in seen:
                    duplicates += 1
                    continue
                seen.add((row["label"], row["sha256"]))
                row["shard"], row["offset"], row["length"] = writer.add(row["id"], content)
                rows.append(row)
    layout.check_labels(sorted({row["label"] for row in rows if row["split"] != shards.NOISE}))
    manifest = pd.DataFrame(_with_splits(rows, params, lists)).sort_values(["shard", "offset"], ignore_index=True)
    shards.write_manifest(folder, manifest)
    return manifest, duplicates


def _row(entry: layout.Clip | layout.Noise, content: bytes, source: str) -> dict:
    noise = isinstance(entry, layout.Noise)
    row = {
        "id": f"{layout.NOISE_FOLDER}/{entry.file_name}" if noise else entry.id,
        "label": layout.NOISE_FOLDER if noise else entry.label,
        "speaker": "" if noise else splits.speaker_of(entry.file_name),
        "split": shards.NOISE if noise else "",
        "sha256": hashlib.sha256(content).hexdigest(),
        "source": source,
    }
    return row | _facts(content)


def _facts(content: bytes) -> dict:
    names = ("format", "sample_rate_hz", "channels", "frames", "seconds", "peak", "rms", "clipped_fraction")
    try:
        found = facts(content)
    except UndecodableAudio as error:
        return dict.fromkeys(names, 0) | {"format": "", "error": str(error)}
    return {name: getattr(found, name) for name in names} | {"error": ""}


def _with_splits(rows: list[dict], params: Params, lists: dict[str, frozenset[str]]) -> list[dict]:
    clips = [row for row in rows if row["split"] != shards.NOISE]
    assigned = splits.assign(
        [row["id"] for row in clips],
        params.split.method,
        params.split.fractions,
        params.seed,
        lists.get("validation", frozenset()),
        lists.get("testing", frozenset()),
    )
    for row, split in zip(clips, assigned, strict=True):
        row["split"] = split
    return rows
