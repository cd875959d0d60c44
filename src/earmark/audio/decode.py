"""Bytes of a recording to mono float32 samples of one length; bytes that are none, or lie, are refused."""

import io
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO

import numpy as np
import soundfile
import soxr

from earmark.audio import pcm16
from earmark.audio.padding import fit

if TYPE_CHECKING:  # a served model carries this module, and not the parameters
    from earmark.params import Padding

CLIPPED_AT = 0.999
"""Absolute sample value from which a sample counts as clipped (full scale is 1)."""
MAX_SAMPLES = 2**26
"""Most values over all channels that are decoded, and most that resampling may give: 70 minutes at 16 kHz."""
MAX_CHANNELS = 64
SAMPLE_RATES_HZ = range(1_000, 768_001)
MAX_MAGNITUDE = 2.0**32
"""Largest absolute value of a floating-point sample. Above it, averaging and filtering could overflow float32."""
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
"""First bytes of a recording, and the format. No other is opened: libsndfile prints on stdout for a damaged CAF, on
stderr for MP3, and makes minutes of silence from an Ogg file of 1 kB whose positions lie."""
ENCODINGS = frozenset(
    {
        *("PCM_S8", "PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE"),
        *("ULAW", "ALAW", "IMA_ADPCM", "MS_ADPCM", "GSM610"),
    }
)
"""How samples may be stored, in libsndfile's names."""
RESAMPLING_MARGIN = 1_024
"""Samples, at the lower of the two rates, that are resampled on each side of what `clip` keeps."""

_BLOCK_SAMPLES = 2**18


class _Bytes(io.BytesIO):
    """Bytes whose `seek` stays where it is, like lseek, where a lying header sends libsndfile outside them."""

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        try:
            return super().seek(offset, whence)
        except (ValueError, OverflowError):
            return self.tell()


class DecodeError(ValueError):
    """The bytes are no audio that can be read; the text says why, on one line."""


@dataclass(frozen=True)
class Facts:
    """What a recording is, before anything is done to it. `peak` and `rms` are fractions of full scale, above 1 only
    in a floating-point recording."""

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
    """Samples, float32 of shape (frames, channels), [-1, 1] unless stored as floating point, and the sample rate in Hz.

    Memory follows the samples that are there, never what the header claims. Raises DecodeError for what is not
    one of CONTAINERS or is beyond the limits above, for no samples, and for NaN or infinite ones.
    """
    if (plain := _plain(content)) is not None:
        samples, sample_rate_hz = plain
        return _to_float32(samples), sample_rate_hz
    with opened(content[:4], _Bytes(content)) as file:
        return np.concatenate(list(_blocks(file))), file.samplerate


def facts(content: bytes) -> Facts:
    """Facts of a recording, in bounded memory; DecodeError where `decode` raises it."""
    if (plain := _plain(content)) is not None:
        return _facts_of_pcm16(*plain)
    frames, peak, clipped, energies = 0, 0.0, 0, []
    with opened(content[:4], _Bytes(content)) as file:
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


def mono(content: bytes, sample_rate_hz: int) -> np.ndarray:
    """The whole recording as float32 of shape (samples,) at `sample_rate_hz`: channels averaged, then resampled.

    Raises DecodeError where `decode` does, and where resampling would give more than MAX_SAMPLES.
    """
    mixed, source_rate_hz = _mixed(content)
    if len(mixed) * sample_rate_hz > MAX_SAMPLES * source_rate_hz:
        raise DecodeError(f"more than {MAX_SAMPLES} samples at {sample_rate_hz} Hz; allowed are at most that many")
    return _resampled(mixed, source_rate_hz, sample_rate_hz)


def clip(content: bytes, sample_rate_hz: int, length: int, padding: "Padding") -> np.ndarray:
    """A recording as one clip: mono, at `sample_rate_hz`, `length` samples, float32; a short one padded as `padding`
    says.

    Of a long recording at another rate only the middle is resampled, with RESAMPLING_MARGIN on both sides: the same
    samples as from the whole, to float32 rounding. Raises DecodeError where `decode` does.
    """
    mixed, source_rate_hz = _mixed(content)
    if source_rate_hz == sample_rate_hz:
        return fit(mixed, length, padding)
    return _middle_resampled(mixed, source_rate_hz, sample_rate_hz, length, padding)


