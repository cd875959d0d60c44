"""Computes the features of one raw shard: the job of a worker of `extract`, on this machine or another."""

from contextlib import ExitStack
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from threadpoolctl import threadpool_limits

from earmark.audio import decode, pcm16
from earmark.dataset.shard_bytes import read_shard
from earmark.errors import UserError
from earmark.features import feature_shards, numpy_backend
from earmark.features.front_ends import FrontEnd
from earmark.io.files import AnyPath

BLOCK_SAMPLES = 256_000
"""Samples that go through all steps together, so that intermediate results stay in a core's cache."""
_RETAINED_BYTES = 31 * 2**20


@dataclass(frozen=True)
class Job:
    """One raw shard and the front ends to compute for it.

    Attributes:
        shard: the raw shard.
        offsets: first byte of each recording in the shard, int64 (recordings,).
        lengths: bytes of each recording, int64 (recordings,).
        usable: which recordings can be decoded, bool (recordings,).
        features: the folder to write to; each front end has a folder of its name in it.
        front_ends: the front ends.
    """

    shard: AnyPath
    offsets: npt.NDArray[np.int64]
    lengths: npt.NDArray[np.int64]
    usable: npt.NDArray[np.bool_]
    features: AnyPath
    front_ends: tuple[FrontEnd, ...]


def run(job: Job) -> int:
    """Write the features of a job; return the number of recordings.

    Recordings that are not usable get the features of silence; validation excludes them from the accepted clips.

    Raises:
        UserError: the shard is missing or too short, or this worker has another version of a front end.
    """
    for front_end in job.front_ends:
        if type(front_end).version != front_end.version:
            raise UserError(
                f"a worker computes version {type(front_end).version} of {front_end.name};"
                f" expected version {front_end.version}: install the same earmark where workers run"
            )
    # Freeing a large block makes glibc retain freed memory, up to twice its size. Otherwise glibc returns the memory of
    # each block of clips to the kernel, and getting it back takes longer than the FFT.
    np.empty(_RETAINED_BYTES, np.uint8)
    recordings = len(job.offsets)
    content = read_shard(job.shard, int((job.offsets + job.lengths).max(initial=0)))
    plain = job.usable & pcm16.are_plain(content, job.offsets, job.lengths, job.front_ends[0].sample_rate_hz)
    # One BLAS thread: workers share the cores, and results must not depend on how a product is divided.
    with threadpool_limits(1, user_api="blas"), ExitStack() as stack:
        writers = [
            stack.enter_context(
                feature_shards.open_writer(job.features / front_end.name, job.shard.name, recordings, front_end)
            )
            for front_end in job.front_ends
        ]
        clips = max(1, BLOCK_SAMPLES // job.front_ends[0].clip_samples)
        for start in range(0, recordings, clips):
            block = slice(start, start + clips)
            waveforms = _waveforms(job, content, plain[block], block)
            for append, values in zip(writers, numpy_backend.features(waveforms, job.front_ends), strict=True):
                append(numpy_backend.to_float16(values))
    return recordings


def _waveforms(
    job: Job, content: npt.NDArray[np.uint8], plain: npt.NDArray[np.bool_], block: slice
) -> npt.NDArray[np.float32]:
    """Clips, float32 (recordings, clip_samples); recordings that are not usable are zeros."""
    settings = job.front_ends[0]
    offsets, lengths, usable = job.offsets[block], job.lengths[block], job.usable[block]
    clips = pcm16.read_many(content, offsets[plain], lengths[plain], settings.clip_samples, settings.padding)
    if plain.all():
        return clips
    result = np.zeros((len(offsets), settings.clip_samples), dtype=np.float32)
    result[plain] = clips
    for index in np.flatnonzero(usable & ~plain):
        recording = content[offsets[index] : offsets[index] + lengths[index]].tobytes()
        try:
            result[index] = decode.clip(recording, settings.sample_rate_hz, settings.clip_samples, settings.padding)
        except decode.DecodeError as error:
            raise UserError(
                f"{job.shard} is damaged at byte {offsets[index]} ({error});"
                " restore it with 'git checkout dvc.lock && dvc checkout --force data/raw'"
            ) from error
    return result
