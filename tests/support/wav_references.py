"""Samples of a WAV as readers that know nothing of libsndfile find them."""

import io
import struct
import warnings
import wave

import numpy as np
from scipy.io import wavfile


def is_sane(content: bytes) -> bool:
    """Whether this is a PCM WAV with the shortest header, every field true, that nothing may refuse."""
    if len(content) < 46 or len(content) % 2:
        return False
    riff, size, wav, fmt, fmt_size, tag, channels, rate, byte_rate, align, bits, data, data_size = struct.unpack(
        "<4sI4s4sIHHIIHH4sI", content[:44]
    )
    return (
        (riff, wav, fmt, data) == (b"RIFF", b"WAVE", b"fmt ", b"data")
        and (size, fmt_size, tag, data_size) == (len(content) - 8, 16, 1, len(content) - 44)
        and (1 <= channels <= 64 and 1_000 <= rate <= 768_000 and bits in (8, 16, 24, 32))
        and (align, byte_rate) == (channels * bits // 8, rate * channels * bits // 8)
        and data_size % align == 0
    )


def agrees_with_references(content: bytes, samples: np.ndarray, sample_rate_hz: int, name: str) -> None:
    """The same samples as the readers that know nothing of libsndfile, as far as both found some."""
    known = by_wave(content) if name.startswith("WAV PCM") else by_scipy(content) if name == "WAV FLOAT" else None
    if known is None or known[1:] != (sample_rate_hz, samples.shape[1]):
        return
    common = min(len(known[0]), len(samples))
    np.testing.assert_array_equal(samples[:common], known[0][:common])
    if is_sane(content):
        assert len(known[0]) == len(samples)


def by_wave(content: bytes) -> tuple[np.ndarray, int, int] | None:
    """Samples, rate and channels as the standard library reads them; None where it does not."""
    try:
        with wave.open(io.BytesIO(content)) as file:
            width, channels, rate = file.getsampwidth(), file.getnchannels(), file.getframerate()
            data = file.readframes(file.getnframes())
    except (wave.Error, EOFError, RuntimeError):
        return None
    if width > 4 or file.getcomptype() != "NONE":
        return None
    return (
        as_floats(data[: len(data) // (width * channels) * width * channels], width).reshape(-1, channels),
        rate,
        channels,
    )


def as_floats(data: bytes, width: int) -> np.ndarray:
    """PCM of `width` bytes a sample as float32, full scale 1."""
    whole = np.zeros((len(data) // width, 4), np.uint8)
    whole[:, 4 - width :] = np.frombuffer(data, np.uint8).reshape(-1, width)
    if width == 1:
        whole[:, 3] ^= 0x80
    return (whole.view("<i4")[:, 0].astype(np.float32) / np.float32(2**31)).astype(np.float32)


def by_scipy(content: bytes) -> tuple[np.ndarray, int, int] | None:
    """Samples, rate and channels of a float WAV as SciPy reads them; None where it does not or warns."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            rate, samples = wavfile.read(io.BytesIO(content))
    except Exception:
        return None
    samples = samples.reshape(len(samples), -1)
    return None if samples.dtype != np.float32 else (samples, rate, samples.shape[1])
