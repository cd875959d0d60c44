"""Reads the most common kind of recording, a 16-bit PCM WAV with a 44-byte header, without libsndfile.

Such a recording is called plain here. Reads one recording or many at once.
"""

import struct
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from earmark.audio.padding import first_kept, positions

if TYPE_CHECKING:  # a served model carries this module, but not the parameters
    from earmark.params import Padding

_HEADER = struct.Struct("<4sI4s4sIHHIIHH4sI")
FULL_SCALE = 32_768


def read(content: bytes, max_channels: int, sample_rates_hz: range) -> tuple[npt.NDArray[np.int16], int] | None:
    """Read a plain recording: int16 (frames, channels), sharing memory with `content`, and the sample rate in Hz.

    Returns None for everything else: another format or layout, fields that contradict each other or the number of
    bytes, no samples, too many channels, or another sample rate. Raises nothing.
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


def _fields(length: int, channels: int, sample_rate_hz: int) -> tuple[bytes | int, ...]:
    """The only header that a plain recording of `length` bytes can have."""
    frame_bytes = 2 * channels
    format_chunk = (16, 1, channels, sample_rate_hz, sample_rate_hz * frame_bytes, frame_bytes, 16)
    return (b"RIFF", length - 8, b"WAVE", b"fmt ", *format_chunk, b"data", length - _HEADER.size)


def are_plain(
    content: npt.NDArray[np.uint8], starts: npt.NDArray[np.int64], lengths: npt.NDArray[np.int64], sample_rate_hz: int
) -> npt.NDArray[np.bool_]:
    """Tell which recordings are plain, mono and have this sample rate: bool (recordings,).

    Args:
        content: bytes that contain all the recordings, uint8 (bytes,).
        starts: first byte of each recording in `content`, int64 (recordings,).
        lengths: bytes of each recording, int64 (recordings,).
        sample_rate_hz: the sample rate.
    """
    plain: npt.NDArray[np.bool_] = (lengths > _HEADER.size) & (lengths % 2 == 0) & (starts % 2 == 0)
    if plain.any():
        headers = np.lib.stride_tricks.sliding_window_view(content, _HEADER.size)[np.where(plain, starts, 0)]
        plain &= (headers == _headers(lengths, sample_rate_hz)).all(axis=1)
    return plain


def read_many(
    content: npt.NDArray[np.uint8],
    starts: npt.NDArray[np.int64],
    lengths: npt.NDArray[np.int64],
    clip_samples: int,
    padding: "Padding",
) -> npt.NDArray[np.float32]:
    """Read recordings, all of which `are_plain`, as clips: float32 (recordings, clip_samples) in [-1, 1]."""
    samples = content[: len(content) // 2 * 2].view("<i2")
    first_samples, frames = (starts + _HEADER.size) // 2, (lengths - _HEADER.size) // 2
    return _clips(samples, first_samples, frames, clip_samples, padding) / np.float32(FULL_SCALE)


def _clips(
    samples: npt.NDArray[np.int16],
    starts: npt.NDArray[np.int64],
    frames: npt.NDArray[np.int64],
    length: int,
    padding: "Padding",
) -> npt.NDArray[np.float32]:
    """The recordings that start at `starts` in `samples` and have `frames` samples: float32 (recordings, length)."""
    clips = np.empty((len(frames), length), dtype=np.float32)
    long = frames >= length
    if long.any():
        windows = np.lib.stride_tricks.sliding_window_view(samples, length)
        clips[long] = windows[starts[long] + first_kept(frames[long], length)]
    if not long.all():
        index = positions(frames[~long], length, padding)
        clips[~long] = np.where(index < 0, 0, samples[starts[~long][:, None] + np.maximum(index, 0)])
    return clips


def _headers(lengths: npt.NDArray[np.int64], sample_rate_hz: int) -> npt.NDArray[np.uint8]:
    """The only headers that plain mono recordings of these lengths can have, uint8 (recordings, header bytes)."""
    template = np.frombuffer(_HEADER.pack(*_fields(_HEADER.size, 1, sample_rate_hz)), np.uint8)
    headers = np.tile(template, (len(lengths), 1))
    headers[:, 4:8] = (lengths - 8).astype("<u4")[:, None].view(np.uint8)
    headers[:, 40:44] = (lengths - _HEADER.size).astype("<u4")[:, None].view(np.uint8)
    return headers
