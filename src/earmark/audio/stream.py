"""Reads audio that is endless or too long for memory: mono blocks as they arrive, and sliding windows over them."""

from collections.abc import Callable, Iterable, Iterator
from io import FileIO
from itertools import chain

import numpy as np
import numpy.typing as npt
import soundfile
import soxr

from earmark.audio import decode, pcm16
from earmark.audio.decode import DecodeError
from earmark.audio.padding import fit
from earmark.params import Padding

MAX_WINDOWS = 32
"""Most windows that are yielded at a time: enough for a fast batch, in a few megabytes."""

_BLOCK_SAMPLES = 2**18
_READ_BYTES = 2**16


def recording(file: FileIO, sample_rate_hz: int) -> Iterator[npt.NDArray[np.float32]]:
    """Yield the samples of `decode.mono` in blocks, float32 (samples,), in bounded memory.

    Args:
        file: a recording of any length on disk, open at its start.
        sample_rate_hz: the sample rate of the blocks.

    Raises:
        DecodeError: as `decode.mono`, but without a limit on samples, and only after the blocks before the damage.
    """
    head = file.read(4)
    file.seek(0)
    with decode.open_recording(head, file.fileno()) as sound:
        yield from _resample(_mono_blocks(sound), sound.samplerate, sample_rate_hz)


def raw_pcm16(read: Callable[[int], bytes]) -> Iterator[npt.NDArray[np.float32]]:
    """Yield raw 16-bit little-endian mono samples as blocks, float32 (samples,) in [-1, 1], as soon as they arrive.

    Args:
        read: waits for data, and returns at most the given number of bytes; b"" at the end.

    Raises:
        DecodeError: there are no samples, the last sample is incomplete, or the data starts with the header of a
            recording.
    """
    chunks = iter(lambda: read(_READ_BYTES), b"")
    head = b""
    while len(head) < 4 and (chunk := next(chunks, b"")):
        head += chunk
    if head[:4] in decode.CONTAINERS:
        container = decode.CONTAINERS[head[:4]]
        raise DecodeError(f"starts with the header of a {container} file; expected raw PCM, or the file's name")
    if not head:
        raise DecodeError("no samples")
    rest = b""
    for chunk in chain([head], chunks):
        content = rest + chunk
        whole = len(content) // 2 * 2
        yield np.frombuffer(content[:whole], "<i2").astype(np.float32) / np.float32(pcm16.FULL_SCALE)
        rest = content[whole:]
    if rest:
        raise DecodeError("ends with half a sample; a sample has 2 bytes")


def windows(
    blocks: Iterable[npt.NDArray[np.float32]], length: int, hop_samples: float, padding: Padding
) -> Iterator[npt.NDArray[np.float32]]:
    """Yield sliding windows as soon as they are complete: float32 (windows, length), 1 to MAX_WINDOWS at a time.

    Window i starts at sample `i * hop_samples`, rounded. If all blocks together are shorter than a window, they give
    one padded window.
    """
    buffer, buffer_start, window_count = np.empty(0, np.float32), 0, 0
    for block in blocks:
        buffer = np.concatenate([buffer, block])
        end = buffer_start + len(buffer)
        starts = np.rint(np.arange(window_count, end // hop_samples + 1) * hop_samples).astype(np.int64)
        starts = starts[starts + length <= end]
        for at in range(0, len(starts), MAX_WINDOWS):
            yield np.stack([buffer[start : start + length] for start in starts[at : at + MAX_WINDOWS] - buffer_start])
        window_count += len(starts)
        finished = min(round(window_count * hop_samples) - buffer_start, len(buffer))
        buffer, buffer_start = buffer[finished:], buffer_start + finished
    if not window_count:
        yield fit(buffer, length, padding)[None]


def _mono_blocks(sound: soundfile.SoundFile) -> Iterator[npt.NDArray[np.float32]]:
    """The mean over channels in checked blocks, (samples,); at least one block."""
    shape = _BLOCK_SAMPLES // sound.channels, sound.channels
    empty = True
    while len(block := sound.read(out=np.empty(shape, np.float32))):
        decode.check_samples(block)
        yield decode.mean_of_channels(block)
        empty = False
    if empty:
        raise DecodeError("no samples")


def _resample(
    blocks: Iterable[npt.NDArray[np.float32]], source_rate_hz: int, sample_rate_hz: int
) -> Iterator[npt.NDArray[np.float32]]:
    if source_rate_hz == sample_rate_hz:
        yield from blocks
        return
    resampler = soxr.ResampleStream(source_rate_hz, sample_rate_hz, 1, dtype="float32", quality="HQ")
    for block in blocks:
        yield resampler.resample_chunk(block)
    yield resampler.resample_chunk(np.empty(0, np.float32), last=True)
