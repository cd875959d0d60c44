"""extract: raw shards to feature shards, for every front end that a candidate asks for."""

import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import pandas as pd

from earmark.audio import decode, front_ends, numpy_front_end
from earmark.audio.front_ends import FrontEnd
from earmark.learning.candidates import front_end_of
from earmark.params import Params
from earmark.progress import progress
from earmark.stages import shard_features
from earmark.stages.paths import features_folder, raw_folder
from earmark.stages.shard_features import Job
from earmark.stores import cluster, features, shards
from earmark.stores.files import clear_leftovers, is_local, reachable, sole_writer

PIECE_FRAMES = 1024
"""Frames of background noise computed at a time."""


def extract(params: Params) -> str:
    """Writes a folder of features for each front end in use, of the raw shards that have none; returns a sentence."""
    raw, folder = raw_folder(params), features_folder(params)
    wanted = front_ends_in_use(params)
    with reachable(raw, folder), sole_writer(folder):
        if is_local(folder):
            clear_leftovers(folder)
        members = shards.read_members(raw)
        jobs = jobs_left(params, members)
        _run(jobs, params.extract.scheduler)
        noise = members[~members["retired"] & (members["split"] == shards.NOISE) & (members["error"] == "")]
        for each in wanted:
            features.write_noise(folder / each.name, _noise(raw, noise, each), each)
    return f"{len(jobs)} of {members['shard'].nunique()} shards were new, as {', '.join(each.name for each in wanted)}"


def front_ends_in_use(params: Params) -> tuple[FrontEnd, ...]:
    """What shards must hold for the candidates, sorted by name."""
    names = {front_end_of(candidate) for candidate in params.train.candidates}
    stored = {front_ends.front_end(name, params).stored for name in names}
    return tuple(sorted(stored, key=lambda each: each.name))


def jobs_left(params: Params, members: pd.DataFrame) -> list[Job]:
    """What is left to do for the recordings in `members`, the manifest. Features of other settings, and of raw shards
    that are gone, leave their folder."""
    raw, folder, wanted = raw_folder(params), features_folder(params), front_ends_in_use(params)
    of_shards = dict(list(members.drop_duplicates(["shard", "offset"]).groupby("shard", sort=True)))
    counts = {shard: len(rows) for shard, rows in of_shards.items()}
    for other in folder.iterdir() if folder.exists() else ():
        if other.is_dir() and other.name not in {each.name for each in wanted}:
            features.set_aside(other)
    lacking: dict[str, list[FrontEnd]] = {}
    for each in wanted:
        features.prepare(folder / each.name, each.settings())
        missing, damaged = features.missing(folder / each.name, counts, each)
        for shard in damaged:
            where = features.path_of(folder / each.name, shard)
            print(f"extract: warning: {where} was damaged and is made again", file=sys.stderr)
        for shard in missing:
            lacking.setdefault(shard, []).append(each)
    return [_job(raw / shard, of_shards[shard], folder, tuple(lacking[shard])) for shard in sorted(lacking)]


def _job(shard: Path, rows: pd.DataFrame, folder: Path, wanted: tuple[FrontEnd, ...]) -> Job:
    ordered = rows.sort_values("offset")
    places = ordered["offset"].to_numpy(), ordered["length"].to_numpy()
    return Job(_absolute(shard), *places, (ordered["error"] == "").to_numpy(), _absolute(folder), wanted)


def _absolute(path: Path) -> Path:
    """As a worker elsewhere on this machine sees it."""
    return path.absolute()


def _run(jobs: list[Job], scheduler: str) -> None:
    if not jobs:
        return
    clips = sum(len(job.offsets) for job in jobs)
    with (
        progress("extract", clips, "clips") as advance,
        cluster.executor(scheduler, len(jobs), shard_features.__name__) as workers,
    ):
        for clips_of_shard in cluster.results(workers, shard_features.run, jobs):
            advance(clips_of_shard)


def _noise(raw: Path, rows: pd.DataFrame, front_end: FrontEnd) -> Iterator[np.ndarray]:
    """Background noise as one run of frames, float16 (frames, bins) in pieces."""
    for content in shards.read_recordings(raw, rows):
        try:
            waveform = decode.mono(content, front_end.sample_rate_hz)
        except decode.UndecodableAudio:  # hours at a very low sample rate, which are too much once resampled
            continue
        for piece in _pieces(waveform, front_end):
            (values,) = numpy_front_end.features(piece[None], (front_end,))
            yield numpy_front_end.to_float16(values[0])


def _pieces(waveform: np.ndarray, front_end: FrontEnd) -> Iterable[np.ndarray]:
    """Stretches of `waveform` whose frames, one stretch after the other, are all of its frames."""
    frames = front_ends.frame_count(len(waveform), front_end)
    for first in range(0, frames, PIECE_FRAMES):
        last = min(first + PIECE_FRAMES, frames) - 1
        start = first * front_end.stride_samples
        yield waveform[start : last * front_end.stride_samples + front_end.window_samples]
