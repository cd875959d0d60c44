"""Decodes the bytes of a recording to mono float32 samples; rejects damaged files and headers that lie."""

import io
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO

import numpy as np
import numpy.typing as npt
import soundfile
import soxr

from earmark.audio import pcm16
from earmark.audio.padding import fit

if TYPE_CHECKING:  # a served model carries this module, but not the parameters
    from earmark.params import Padding

CLIPPED_AT = 0.999
"""A sample of at least this magnitude counts as clipped (full scale is 1)."""
MAX_SAMPLES = 2**26
"""Limit of decoded values over all channels, and of samples after resampling: 70 minutes at 16 kHz."""
MAX_CHANNELS = 64
SAMPLE_RATES_HZ = range(1_000, 768_001)
MAX_MAGNITUDE = 2.0**32
"""Largest magnitude of a floating-point sample; above it, averaging and filtering could overflow float32."""
CONTAINERS = {
    b"RIFF": "WAV",
    b"RIFX": "WAV",
    b"RF64": "RF64",
    b"riff": "W64",
    b"FORM": "AIFF",
    b"fLaC": "FLAC",
    b".snd": "AU",
    b"dns.": "AU",
}
"""The first four bytes of a file -> its format.

No other format is opened: libsndfile prints to stdout for a damaged CAF, to stderr for MP3, and decodes an Ogg file of
1 kB with wrong positions to minutes of silence.
"""
ENCODINGS = frozenset(
    {
        *("PCM_S8", "PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE"),
        *("ULAW", "ALAW", "IMA_ADPCM", "MS_ADPCM", "GSM610"),
    }
)
"""Accepted sample encodings, by libsndfile's names."""
RESAMPLING_MARGIN = 1_024
"""Samples, at the lower of the two rates, that are resampled on each side of the part that `clip` keeps."""

_BLOCK_SAMPLES = 2**18


class _Bytes(io.BytesIO):
    """A file in memory whose `seek` does nothing, as lseek does, if a lying header sends libsndfile outside of it."""

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        try:
            return super().seek(offset, whence)
        except (ValueError, OverflowError):
            return self.tell()


class DecodeError(ValueError):
    """The bytes cannot be decoded as audio; the text says why, on one line."""


@dataclass(frozen=True)
class Facts:
    """Measurements of a recording as it is stored.

    `peak` and `rms` are fractions of full scale; only a floating-point recording can exceed 1.
    """

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


def decode(content: bytes) -> tuple[npt.NDArray[np.float32], int]:
    """Decode a recording to samples, float32 (frames, channels), and its sample rate in Hz.

    Samples are in [-1, 1] unless stored as floating point. Memory use follows the samples in the file, not what the
    header claims.

    Raises:
        DecodeError: the format is not in CONTAINERS, a limit of this module is exceeded, or the recording has no
            samples, or NaN or infinite ones.
    """
    if (plain := _read_plain(content)) is not None:
        samples, sample_rate_hz = plain
        return _to_float32(samples), sample_rate_hz
    with open_recording(content[:4], _Bytes(content)) as file:
        return np.concatenate(list(_blocks(file))), file.samplerate


def facts(content: bytes) -> Facts:
    """Measure a recording in bounded memory.

    Raises:
        DecodeError: as `decode`.
    """
    if (plain := _read_plain(content)) is not None:
        return _facts_of_pcm16(*plain)
    frames, peak, clipped = 0, 0.0, 0
    energies: list[float] = []
    with open_recording(content[:4], _Bytes(content)) as file:
        for block in _blocks(file):
            frames += len(block)
            magnitude = np.abs(block)
            peak = max(peak, float(magnitude.max()))
            clipped += int(np.count_nonzero(magnitude >= CLIPPED_AT))
            energies.append(_energy(block))
        values = frames * file.channels
        return Facts(
            format=f"{file.format} {file.subtype}",
            sample_rate_hz=file.samplerate,
            channels=file.channels,
            frames=frames,
            peak=peak,
            rms=math.sqrt(math.fsum(energies) / values),
            clipped_fraction=clipped / values,
        )


