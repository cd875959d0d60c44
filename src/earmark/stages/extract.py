"""extract: raw shards to feature shards, for every front end that a candidate asks for."""

import shutil
from collections.abc import Iterator
from contextlib import ExitStack

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
PIECE_FRAMES = 8192
"""Frames of background noise computed at a time."""


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
        _write_shard(shard, rows, [front_end for front_end in settings if shard in missing[front_end]])
    for front_end in settings:
        _write_noise(members[~members["retired"]], front_end)
    new = len({shard for shards_ in missing.values() for shard in shards_})
    return f"{new} of {len(of_shards)} shards were new, as {', '.join(names)}"


def _drop_unused(names: list[str]) -> None:
    for folder in FEATURES.iterdir() if FEATURES.exists() else ():
        if folder.name not in names:
            shutil.rmtree(folder)


def _write_shard(shard: str, rows: pd.DataFrame, settings: list[FrontEnd]) -> None:
    if not settings:
        return
    with ExitStack() as stack:
        append = {each: stack.enter_context(features.writing(FEATURES / each.name, shard, each)) for each in settings}
        for start in range(0, len(rows), BLOCK_CLIPS):
            block = rows.iloc[start : start + BLOCK_CLIPS]
            waveforms = _waveforms(block, settings[0].sample_rate_hz, settings[0].clip_samples)
            for front_end in settings:
                append[front_end](front_ends.compute(waveforms, front_end))


def _waveforms(rows: pd.DataFrame, sample_rate_hz: int, clip_samples: int) -> np.ndarray:
    """Waveforms of `rows`; zeros where one cannot be decoded, which validation keeps from use."""
    result = np.zeros((len(rows), clip_samples), dtype=np.float32)
    usable = np.flatnonzero(rows["error"] == "")
    for position, content in zip(usable, shards.read_recordings(RAW, rows.iloc[usable]), strict=True):
        result[position] = decode.clip(content, sample_rate_hz, clip_samples)
    return result


def _write_noise(recordings: pd.DataFrame, front_end: FrontEnd) -> None:
    """Background noise as one run of frames."""
    rows = recordings[(recordings["split"] == shards.NOISE) & (recordings["error"] == "")]
    with features.writing_noise(FEATURES / front_end.name, front_end) as append:
        for content in shards.read_recordings(RAW, rows):
            try:
                waveform = decode.mono(content, front_end.sample_rate_hz)
            except decode.UndecodableAudio:  # hours at a very low sample rate, which are too much once resampled
                continue
            for piece in _pieces(waveform, front_end):
                append(front_ends.compute(piece[None], front_end)[0])


def _pieces(waveform: np.ndarray, front_end: FrontEnd) -> Iterator[np.ndarray]:
    """Stretches of `waveform` whose frames, one stretch after the other, are all of its frames."""
    frames = front_ends.frame_count(len(waveform), front_end)
    for first in range(0, frames, PIECE_FRAMES):
        last = min(first + PIECE_FRAMES, frames) - 1
        start = first * front_end.stride_samples
        yield waveform[start : last * front_end.stride_samples + front_end.window_samples]
