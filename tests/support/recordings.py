"""Recordings as bytes, honest ones and liars, written here field by field and not by the code under test."""

import io
import struct
from collections.abc import Sequence

import numpy as np
import soundfile

PCM, FLOAT, EXTENSIBLE = 1, 3, 0xFFFE
KSDATAFORMAT_TAIL = bytes.fromhex("000000001000800000aa00389b71")
"""What follows the format tag in the GUID of an extensible WAV."""
WRITTEN = [
    *(("WAV", subtype) for subtype in ("PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE", "ULAW")),
    *(("WAV", subtype) for subtype in ("IMA_ADPCM", "MS_ADPCM", "GSM610")),
    *(("WAVEX", "PCM_16"), ("RF64", "PCM_16"), ("W64", "PCM_16"), ("AU", "PCM_16"), ("AU", "FLOAT")),
    *(("AIFF", "PCM_16"), ("AIFF", "FLOAT"), ("FLAC", "PCM_16"), ("FLAC", "PCM_24")),
]
"""Formats and subtypes that are accepted, in libsndfile's names."""


def chunk(name: bytes, data: bytes, size: int | None = None) -> bytes:
    """A RIFF chunk with its pad byte; `size` is what it claims where that is not the truth."""
    return name + struct.pack("<I", len(data) if size is None else size) + data + b"\0" * (len(data) % 2)


def format_chunk(tag: int, channels: int, sample_rate_hz: int, bits: int, **lies: int) -> bytes:
    """A fmt chunk; `lies` replace its byte_rate, block_align or fmt_size."""
    block_align = lies.get("block_align", channels * bits // 8 % 2**16)
    byte_rate = lies.get("byte_rate", sample_rate_hz * block_align % 2**32)
    fields = struct.pack("<HHIIHH", tag, channels, sample_rate_hz, byte_rate, block_align, bits)
    if tag == EXTENSIBLE:
        fields += struct.pack("<HHIH", 22, bits, 0, FLOAT if lies.get("is_float") else PCM) + KSDATAFORMAT_TAIL
    return chunk(b"fmt ", fields, lies.get("fmt_size"))


def riff(*chunks: bytes, name: bytes = b"RIFF", size: int | None = None) -> bytes:
    """A WAV of these chunks."""
    body = b"WAVE" + b"".join(chunks)
    return name + struct.pack("<I", len(body) if size is None else size) + body


def plain(samples: Sequence[int], sample_rate_hz: int = 16_000, channels: int = 1) -> bytes:
    """A 16-bit PCM WAV with the shortest header."""
    data = np.asarray(samples, "<i2").tobytes()
    return riff(format_chunk(PCM, channels, sample_rate_hz, 16), chunk(b"data", data))


def written(container: str, subtype: str) -> bytes:
    """300 samples of noise at 16 kHz, mono, as libsndfile writes them."""
    buffer = io.BytesIO()
    noise = np.random.default_rng(0).uniform(-0.9, 0.9, 300)
    soundfile.write(buffer, noise, 16_000, format=container, subtype=subtype)
    return buffer.getvalue()


def flac_claiming(frames: int, channels: int = 1, sample_rate_hz: int = 16_000, tail: bytes = b"") -> bytes:
    """A FLAC header with the largest blocks there are, and `tail` where its frames should be."""
    packed = sample_rate_hz << 44 | (channels - 1) << 41 | 15 << 36 | frames
    stream_info = struct.pack(">HH", 65_535, 65_535) + bytes(6) + packed.to_bytes(8, "big") + bytes(16)
    return b"fLaC" + b"\x80\x00\x00\x22" + stream_info + tail


def rf64_claiming(data_bytes: int, frames: int, data: bytes) -> bytes:
    """An RF64 whose ds64 chunk holds these 64-bit sizes."""
    sizes = chunk(b"ds64", struct.pack("<QQQI", data_bytes, data_bytes, frames, 0))
    return riff(sizes, format_chunk(PCM, 1, 16_000, 16), chunk(b"data", data, 2**32 - 1), name=b"RF64", size=2**32 - 1)


def aiff_claiming(frames: int, channels: int, data: bytes, size: int) -> bytes:
    """A 16-bit AIFF at 16 kHz with these counts in COMM and this size in SSND."""
    rate = struct.pack(">HQ", 0x400C, 0xFA00 << 48)
    common = b"COMM" + struct.pack(">IHIH", 18, channels, frames, 16) + rate
    sound = b"SSND" + struct.pack(">III", size, 0, 0) + data
    return b"FORM" + struct.pack(">I", size) + b"AIFF" + common + sound


def au_claiming(data_bytes: int, channels: int, data: bytes) -> bytes:
    """A 16-bit AU at 16 kHz with this data size and channel count."""
    return struct.pack(">4sIIIII", b".snd", 24, data_bytes, 3, 16_000, channels) + data


def w64_claiming(data_bytes: int, data: bytes) -> bytes:
    """A Sony Wave64 whose data chunk claims this size."""
    tail = bytes.fromhex("f3acd3118cd100c04f8edb8a")
    fields = struct.pack("<HHIIHH", PCM, 1, 16_000, 32_000, 2, 16)
    chunks = b"fmt " + tail + struct.pack("<Q", 40) + fields + b"data" + tail + struct.pack("<Q", data_bytes) + data
    head = b"riff" + bytes.fromhex("2e91cf11a5d628db04c10000") + struct.pack("<Q", 2**62)
    return head + b"wave" + tail + chunks


def caf_claiming(frames_bytes: int, data: bytes) -> bytes:
    """A 16-bit CAF at 16 kHz whose data chunk claims this size."""
    description = b"desc" + struct.pack(">qd4sIIIII", 32, 16_000, b"lpcm", 0, 2, 1, 1, 16)
    return b"caff\0\1\0\0" + description + b"data" + struct.pack(">qI", frames_bytes, 0) + data