def mono(content: bytes, sample_rate_hz: int) -> npt.NDArray[np.float32]:
    """Decode a whole recording, average its channels and resample it: float32 (samples,) at `sample_rate_hz`.

    Raises:
        DecodeError: as `decode`, and if resampling would give more than MAX_SAMPLES.
    """
    samples, source_rate_hz = _decode_mono(content)
    if len(samples) * sample_rate_hz > MAX_SAMPLES * source_rate_hz:
        raise DecodeError(f"more than {MAX_SAMPLES} samples at {sample_rate_hz} Hz; expected at most that many")
    return _resample(samples, source_rate_hz, sample_rate_hz)


def clip(content: bytes, sample_rate_hz: int, length: int, padding: "Padding") -> npt.NDArray[np.float32]:
    """Decode a recording to one mono clip: float32 (length,) at `sample_rate_hz`, padded if it is short.

    Only the middle of a long recording is resampled, with RESAMPLING_MARGIN on both sides. This gives the same
    samples as resampling all of it, up to float32 rounding.

    Raises:
        DecodeError: as `decode`.
    """
    samples, source_rate_hz = _decode_mono(content)
    if source_rate_hz == sample_rate_hz:
        return fit(samples, length, padding)
    return _resample_middle(samples, source_rate_hz, sample_rate_hz, length, padding)


