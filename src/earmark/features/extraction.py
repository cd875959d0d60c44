"""The features of one raw shard: the job that a worker of `extract` does, here or on another machine."""

from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from threadpoolctl import threadpool_limits

from earmark.audio import decode, pcm16
from earmark.dataset.shard_bytes import read_shard
from earmark.errors import UserError
from earmark.features import feature_shards, numpy_backend
from earmark.features.front_ends import VERSIONS, FrontEnd

BLOCK_SAMPLES = 256_000
"""Samples of clips taken through all steps at a time, so that what lies between two steps stays in a core's cache."""
_KEPT_BYTES = 31 * 2**20


@dataclass(frozen=True)
class Job:
    """One raw shard and the front ends that it is to have in the folder `features`, each in a folder of its name.

    `offsets` and `lengths` say where in the shard its recordings are, in bytes, int64 (recordings,); `usable`, bool
    (recordings,), which of them can be decoded.
    """

    shard: Path
    offsets: np.ndarray
    lengths: np.ndarray
    usable: np.ndarray
    features: Path
    front_ends: tuple[FrontEnd, ...]


def run(job: Job) -> int:
    """Writes the features that the job asks for; returns how many recordings they are of.

    Recordings that are not usable have the features of silence; validation keeps them from use. UserError where the
    shard is missing or too short, and on a worker whose front ends are of another version.
    """
    for each in job.front_ends:
        if VERSIONS[each.name] != each.version:
            raise UserError(f"a worker computes version {VERSIONS[each.name]} of {each.name}, not {each.version}")
    # glibc keeps freed memory for what comes next, up to twice the largest block that was freed so far; by itself it
    # would give the memory of each block of clips back to the kernel, and fetching it again takes longer than the FFT.
    np.empty(_KEPT_BYTES, np.uint8)
    recordings = len(job.offsets)
    content = read_shard(job.shard, int((job.offsets + job.lengths).max(initial=0)))
    plain = job.usable & pcm16.are_plain(content, job.offsets, job.lengths, job.front_ends[0].sample_rate_hz)
    # One thread each: workers share the cores, and no product depends on how it was divided.
    with threadpool_limits(1, user_api="blas"), ExitStack() as stack:
        append = [
            stack.enter_context(feature_shards.writing(job.features / each.name, job.shard.name, recordings, each))
            for each in job.front_ends
        ]
        clips = max(1, BLOCK_SAMPLES // job.front_ends[0].clip_samples)
        for start in range(0, recordings, clips):
            block = slice(start, start + clips)
            waveforms = _waveforms(job, content, plain[block], block)
            for add, values in zip(append, numpy_backend.features(waveforms, job.front_ends), strict=True):
                add(numpy_backend.to_float16(values))
    return recordings


def _waveforms(job: Job, content: np.ndarray, plain: np.ndarray, block: slice) -> np.ndarray:
    """Clips, float32 (recordings, clip_samples); zeros where a recording is not usable."""
    settings = job.front_ends[0]
    offsets, lengths, usable = job.offsets[block], job.lengths[block], job.usable[block]
    clips = pcm16.read_many(content, offsets[plain], lengths[plain], settings.clip_samples, settings.padding)
    if plain.all():
        return clips
    result = np.zeros((len(offsets), settings.clip_samples), dtype=np.float32)
    result[plain] = clips
    for position in np.flatnonzero(usable & ~plain):
        recording = content[offsets[position] : offsets[position] + lengths[position]].tobytes()
        try:
            result[position] = decode.clip(recording, settings.sample_rate_hz, settings.clip_samples, settings.padding)
        except decode.DecodeError as error:
            raise UserError(
                f"{job.shard} is damaged at byte {offsets[position]} ({error});"
                " 'git checkout dvc.lock && dvc checkout --force data/raw' restores it"
            ) from error
    return result
