"""extract: raw shards to feature shards, for every front end that a candidate asks for."""

import itertools
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import pandas as pd
from threadpoolctl import threadpool_limits

from earmark.audio import background_noise, decode
from earmark.dataset import shards
from earmark.errors import UserError
from earmark.features import extraction, feature_shards, front_ends, numpy_backend
from earmark.features.extraction import Job
from earmark.features.front_ends import FrontEnd
from earmark.io import worker_pool
from earmark.io.files import clear_leftovers, is_local, reachable, sole_writer
from earmark.io.progress import progress
from earmark.models.candidates import front_end_of
from earmark.params import Params
from earmark.paths import RAW, features_folder, raw_folder

NOISE_SPLITS = ("training", "validation")
"""Splits of which training reads the background noise."""
PIECE_FRAMES = 1024
"""Frames of background noise computed at a time."""


def extract(params: Params) -> str:
    """Writes a folder of features for each front end in use, of the raw shards that have none; returns a sentence.

    Features of other settings are set aside, and those of raw shards that are gone are removed. UserError where raw
    shards are read from a copy of data/raw that is out of date.
    """
    raw, folder = raw_folder(params), features_folder(params)
    with reachable(raw, folder), sole_writer(folder):
        if is_local(folder):
            clear_leftovers(folder)
        members = shards.read_members(raw)
        _require_up_to_date(raw, members)
        settle(params, members)
        jobs = jobs_left(params, members)
        _run(jobs, params.extract.scheduler)
        wanted = front_ends_in_use(params)
        noise = members[~members["retired"] & (members["split"] == shards.NOISE) & (members["error"] == "")]
        with threadpool_limits(1, user_api="blas"):  # as for shards
            for each, split in itertools.product(wanted, NOISE_SPLITS):
                feature_shards.write_noise(folder / each.name, split, _noise(raw, noise, split, each), each)
    return f"{len(jobs)} of {members['shard'].nunique()} shards were new, as {', '.join(each.name for each in wanted)}"


def _require_up_to_date(raw: Path, members: pd.DataFrame) -> None:
    if (is_local(raw) and raw.absolute() == RAW.absolute()) or not (RAW / shards.MANIFEST).exists():
        return
    if not shards.read_members(RAW).equals(members):
        raise UserError(
            f"params.yaml: extract.raw {raw} is no copy of {RAW} as it is now; bring it up to date, for a bucket with"
            f" 'aws s3 sync --delete {RAW} {raw}'"
        )


def front_ends_in_use(params: Params) -> tuple[FrontEnd, ...]:
    """What shards must hold for the candidates, sorted by name."""
    names = {front_end_of(candidate) for candidate in params.train.candidates}
    stored = {front_ends.front_end(name, params).stored for name in names}
    return tuple(sorted(stored, key=lambda each: each.name))


def settle(params: Params, members: pd.DataFrame) -> None:
    """Makes the features' folder one of the present settings and of the raw shards in `members`, the manifest; prints
    what moves."""
    folder, wanted = features_folder(params), front_ends_in_use(params)
    for other in folder.iterdir() if folder.exists() else ():
        if other.is_dir() and other.name not in {each.name for each in wanted}:
            print(feature_shards.set_aside(other), end="")
    feature_shards.remove_strangers(folder, members["shard"].unique())
    for each in wanted:
        print(feature_shards.prepare(folder / each.name, each.settings()), end="")


def jobs_left(params: Params, members: pd.DataFrame) -> list[Job]:
    """What is left to do for the recordings in `members`, the manifest, in a folder that is settled."""
    raw, folder = raw_folder(params), features_folder(params)
    of_shards = dict(list(members.drop_duplicates(["shard", "offset"]).groupby("shard", sort=True)))
    counts = {shard: len(rows) for shard, rows in of_shards.items()}
    lacking: dict[str, list[FrontEnd]] = {}
    for each in front_ends_in_use(params):
        missing, damaged = feature_shards.missing(folder / each.name, counts, each)
        for shard in damaged:
            where = feature_shards.path_of(folder / each.name, shard)
            print(f"extract: warning: {where} was damaged and is made again", file=sys.stderr)
        for shard in missing:
            lacking.setdefault(shard, []).append(each)
    return [_job(raw / shard, of_shards[shard], folder, tuple(lacking[shard])) for shard in sorted(lacking)]


def _job(shard: Path, rows: pd.DataFrame, folder: Path, wanted: tuple[FrontEnd, ...]) -> Job:
    ordered = rows.sort_values("offset")
    places = ordered["offset"].to_numpy(), ordered["length"].to_numpy()
    # Absolute, as a worker in another folder sees them.
    return Job(shard.absolute(), *places, (ordered["error"] == "").to_numpy(), folder.absolute(), wanted)


def _run(jobs: list[Job], scheduler: str) -> None:
    if not jobs:
        return
    clips = sum(len(job.offsets) for job in jobs)
    with (
        progress("extract", clips, "clips") as advance,
        worker_pool.opened(scheduler, len(jobs), extraction.__name__) as workers,
    ):
        for clips_of_shard in workers.results(extraction.run, jobs):
            advance(clips_of_shard)


def _noise(raw: Path, rows: pd.DataFrame, split: str, front_end: FrontEnd) -> Iterator[np.ndarray]:
    """The background noise that `split` hears as one run of frames, float16 (frames, bins) in pieces."""
    for content in shards.read_recordings(raw, rows):
        try:
            waveform = background_noise.part(decode.mono(content, front_end.sample_rate_hz), split)
        except decode.DecodeError:  # hours at a very low sample rate, which are too much once resampled
            continue
        for piece in _pieces(waveform, front_end):
            (values,) = numpy_backend.features(piece[None], (front_end,))
            yield numpy_backend.to_float16(values[0])


def _pieces(waveform: np.ndarray, front_end: FrontEnd) -> Iterable[np.ndarray]:
    """Stretches of `waveform` whose frames, one stretch after the other, are all of its frames."""
    frames = front_ends.frame_count(len(waveform), front_end)
    for first in range(0, frames, PIECE_FRAMES):
        last = min(first + PIECE_FRAMES, frames) - 1
        start = first * front_end.stride_samples
        yield waveform[start : last * front_end.stride_samples + front_end.window_samples]
