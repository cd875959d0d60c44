"""The plainest and most frequent recording, a 16-bit PCM WAV with a 44-byte header, without libsndfile."""

import struct

import numpy as np

_HEADER = struct.Struct("<4sI4s4sIHHIIHH4sI")


def read(content: bytes, max_channels: int, sample_rates_hz: range) -> tuple[np.ndarray, int] | None:
    """Samples, int16 of shape (frames, channels) sharing memory with `content`, and the sample rate in Hz.

    None for everything else: another format or layout, a field that contradicts another or the number of bytes,
    no samples, or more channels or another rate than given. Raises nothing.
    """
    if len(content) <= _HEADER.size:
        return None
    fields = _HEADER.unpack_from(content)
    channels, sample_rate_hz = fields[6], fields[7]
    frame_bytes, data_bytes = 2 * channels, len(content) - _HEADER.size
    expected = (
        *(b"RIFF", len(content) - 8, b"WAVE", b"fmt ", 16, 1),
        *(channels, sample_rate_hz, sample_rate_hz * frame_bytes, frame_bytes, 16, b"data", data_bytes),
    )
    if fields != expected or not 1 <= channels <= max_channels or sample_rate_hz not in sample_rates_hz:
        return None
    if data_bytes % frame_bytes:
        return None
    return np.frombuffer(content, "<i2", offset=_HEADER.size).reshape(-1, channels), sample_rate_hz
