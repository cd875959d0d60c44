"""Background noise: which part each split may use, how it is mixed into clips, and how silence is made from it."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

SHARES = {"training": 0.6, "validation": 0.2, "test": 0.2}
"""Share of each noise recording that a split may use, in this order in time; no sample belongs to two splits."""
LOWEST_GAIN_DB = -60.0
"""Silence is noise with a random gain between this and 0 dB."""
DIGITAL_SILENCE_SHARE = 0.1
"""Share of the silent clips that are all zeros."""
_MIN_POWER = 1e-12


def split_portion(recording: npt.NDArray[np.float32], split: str) -> npt.NDArray[np.float32]:
    """The part of a noise recording, (samples,), that `split` may use."""
    ends = np.cumsum(list(SHARES.values()))
    index = list(SHARES).index(split)
    start, stop = (np.r_[0.0, ends] * len(recording)).round().astype(int)[index : index + 2]
    return recording[start:stop]


def draw_segments(
    noise: Sequence[npt.NDArray[np.float32]], length: int, count: int, generator: np.random.Generator
) -> npt.NDArray[np.float32]:
    """Draw `count` random segments of `length` samples, (count, length).

    Every segment of every recording has the same chance. At least one recording must have `length` samples.
    """
    starts = np.array([max(0, len(recording) - length + 1) for recording in noise])
    drawn = generator.integers(starts.sum(), size=count)
    recording = np.searchsorted(np.cumsum(starts), drawn, side="right")
    start = drawn - (np.cumsum(starts) - starts)[recording]
    segments = [noise[index][first : first + length] for index, first in zip(recording, start, strict=True)]
    return np.stack(segments) if segments else np.empty((0, length), np.float32)


def mix(
    clips: npt.NDArray[np.float32], noise: npt.NDArray[np.float32], snr_db: float | npt.NDArray[np.floating]
) -> npt.NDArray[np.float32]:
    """Add `noise` to `clips`, both (clips, samples).

    The mean power of the noise is `snr_db`, one number or (clips,), below that of its clip. Silent clips stay silent.
    """
    ratio = np.square(clips).mean(axis=1) / np.maximum(np.square(noise).mean(axis=1), _MIN_POWER)
    gains = np.sqrt(ratio * 10 ** (-np.asarray(snr_db) / 10)).astype(clips.dtype)
    mixture: npt.NDArray[np.float32] = clips + noise * gains[:, None]
    return mixture


def draw_silence_gains(count: int, generator: np.random.Generator) -> npt.NDArray[np.float32]:
    """Draw the factors, float32 (count,), by which noise segments are multiplied to make silent clips."""
    gains = 10 ** (generator.uniform(LOWEST_GAIN_DB, 0.0, count) / 20)
    return np.where(generator.uniform(size=count) < DIGITAL_SILENCE_SHARE, 0.0, gains).astype(np.float32)
