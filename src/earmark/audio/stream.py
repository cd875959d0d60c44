"""Audio without an end, or too long to be held: mono blocks as they come, and the windows that slide over them."""

from collections.abc import Callable, Iterable, Iterator
from io import FileIO
from itertools import chain

import numpy as np
import soundfile
import soxr

from earmark.audio import decode, pcm16
from earmark.audio.decode import DecodeError
from earmark.audio.padding import fit
from earmark.params import Padding

MAX_WINDOWS = 32
"""Windows that are given at a time: enough for a network to be fast, and a few megabytes."""

_BLOCK_SAMPLES = 2**18
_READ_BYTES = 2**16


def recording(file: FileIO, sample_rate_hz: int) -> Iterator[np.ndarray]:
    """A recording of any length as mono float32 blocks (samples,) at `sample_rate_hz`: the samples of `decode.mono`, in
    bounded memory.

    `file` is a file on disk, open at its beginning. Raises DecodeError where `decode.mono` does, but for the
    number of samples; what is wrong later in a recording, after the blocks before it.
    """
    head = file.read(4)
    file.seek(0)
    with decode.opened(head, file.fileno()) as sound:
        yield from _resampled(_mixed(sound), sound.samplerate, sample_rate_hz)


def raw_pcm16(read: Callable[[int], bytes]) -> Iterator[np.ndarray]:
    """Raw 16-bit little-endian mono samples as float32 blocks (samples,) in [-1, 1], each as soon as it is there.

    `read` waits until there is something, gives at most so many bytes of it, and none at the end. Raises
    DecodeError for no samples, for half a sample at the end, and for what begins as a recording with a header.
    """
    arrivals = iter(lambda: read(_READ_BYTES), b"")
    head = b""
    while len(head) < 4 and (arrived := next(arrivals, b"")):
        head += arrived
    if head[:4] in decode.CONTAINERS:
        form = decode.CONTAINERS[head[:4]]
        raise DecodeError(f"begins with the header of a {form} file; allowed are raw PCM, and such a file's name")
    if not head:
        raise DecodeError("no samples")
    rest = b""
    for arrived in chain([head], arrivals):
        content = rest + arrived
        whole = len(content) // 2 * 2
        yield np.frombuffer(content[:whole], "<i2").astype(np.float32) / np.float32(pcm16.FULL_SCALE)
        rest = content[whole:]
    if rest:
        raise DecodeError("ends with half a sample; a sample has 2 bytes")


def windows(blocks: Iterable[np.ndarray], length: int, hop_samples: float, padding: Padding) -> Iterator[np.ndarray]:
    """Every whole window of `length` samples, each as soon as its last sample is there: float32 (windows, length), 1 to
    MAX_WINDOWS at a time.

    Window i begins at sample `i * hop_samples`, rounded. Blocks shorter than a window in all are one window, padded as
    `padding` says.
    """
    held, first, following = np.empty(0, np.float32), 0, 0
    for block in blocks:
        held = np.concatenate([held, block])
        end = first + len(held)
        starts = np.rint(np.arange(following, end // hop_samples + 1) * hop_samples).astype(np.int64)
        starts = starts[starts + length <= end]
        for at in range(0, len(starts), MAX_WINDOWS):
            yield np.stack([held[start : start + length] for start in starts[at : at + MAX_WINDOWS] - first])
        following += len(starts)
        gone = min(round(following * hop_samples) - first, len(held))
        held, first = held[gone:], first + gone
    if not following:
        yield fit(held, length, padding)[None]


def _mixed(sound: soundfile.SoundFile) -> Iterator[np.ndarray]:
    """The mean over channels in blocks (samples,), at least one, each checked."""
    shape = _BLOCK_SAMPLES // sound.channels, sound.channels
    empty = True
    while len(block := sound.read(out=np.empty(shape, np.float32))):
        decode.check_samples(block)
        yield decode.mean_of_channels(block)
        empty = False
    if empty:
        raise DecodeError("no samples")


def _resampled(blocks: Iterable[np.ndarray], source_rate_hz: int, sample_rate_hz: int) -> Iterator[np.ndarray]:
    if source_rate_hz == sample_rate_hz:
        yield from blocks
        return
    resampler = soxr.ResampleStream(source_rate_hz, sample_rate_hz, 1, dtype="float32", quality="HQ")
    for block in blocks:
        yield resampler.resample_chunk(block)
    yield resampler.resample_chunk(np.empty(0, np.float32), last=True)