def _resample_middle(
    samples: npt.NDArray[np.float32], source_rate_hz: int, sample_rate_hz: int, length: int, padding: "Padding"
) -> npt.NDArray[np.float32]:
    """fit(resampled samples, length, padding), but resamples only the part that is kept."""
    divisor = math.gcd(source_rate_hz, sample_rate_hz)
    # If the cut is at a multiple of these, every resampled sample keeps its place in time.
    source_step, step = source_rate_hz // divisor, sample_rate_hz // divisor
    margin = math.ceil(RESAMPLING_MARGIN * max(1, sample_rate_hz / source_rate_hz))
    start = (round(len(samples) * step / source_step) - length) // 2
    first = max(0, (start - margin) // step)
    last = math.ceil((start + length + margin) / step)
    if first == 0 or last * source_step >= len(samples):
        return fit(_resample(samples, source_rate_hz, sample_rate_hz), length, padding)
    part = _resample(samples[first * source_step : last * source_step], source_rate_hz, sample_rate_hz)
    return part[start - first * step :][:length]


def _resample(samples: npt.NDArray[np.float32], source_rate_hz: int, sample_rate_hz: int) -> npt.NDArray[np.float32]:
    if source_rate_hz == sample_rate_hz:
        return samples
    resampled: npt.NDArray[np.float32] = soxr.resample(samples, source_rate_hz, sample_rate_hz, quality="HQ")
    return resampled


def _decode_mono(content: bytes) -> tuple[npt.NDArray[np.float32], int]:
    """The mean over channels, float32 (frames,), and the sample rate in Hz."""
    if (plain := _read_plain(content)) is not None:
        samples, sample_rate_hz = plain
        return mean_of_channels(_to_float32(samples)), sample_rate_hz
    with open_recording(content[:4], _Bytes(content)) as file:
        return np.concatenate([mean_of_channels(block) for block in _blocks(file)]), file.samplerate


def mean_of_channels(samples: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Average the channels: (frames, channels) to (frames,)."""
    if samples.shape[1] == 1:
        return samples[:, 0]
    mean: npt.NDArray[np.float32] = samples.mean(axis=1, dtype=np.float32)
    return mean


def _energy(samples: npt.NDArray[np.float32] | npt.NDArray[np.int16]) -> float:
    """Sum of squares; exact for a block of 16-bit samples, so that the RMS does not depend on the order of addition."""
    values = samples.ravel().astype(np.float64)
    return float(np.einsum("i,i->", values, values))


def _read_plain(content: bytes) -> tuple[npt.NDArray[np.int16], int] | None:
    """int16 samples and rate of a plain 16-bit WAV within the limits; None if libsndfile must read the recording."""
    plain = pcm16.read(content, MAX_CHANNELS, SAMPLE_RATES_HZ)
    return None if plain is None or plain[0].size > MAX_SAMPLES else plain


def _to_float32(samples: npt.NDArray[np.int16]) -> npt.NDArray[np.float32]:
    return samples.astype(np.float32) / np.float32(pcm16.FULL_SCALE)


def _facts_of_pcm16(samples: npt.NDArray[np.int16], sample_rate_hz: int) -> Facts:
    values = samples.ravel()
    blocks = [values[at : at + _BLOCK_SAMPLES] for at in range(0, len(values), _BLOCK_SAMPLES)]
    peak = max(int(values.max()), -int(values.min()))
    threshold = math.ceil(CLIPPED_AT * pcm16.FULL_SCALE)
    clipped = 0
    if peak >= threshold:
        clipped = sum(int(np.count_nonzero((block >= threshold) | (block <= -threshold))) for block in blocks)
    return Facts(
        format="WAV PCM_16",
        sample_rate_hz=sample_rate_hz,
        channels=samples.shape[1],
        frames=len(samples),
        peak=peak / pcm16.FULL_SCALE,
        rms=math.sqrt(math.fsum(map(_energy, blocks)) / pcm16.FULL_SCALE**2 / len(values)),
        clipped_fraction=clipped / len(values),
    )


@contextmanager
def open_recording(head: bytes, file: BinaryIO | int) -> Iterator[soundfile.SoundFile]:
    """Open a recording with libsndfile and check its header.

    Args:
        head: the first four bytes.
        file: a file, or a file descriptor.

    Raises:
        DecodeError: the header is not accepted, or libsndfile fails, here or while the caller reads.
    """
    if not head:
        raise DecodeError("an empty file")
    if head not in CONTAINERS:
        raise DecodeError(f"not a recording; expected one of {', '.join(dict.fromkeys(CONTAINERS.values()))}")
    try:
        with soundfile.SoundFile(file, closefd=False) as sound:
            _check_header(sound)
            yield sound
    except soundfile.LibsndfileError as error:
        text = " ".join(error.error_string.split()).rstrip(".")
        raise DecodeError(f"libsndfile cannot read it: {text}") from error


def _check_header(file: soundfile.SoundFile) -> None:
    if file.subtype not in ENCODINGS:
        raise DecodeError(f"encoding {file.subtype}; expected one of {', '.join(sorted(ENCODINGS))}")
    if not 1 <= file.channels <= MAX_CHANNELS:
        raise DecodeError(f"{file.channels} channels; expected 1 to {MAX_CHANNELS}")
    if file.samplerate not in SAMPLE_RATES_HZ:
        first, last = SAMPLE_RATES_HZ[0], SAMPLE_RATES_HZ[-1]
        raise DecodeError(f"sample rate {file.samplerate} Hz; expected {first} to {last} Hz")


def _blocks(file: soundfile.SoundFile) -> Iterator[npt.NDArray[np.float32]]:
    """Yield all samples in checked blocks, float32 (frames, channels); at least one block."""
    frames = max(1, min(file.frames, _BLOCK_SAMPLES // file.channels))
    values = 0
    while len(block := file.read(out=np.empty((frames, file.channels), np.float32))):
        values += block.size
        if values > MAX_SAMPLES:
            raise DecodeError(f"more than {MAX_SAMPLES} samples; expected at most that many")
        check_samples(block)
        yield block
    if not values:
        raise DecodeError("no samples")


def check_samples(block: npt.NDArray[np.float32]) -> None:
    """Check that all samples are finite and at most MAX_MAGNITUDE.

    Raises:
        DecodeError: they are not.
    """
    if not np.isfinite(block).all():
        raise DecodeError("NaN or infinite samples")
    peak = float(np.abs(block).max())
    if peak > MAX_MAGNITUDE:
        raise DecodeError(f"a sample of {peak:.3g} times full scale; expected at most {MAX_MAGNITUDE:.3g}")
