"""The plainest and most frequent recording, a 16-bit PCM WAV with a 44-byte header, without libsndfile: one of them, or
many at once."""

import struct
from typing import TYPE_CHECKING

import numpy as np

from earmark.audio.padding import first_kept, positions

if TYPE_CHECKING:  # a served model carries this module, and not the parameters
    from earmark.params import Padding

_HEADER = struct.Struct("<4sI4s4sIHHIIHH4sI")
FULL_SCALE = 32_768


def read(content: bytes, max_channels: int, sample_rates_hz: range) -> tuple[np.ndarray, int] | None:
    """Samples, int16 of shape (frames, channels) sharing memory with `content`, and the sample rate in Hz.

    None for everything else: another format or layout, a field that contradicts another or the number of bytes,
    no samples, or more channels or another rate than given. Raises nothing.
    """
    if len(content) <= _HEADER.size:
        return None
    fields = _HEADER.unpack_from(content)
    channels, sample_rate_hz = fields[6], fields[7]
    if not 1 <= channels <= max_channels or sample_rate_hz not in sample_rates_hz:
        return None
    if fields != _fields(len(content), channels, sample_rate_hz) or (len(content) - _HEADER.size) % (2 * channels):
        return None
    return np.frombuffer(content, "<i2", offset=_HEADER.size).reshape(-1, channels), sample_rate_hz


def _fields(length: int, channels: int, sample_rate_hz: int) -> tuple:
    """The only header that a plain recording of so many bytes can have."""
    frame_bytes = 2 * channels
    of_format = (16, 1, channels, sample_rate_hz, sample_rate_hz * frame_bytes, frame_bytes, 16)
    return (b"RIFF", length - 8, b"WAVE", b"fmt ", *of_format, b"data", length - _HEADER.size)


def are_plain(stretch: np.ndarray, starts: np.ndarray, lengths: np.ndarray, sample_rate_hz: int) -> np.ndarray:
    """Which of the recordings that begin at `starts` in a stretch of bytes, uint8, and have `lengths` bytes are plain,
    mono and of this sample rate: bool (recordings,)."""
    plain = (lengths > _HEADER.size) & (lengths % 2 == 0) & (starts % 2 == 0)
    if plain.any():
        found = np.lib.stride_tricks.sliding_window_view(stretch, _HEADER.size)[np.where(plain, starts, 0)]
        plain &= (found == _headers(lengths, sample_rate_hz)).all(axis=1)
    return plain


def read_many(
    stretch: np.ndarray, starts: np.ndarray, lengths: np.ndarray, clip_samples: int, padding: "Padding"
) -> np.ndarray:
    """Recordings in a stretch of bytes, all of which `are_plain`, as clips: float32 (recordings, clip_samples) in
    [-1, 1]."""
    samples = stretch[: len(stretch) // 2 * 2].view("<i2")
    begins, frames = (starts + _HEADER.size) // 2, (lengths - _HEADER.size) // 2
    return _clips(samples, begins, frames, clip_samples, padding) / np.float32(FULL_SCALE)


def _clips(samples: np.ndarray, begins: np.ndarray, frames: np.ndarray, length: int, padding: "Padding") -> np.ndarray:
    """Recordings, of so many `frames` from where each `begins` in `samples`, as float32 (recordings, length)."""
    result = np.empty((len(frames), length), dtype=np.float32)
    long = frames >= length
    if long.any():
        windows = np.lib.stride_tricks.sliding_window_view(samples, length)
        result[long] = windows[begins[long] + first_kept(frames[long], length)]
    if not long.all():
        found = positions(frames[~long], length, padding)
        result[~long] = np.where(found < 0, 0, samples[begins[~long][:, None] + np.maximum(found, 0)])
    return result


def _headers(lengths: np.ndarray, sample_rate_hz: int) -> np.ndarray:
    """The only headers that plain mono recordings of so many bytes can have, uint8 (recordings, header bytes)."""
    template = np.frombuffer(_HEADER.pack(*_fields(_HEADER.size, 1, sample_rate_hz)), np.uint8)
    headers = np.tile(template, (len(lengths), 1))
    headers[:, 4:8] = (lengths - 8).astype("<u4")[:, None].view(np.uint8)
    headers[:, 40:44] = (lengths - _HEADER.size).astype("<u4")[:, None].view(np.uint8)
    return headers