def _middle_resampled(
    samples: np.ndarray, source_rate_hz: int, sample_rate_hz: int, length: int, padding: "Padding"
) -> np.ndarray:
    """fit(resampled samples, length, padding), from no more of `samples` than that takes."""
    divisor = math.gcd(source_rate_hz, sample_rate_hz)
    # A cut at a multiple of these leaves every resampled sample at its own place in time.
    source_step, step = source_rate_hz // divisor, sample_rate_hz // divisor
    margin = math.ceil(RESAMPLING_MARGIN * max(1, sample_rate_hz / source_rate_hz))
    start = (round(len(samples) * step / source_step) - length) // 2
    first = max(0, (start - margin) // step)
    last = math.ceil((start + length + margin) / step)
    if first == 0 or last * source_step >= len(samples):
        return fit(_resampled(samples, source_rate_hz, sample_rate_hz), length, padding)
    part = _resampled(samples[first * source_step : last * source_step], source_rate_hz, sample_rate_hz)
    return part[start - first * step :][:length]


def _resampled(samples: np.ndarray, source_rate_hz: int, sample_rate_hz: int) -> np.ndarray:
    if source_rate_hz == sample_rate_hz:
        return samples
    return soxr.resample(samples, source_rate_hz, sample_rate_hz, quality="HQ")


def _mixed(content: bytes) -> tuple[np.ndarray, int]:
    """The mean over channels, float32 of shape (frames,), and the sample rate in Hz."""
    if (plain := _plain(content)) is not None:
        samples, sample_rate_hz = plain
        return mean_of_channels(_to_float32(samples)), sample_rate_hz
    with opened(content[:4], _Bytes(content)) as file:
        return np.concatenate([mean_of_channels(block) for block in _blocks(file)]), file.samplerate


def mean_of_channels(samples: np.ndarray) -> np.ndarray:
    """(frames, channels) to (frames,)."""
    return samples[:, 0] if samples.shape[1] == 1 else samples.mean(axis=1, dtype=np.float32)


def _energy(samples: np.ndarray) -> float:
    """Sum of squares. Exact for a block of 16-bit samples, so that their RMS depends on no order of adding."""
    values = samples.ravel().astype(np.float64)
    return float(np.einsum("i,i->", values, values))


def _plain(content: bytes) -> tuple[np.ndarray, int] | None:
    """int16 samples and rate of a plain 16-bit WAV within the limits; None for whatever libsndfile has to read."""
    plain = pcm16.read(content, MAX_CHANNELS, SAMPLE_RATES_HZ)
    return None if plain is None or plain[0].size > MAX_SAMPLES else plain


def _to_float32(samples: np.ndarray) -> np.ndarray:
    return samples.astype(np.float32) / np.float32(pcm16.FULL_SCALE)


def _facts_of_pcm16(samples: np.ndarray, sample_rate_hz: int) -> Facts:
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
def opened(head: bytes, file: BinaryIO | int) -> Iterator[soundfile.SoundFile]:
    """The recording in `file`, or in the file of a descriptor, as libsndfile opens it, with `head` its first four bytes
    and its header within the limits. libsndfile's errors become DecodeError."""
    if not head:
        raise DecodeError("an empty file")
    if head not in CONTAINERS:
        raise DecodeError(f"not a recording; allowed formats are {', '.join(dict.fromkeys(CONTAINERS.values()))}")
    try:
        with soundfile.SoundFile(file, closefd=False) as sound:
            _check_header(sound)
            yield sound
    except soundfile.LibsndfileError as error:
        text = " ".join(error.error_string.split()).rstrip(".")
        raise DecodeError(f"unreadable for libsndfile: {text}") from error


def _check_header(file: soundfile.SoundFile) -> None:
    if file.subtype not in ENCODINGS:
        raise DecodeError(f"encoding {file.subtype}; allowed are {', '.join(sorted(ENCODINGS))}")
    if not 1 <= file.channels <= MAX_CHANNELS:
        raise DecodeError(f"{file.channels} channels; allowed are 1 to {MAX_CHANNELS}")
    if file.samplerate not in SAMPLE_RATES_HZ:
        first, last = SAMPLE_RATES_HZ[0], SAMPLE_RATES_HZ[-1]
        raise DecodeError(f"sample rate {file.samplerate} Hz; allowed are {first} to {last} Hz")


def _blocks(file: soundfile.SoundFile) -> Iterator[np.ndarray]:
    """All samples as float32 arrays of shape (frames, channels), at least one, each checked."""
    frames = max(1, min(file.frames, _BLOCK_SAMPLES // file.channels))
    values = 0
    while len(block := file.read(out=np.empty((frames, file.channels), np.float32))):
        values += block.size
        if values > MAX_SAMPLES:
            raise DecodeError(f"more than {MAX_SAMPLES} samples; allowed are at most that many")
        check_samples(block)
        yield block
    if not values:
        raise DecodeError("no samples")


def check_samples(block: np.ndarray) -> None:
    """DecodeError for samples that are no finite numbers, or beyond MAX_MAGNITUDE."""
    if not np.isfinite(block).all():
        raise DecodeError("NaN or infinite samples")
    peak = float(np.abs(block).max())
    if peak > MAX_MAGNITUDE:
        raise DecodeError(f"a sample of {peak:.3g} times full scale; allowed are at most {MAX_MAGNITUDE:.3g}")
