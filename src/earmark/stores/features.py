"""Feature shards: float16 arrays that belong to one raw shard and one front end, and the settings they were made
with."""

import json
from pathlib import Path

import numpy as np
import pandas as pd

from earmark.errors import UserError
from earmark.stores.files import whole_file, write_json

SETTINGS = "settings.json"
NOISE = "noise.npy"


def write(folder: Path, raw_shard: str, values: np.ndarray) -> None:
    """Writes the features of one raw shard, float (clips, frames, bins), as float16."""
    _save(folder / f"{Path(raw_shard).stem}.npy", values.astype(np.float16))


def write_noise(folder: Path, values: np.ndarray) -> None:
    """Writes background noise as one run of frames, float (frames, bins)."""
    _save(folder / NOISE, values.astype(np.float16))


def write_settings(folder: Path, settings: dict) -> None:
    """Writes what the features of `folder` were made with."""
    write_json(folder / SETTINGS, settings)


def require_settings(folder: Path, settings: dict) -> None:
    """UserError naming the first difference where `folder` was made with other settings."""
    try:
        found = json.loads((folder / SETTINGS).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{folder} holds no features; run 'dvc repro extract' first") from None
    for key, wanted in settings.items():
        if found.get(key) != wanted:
            raise UserError(f"{folder} was made with {key} {found.get(key)!r}, not {wanted!r}; run 'dvc repro extract'")


def read(folder: Path, manifest: pd.DataFrame, ids: pd.Series) -> np.ndarray:
    """Features of the clips `ids`, in that order: float16 (clips, frames, bins). A shard's rows are its manifest
    rows."""
    positions = manifest.assign(row=manifest.groupby("shard").cumcount()).set_index("id").loc[ids, ["shard", "row"]]
    result: np.ndarray | None = None
    for shard, group in positions.reset_index(drop=True).groupby("shard"):
        stored = np.load(folder / f"{Path(shard).stem}.npy", mmap_mode="r", allow_pickle=False)
        if result is None:
            result = np.empty((len(ids), *stored.shape[1:]), dtype=np.float16)
        result[group.index] = stored[group["row"]]
    return result


def read_noise(folder: Path) -> np.ndarray:
    """Background noise, float16 (frames, bins); no frames where the data set has none."""
    return np.load(folder / NOISE, allow_pickle=False)


def _save(path: Path, values: np.ndarray) -> None:
    with whole_file(path) as temporary:
        np.save(temporary, values, allow_pickle=False)
