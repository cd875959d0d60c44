"""Clips held in memory as features, without a project: generated ones, or the words of an archive."""

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from earmark.audio import background_noise, decode
from earmark.dataset.layout import Clip, Noise, interpret
from earmark.dataset.splits import speaker_of, speaker_split
from earmark.features import numpy_backend
from earmark.features.front_ends import FrontEnd

WORDS = ("bed", "cat", "down", "go", "happy", "left", "no", "right", "stop", "up", "yes")
"""The words of Speech Commands that benchmarks learn."""
GENERATED_LABELS = 30
NOISE_SECONDS = 60
BLOCK_CLIPS = 16
LOUDNESS = 0.1


@dataclass(frozen=True)
class Clips:
    """Stored features, float16 (clips, frames, bins), and the indices of their labels, int (clips,)."""

    features: np.ndarray
    labels: np.ndarray


@dataclass(frozen=True)
class Held:
    """What a candidate is trained and validated on; `noise` is float16 (frames, bins)."""

    labels: int
    training: Clips
    validation: Clips
    noise: np.ndarray


@lru_cache
def generated(front_end: FrontEnd, training_clips: int, validation_clips: int) -> Held:
    """White noise: a step takes as long whatever the sound."""
    generator = np.random.default_rng(1)

    def noise(clips: int, samples: int) -> np.ndarray:
        return LOUDNESS * generator.standard_normal((clips, samples), dtype=np.float32)

    def split(clips: int) -> Clips:
        starts = range(0, clips, BLOCK_CLIPS)
        sizes = [min(BLOCK_CLIPS, clips - start) for start in starts]
        blocks = [_features(noise(size, front_end.clip_samples), front_end) for size in sizes]
        return Clips(np.concatenate(blocks), np.arange(clips) % GENERATED_LABELS)

    background = _features(noise(1, NOISE_SECONDS * front_end.sample_rate_hz), front_end)[0]
    return Held(GENERATED_LABELS, split(training_clips), split(validation_clips), background)


def recorded(archive: Path, front_end: FrontEnd) -> Held:
    """WORDS of an archive in the layout of Speech Commands, split by speaker, and its background noise.

    All recordings count, also those that validation would send to quarantine.

    Raises:
        ValueError: a split has no recording of these words.
    """
    from earmark.dataset.sources.archive import entries

    features: dict[str, list[np.ndarray]] = {"training": [], "validation": [], "test": []}
    labels: dict[str, list[int]] = {split: [] for split in features}
    noise = [np.empty((0, front_end.bins), np.float16)]
    for path, content in entries(archive):
        entry = interpret(path)
        if isinstance(entry, Noise):
            noise.append(_features(_noise_of_training(content, front_end), front_end)[0])
        if isinstance(entry, Clip) and entry.label in WORDS:
            split = speaker_split(speaker_of(entry.file_name))
            features[split].append(_features(_waveform(content, front_end), front_end)[0])
            labels[split].append(WORDS.index(entry.label))
    for split in ("training", "validation"):
        if not features[split]:
            raise ValueError(f"{archive} has no {split} clips; expected some of {', '.join(WORDS)}")
    training, validation = (
        Clips(np.stack(features[split]), np.array(labels[split])) for split in ("training", "validation")
    )
    return Held(len(WORDS), training, validation, np.concatenate(noise))


def _waveform(content: bytes, front_end: FrontEnd) -> np.ndarray:
    return decode.clip(content, front_end.sample_rate_hz, front_end.clip_samples, front_end.padding)[None]


def _noise_of_training(content: bytes, front_end: FrontEnd) -> np.ndarray:
    return background_noise.split_portion(decode.mono(content, front_end.sample_rate_hz), "training")[None]


def _features(waveforms: np.ndarray, front_end: FrontEnd) -> np.ndarray:
    (values,) = numpy_backend.features(waveforms, (front_end,))
    return numpy_backend.to_float16(values)
