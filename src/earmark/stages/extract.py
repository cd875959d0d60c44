"""extract: computes feature shards from raw shards, for every front end that a candidate uses."""

import itertools
from collections.abc import Iterable, Iterator

import numpy as np
import pandas as pd
from threadpoolctl import threadpool_limits

from earmark.audio import background_noise, decode
from earmark.dataset import shards
from earmark.errors import UserError
from earmark.features import extraction, feature_shards, front_ends, numpy_backend
from earmark.features.extraction import Job
from earmark.features.front_ends import FrontEnd
from earmark.features.plan import ExtractionPlan
from earmark.io import worker_pool
from earmark.io.files import AnyPath, clear_leftovers, exclusive_writer, is_local, storage_errors
from earmark.io.progress import progress
from earmark.models.candidates import front_end_of
from earmark.params import Params, environment
from earmark.paths import RAW, features_folder, is_raw_copied, raw_folder

NOISE_SPLITS = ("training", "validation")
"""Splits whose background noise training reads."""
PIECE_FRAMES = 1024
"""Frames of background noise computed at a time."""


def extract(params: Params) -> str:
    """Writes the features of every raw shard that has none yet, a folder for each front end; returns one sentence.

    Features of other settings are set aside. Features of raw shards that no longer exist are removed.

    Raises:
        UserError: a folder or address cannot be used, or extract.raw is an outdated copy of data/raw.
    """
    raw, folder = raw_folder(params), features_folder(params)
    with storage_errors(raw, folder), exclusive_writer(folder):
        if is_local(folder):
            clear_leftovers(folder)
        plan = plan_of(params)
        if is_raw_copied(params):
            _require_up_to_date(plan)
        plan.prepare_folder()
        jobs = plan.jobs()
        _run(jobs)
        _write_noise(plan)
    names = ", ".join(front_end.name for front_end in plan.front_ends)
    return f"{len(jobs)} of {plan.members['shard'].nunique()} shards were new, as {names}"


def plan_of(params: Params) -> ExtractionPlan:
    """Reads the manifest, and resolves what the candidates in params.yaml need."""
    raw = raw_folder(params)
    if is_raw_copied(params) and not (raw / shards.MANIFEST).exists():
        raise UserError(f"params.yaml: extract.raw {raw} has no copy of {RAW}; run 'earmark upload' first")
    names = {front_end_of(candidate) for candidate in params.train.candidates}
    stored = {front_ends.front_end(name, params).stored for name in names}
    by_name = tuple(sorted(stored, key=lambda front_end: front_end.name))
    return ExtractionPlan(raw, features_folder(params), by_name, shards.read_members(raw))


def _require_up_to_date(plan: ExtractionPlan) -> None:
    if (RAW / shards.MANIFEST).exists() and not shards.read_members(RAW).equals(plan.members):
        raise UserError(f"params.yaml: extract.raw {plan.raw} is an outdated copy of {RAW}; run 'earmark upload' first")


def _run(jobs: list[Job]) -> None:
    if not jobs:
        return
    clips = sum(len(job.offsets) for job in jobs)
    with (
        progress("extract", clips, "clips") as advance,
        worker_pool.open_workers(environment.scheduler(), len(jobs), extraction.__name__) as workers,
    ):
        for clips_of_shard in workers.results(extraction.run, jobs):
            advance(clips_of_shard)


def _write_noise(plan: ExtractionPlan) -> None:
    members = plan.members
    recordings = members[~members["retired"] & (members["split"] == shards.NOISE) & (members["error"] == "")]
    with threadpool_limits(1, user_api="blas"):  # as for shards, so that no product depends on the number of cores
        for front_end, split in itertools.product(plan.front_ends, NOISE_SPLITS):
            pieces = _noise(plan.raw, recordings, split, front_end)
            feature_shards.write_noise(plan.folder_of(front_end), split, pieces, front_end)


def _noise(raw: AnyPath, recordings: pd.DataFrame, split: str, front_end: FrontEnd) -> Iterator[np.ndarray]:
    """The background noise that `split` may use as one run of frames: pieces of float16 (frames, bins)."""
    for content in shards.read_recordings(raw, recordings):
        try:
            waveform = background_noise.split_portion(decode.mono(content, front_end.sample_rate_hz), split)
        except decode.DecodeError:  # hours at a very low sample rate are too long once resampled
            continue
        for piece in _pieces(waveform, front_end):
            (values,) = numpy_backend.features(piece[None], (front_end,))
            yield numpy_backend.to_float16(values[0])


def _pieces(waveform: np.ndarray, front_end: FrontEnd) -> Iterable[np.ndarray]:
    """Parts of `waveform`, overlapping so that their frames in order are all of its frames."""
    frames = front_ends.frame_count(len(waveform), front_end)
    for first in range(0, frames, PIECE_FRAMES):
        last = min(first + PIECE_FRAMES, frames) - 1
        start = first * front_end.stride_samples
        yield waveform[start : last * front_end.stride_samples + front_end.window_samples]
