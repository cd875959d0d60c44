"""Bytes of a recording to mono float32 samples of one length."""

import io
from dataclasses import dataclass

import numpy as np
import soundfile
import soxr

CLIPPED_AT = 0.999
"""Absolute sample value from which a sample counts as clipped (full scale is 1)."""


class UndecodableAudio(ValueError):
    """The bytes are no audio that can be read; the text says why."""


@dataclass(frozen=True)
class Facts:
    """What a recording is, before anything is done to it. `peak` and `rms` in [0, 1] of full scale."""

    format: str
    sample_rate_hz: int
    channels: int
    frames: int
    peak: float
    rms: float
    clipped_fraction: float

    @property
    def seconds(self) -> float:
        """Duration."""
        return self.frames / self.sample_rate_hz


def decode(content: bytes) -> tuple[np.ndarray, int]:
    """Samples, float32 of shape (frames, channels) in [-1, 1], and the sample rate in Hz.

    Any format that libsndfile reads. Raises UndecodableAudio for what it does not read, for no samples, and for
    NaN or infinite ones.
    """
    try:
        samples, sample_rate_hz = soundfile.read(io.BytesIO(content), dtype="float32", always_2d=True)
    except (soundfile.SoundFileError, ValueError, MemoryError) as error:
        raise UndecodableAudio(str(error).split(": ", 1)[-1].rstrip(".")) from error
    if not len(samples):
        raise UndecodableAudio("no samples")
    if not np.isfinite(samples).all():
        raise UndecodableAudio("NaN or infinite samples")
    return samples, sample_rate_hz


def facts(content: bytes) -> Facts:
    """Facts of a recording; UndecodableAudio where it cannot be read or holds no sample."""
    samples, sample_rate_hz = decode(content)
    magnitude = np.abs(samples)
    with soundfile.SoundFile(io.BytesIO(content)) as file:
        name = f"{file.format} {file.subtype}"
    return Facts(
        format=name,
        sample_rate_hz=sample_rate_hz,
        channels=samples.shape[1],
        frames=len(samples),
        peak=float(magnitude.max()),
        rms=float(np.sqrt(np.mean(np.square(samples, dtype=np.float64)))),
        clipped_fraction=float(np.mean(magnitude >= CLIPPED_AT)),
    )


def mono(content: bytes, sample_rate_hz: int) -> np.ndarray:
    """The whole recording as float32 of shape (samples,) at `sample_rate_hz`: channels averaged, then resampled."""
    samples, source_rate_hz = decode(content)
    mixed = samples.mean(axis=1, dtype=np.float32)
    if source_rate_hz == sample_rate_hz:
        return mixed
    return soxr.resample(mixed, source_rate_hz, sample_rate_hz, quality="HQ").astype(np.float32)


def fit(samples: np.ndarray, length: int) -> np.ndarray:
    """The middle `length` of `samples`, or `samples` with zeros on both sides; shape (length,)."""
    surplus = len(samples) - length
    if surplus >= 0:
        return samples[surplus // 2 : surplus // 2 + length]
    return np.pad(samples, (-surplus // 2, -surplus - (-surplus // 2)))


def clip(content: bytes, sample_rate_hz: int, length: int) -> np.ndarray:
    """A recording as one clip: mono, at `sample_rate_hz`, `length` samples, float32."""
    return fit(mono(content, sample_rate_hz), length)
