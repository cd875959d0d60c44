"""A generated data set in the layout and of the size of Speech Commands, as an archive and as loose files.

A clip is one second of 16 kHz, 16-bit, mono WAV: quiet coloured noise with one louder swell, at levels that compress
about as well as recorded speech does. No two clips have the same content, and a seed gives the same clips.
"""

import io
import tarfile
import wave
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from isal import igzip_threaded
from scipy.signal import lfilter

from earmark.dataset.layout import NOISE_FOLDER
from earmark.dataset.splits import speaker_split

SAMPLE_RATE_HZ = 16_000
LABELS = [f"word {number:02d}" for number in range(1, 31)]
CLIPS_PER_SPEAKER = 34
NOISE_RECORDINGS = 6
NOISE_SECONDS = 60

_BLOCK_CLIPS = 512
_BANK_SAMPLES = 2**21
_QUIET_RMS, _LOUD_RMS = 40.0, 1200.0  # medians over the clips, in steps of 16 bits
_COMPRESSION_LEVEL = 3


@dataclass(frozen=True)
class Corpus:
    """Where the generated recordings lie.

    `archive` and `loose` hold the same data set, with noise and lists of splits; `inbox` is a folder with one more
    clip for each hundred.
    """

    archive: Path
    loose: Path
    inbox: Path


def generate(folder: Path, clips: int, seed: int = 1) -> Corpus:
    """Writes `clips` clips, of 30 labels, and their inbox into `folder`."""
    inbox_clips = max(1, clips // 100)
    ids = _ids(clips + inbox_clips, seed)
    corpus = Corpus(folder / "recordings.tar.gz", folder / "recordings", folder / "inbox")
    first, more = ids[:clips], ids[clips:]
    members = _members(sorted(first), np.random.SeedSequence([seed, 0]))
    with (
        igzip_threaded.open(corpus.archive, "wb", compresslevel=_COMPRESSION_LEVEL, threads=2) as compressed,
        tarfile.open(fileobj=compressed, mode="w|", bufsize=2**20) as archive,
    ):
        for name, content in members:
            _write(corpus.loose / name, content)
            header = tarfile.TarInfo(f"./{name}")
            header.size = len(content)
            archive.addfile(header, io.BytesIO(content))
    for name, content in _clips(more, np.random.SeedSequence([seed, 1])):
        _write(corpus.inbox / name, content)
    return corpus


def _write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def _ids(count: int, seed: int) -> list[str]:
    """`count` ids "<label>/<8 hex digits>_nohash_<n>.wav" in random order; every speaker says any of the labels."""
    generator = np.random.default_rng(seed)
    speakers = [f"{code:08x}" for code in generator.choice(2**32, max(30, count // CLIPS_PER_SPEAKER), replace=False)]
    taken: dict[tuple[str, str], int] = {}
    ids = []
    for speaker, label in zip(generator.choice(speakers, count), generator.choice(LABELS, count), strict=True):
        number = taken.get((speaker, label), 0)
        taken[speaker, label] = number + 1
        ids.append(f"{label}/{speaker}_nohash_{number}.wav")
    return ids


def _members(ids: list[str], sequence: np.random.SeedSequence) -> Iterator[tuple[str, bytes]]:
    noise, clips = sequence.spawn(2)
    for split, name in (("validation", "validation_list.txt"), ("test", "testing_list.txt")):
        listed = [clip_id for clip_id in ids if speaker_split(clip_id.partition("/")[2].partition("_")[0]) == split]
        yield name, "".join(f"{clip_id}\n" for clip_id in listed).encode()
    generator = np.random.default_rng(noise)
    for number in range(NOISE_RECORDINGS):
        samples = 300 * generator.standard_normal(NOISE_SECONDS * SAMPLE_RATE_HZ)
        yield f"{NOISE_FOLDER}/noise_{number}.wav", _wav(samples.astype("<i2").tobytes())
    yield from _clips(ids, clips)


def _clips(ids: list[str], sequence: np.random.SeedSequence) -> Iterator[tuple[str, bytes]]:
    bank = _bank()
    starts = range(0, len(ids), _BLOCK_CLIPS)
    for start, child in zip(starts, sequence.spawn(len(starts)), strict=True):
        block = ids[start : start + _BLOCK_CLIPS]
        for name, samples in zip(block, _waveforms(len(block), bank, np.random.default_rng(child)), strict=True):
            yield name, _wav(samples.tobytes())


def _bank() -> np.ndarray:
    """Coloured noise of unit RMS, float32."""
    white = np.random.default_rng(0).standard_normal(_BANK_SAMPLES)
    coloured = lfilter([1.0], [1.0, -1.6, 0.81], white)
    return (coloured / coloured.std()).astype(np.float32)


def _waveforms(count: int, bank: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Clips, int16 (count, SAMPLE_RATE_HZ)."""
    windows = np.lib.stride_tricks.sliding_window_view(bank, SAMPLE_RATE_HZ)
    quiet_start, loud_start = generator.integers(len(windows), size=(2, count))
    quiet = _column(_QUIET_RMS * generator.lognormal(sigma=1.2, size=count))
    loud = _column(_LOUD_RMS * generator.lognormal(sigma=0.7, size=count))
    centre, width = _column(generator.uniform(0.3, 0.7, count)), _column(generator.uniform(0.08, 0.18, count))
    seconds = np.arange(SAMPLE_RATE_HZ, dtype=np.float32) / SAMPLE_RATE_HZ
    swell = np.exp(-np.square((seconds - centre) / width))
    mixed = windows[quiet_start] * quiet + windows[loud_start] * (loud * swell)
    return np.clip(np.rint(mixed), -32_768, 32_767).astype("<i2")


def _column(values: np.ndarray) -> np.ndarray:
    return values.astype(np.float32)[:, None]


def _wav(samples: bytes) -> bytes:
    """16-bit mono samples as a WAV file."""
    file = io.BytesIO()
    with wave.open(file, "wb") as writer:
        writer.setnchannels(1)
        writer.setsampwidth(2)
        writer.setframerate(SAMPLE_RATE_HZ)
        writer.writeframes(samples)
    return file.getvalue()
