"""Background noise: what of it each split may hear, how it is mixed into clips, and the silence that is cut from it."""

from collections.abc import Sequence

import numpy as np

SHARES = {"training": 0.6, "validation": 0.2, "testing": 0.2}
"""Of each recording of noise, from its beginning on: every split hears every kind of noise, and none the same."""
LOWEST_GAIN_DB = -60.0
"""Silence is noise between this and as loud as it was recorded."""
DIGITAL_SILENCE_SHARE = 0.1
"""Of silence, what holds no noise at all."""
_LEAST_POWER = 1e-12


def part(recording: np.ndarray, split: str) -> np.ndarray:
    """What `split` hears of a recording of noise, (samples,)."""
    ends = np.cumsum(list(SHARES.values()))
    at = list(SHARES).index(split)
    first, last = (np.r_[0.0, ends] * len(recording)).round().astype(int)[at : at + 2]
    return recording[first:last]


def stretches(noise: Sequence[np.ndarray], length: int, count: int, generator: np.random.Generator) -> np.ndarray:
    """`count` drawn stretches of `length` samples, (count, length), of recordings of which at least one is as long; a
    recording is drawn as often as it is long."""
    places = np.array([max(0, len(each) - length + 1) for each in noise])
    drawn = generator.integers(places.sum(), size=count)
    recording = np.searchsorted(np.cumsum(places), drawn, side="right")
    start = drawn - (np.cumsum(places) - places)[recording]
    cut = [noise[which][first : first + length] for which, first in zip(recording, start, strict=True)]
    return np.stack(cut) if cut else np.empty((0, length), np.float32)


def mixed(clips: np.ndarray, noise: np.ndarray, snr_db: float | np.ndarray) -> np.ndarray:
    """`clips` with `noise`, both (clips, samples), whose mean power is `snr_db`, one for all or (clips,), below that of
    its clip. Of silence comes silence."""
    power = np.square(clips).mean(axis=1) / np.maximum(np.square(noise).mean(axis=1), _LEAST_POWER)
    return clips + noise * np.sqrt(power * 10 ** (-np.asarray(snr_db) / 10)).astype(clips.dtype)[:, None]


def silence_gains(count: int, generator: np.random.Generator) -> np.ndarray:
    """Drawn factors, float32 (count,), which make silence of stretches of noise."""
    gains = 10 ** (generator.uniform(LOWEST_GAIN_DB, 0.0, count) / 20)
    return np.where(generator.uniform(size=count) < DIGITAL_SILENCE_SHARE, 0.0, gains).astype(np.float32)
