"""extract: raw shards to feature shards, for every front end that a candidate asks for."""

import shutil

import numpy as np
import pandas as pd

from earmark.audio import decode, front_ends
from earmark.audio.front_ends import FrontEnd
from earmark.learning.candidates import front_end_of
from earmark.params import Params
from earmark.stages.paths import FEATURES, RAW
from earmark.stores import features, shards

BLOCK_CLIPS = 256
"""Clips computed at a time, which bounds memory."""


def extract(params: Params) -> str:
    """Writes data/features/<front end>/ for each front end in use, of the raw shards that have none yet; returns a
    sentence."""
    members = shards.read_members(RAW)
    names = sorted({front_end_of(candidate) for candidate in params.train.candidates})
    _drop_unused(names)
    settings = [front_ends.front_end(name, params) for name in names]
    of_shards = dict(list(members.drop_duplicates(["shard", "offset"]).groupby("shard", sort=True)))
    missing = {each: features.missing(FEATURES / each.name, of_shards, each.settings()) for each in settings}
    for shard, rows in of_shards.items():
        lacking = [front_end for front_end in settings if shard in missing[front_end]]
        for name, values in _of_shard(rows, lacking).items():
            features.write(FEATURES / name, shard, values)
    for front_end in settings:
        features.write_noise(FEATURES / front_end.name, _noise(members[~members["retired"]], front_end))
    new = len({shard for shards_ in missing.values() for shard in shards_})
    return f"{new} of {len(of_shards)} shards were new, as {', '.join(names)}"


def _drop_unused(names: list[str]) -> None:
    for folder in FEATURES.iterdir() if FEATURES.exists() else ():
        if folder.name not in names:
            shutil.rmtree(folder)


def _of_shard(rows: pd.DataFrame, settings: list[FrontEnd]) -> dict[str, np.ndarray]:
    if not settings:
        return {}
    blocks = [rows.iloc[start : start + BLOCK_CLIPS] for start in range(0, len(rows), BLOCK_CLIPS)]
    parts: dict[str, list[np.ndarray]] = {front_end.name: [] for front_end in settings}
    for block in blocks:
        waveforms = _waveforms(block, settings[0].sample_rate_hz, settings[0].clip_samples)
        for front_end in settings:
            parts[front_end.name].append(front_ends.compute(waveforms, front_end).astype(np.float16))
    return {name: np.concatenate(values) for name, values in parts.items()}


def _waveforms(rows: pd.DataFrame, sample_rate_hz: int, clip_samples: int) -> np.ndarray:
    """Waveforms of `rows`; zeros where one cannot be decoded (validation keeps it from use) or is no clip."""
    result = np.zeros((len(rows), clip_samples), dtype=np.float32)
    usable = np.flatnonzero((rows["error"] == "") & (rows["split"] != shards.NOISE))
    chosen = rows.iloc[usable]
    for position, content in zip(usable, shards.read_recordings(RAW, chosen), strict=True):
        result[position] = decode.clip(content, sample_rate_hz, clip_samples)
    return result


def _noise(manifest: pd.DataFrame, front_end: FrontEnd) -> np.ndarray:
    rows = manifest[(manifest["split"] == shards.NOISE) & (manifest["error"] == "")]
    frames = [np.empty((0, front_end.bins), dtype=np.float32)]
    for content in shards.read_recordings(RAW, rows):
        try:
            waveform = decode.mono(content, front_end.sample_rate_hz)
        except decode.UndecodableAudio:  # hours at a very low sample rate, which are too much once resampled
            continue
        if front_ends.frame_count(len(waveform), front_end):
            frames.append(front_ends.compute(waveform[None], front_end)[0])
    return np.concatenate(frames)
