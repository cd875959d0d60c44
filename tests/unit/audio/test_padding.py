"""Clips of one length from recordings of any: one at a time, and many at once from the bytes of a shard."""

import numpy as np
import pytest
from support import recordings

from earmark.audio import decode, pcm16
from earmark.audio.padding import fit

MODES = {"silence": {"mode": "constant"}, "repeat": {"mode": "wrap"}, "reflect": {"mode": "reflect"}}
RATE = 16_000


@pytest.mark.parametrize("padding", MODES)
@pytest.mark.parametrize("samples", [1, 2, 3, 7, 6688, 15_999, 16_000, 16_001, 40_000])
def test_a_clip_is_numpys_padding_of_a_short_recording_and_the_middle_of_a_long_one(samples, padding):
    recording = np.random.default_rng(samples).normal(size=samples).astype(np.float32)
    before = max(0, (16_000 - samples) // 2)
    expected = np.pad(recording, (before, max(0, 16_000 - samples - before)), **MODES[padding])
    surplus = (len(expected) - 16_000) // 2
    np.testing.assert_array_equal(fit(recording, 16_000, padding), expected[surplus : surplus + 16_000])


@pytest.mark.parametrize("padding", MODES)
def test_of_no_samples_comes_silence(padding):
    np.testing.assert_array_equal(fit(np.empty(0, np.float32), 5, padding), np.zeros(5))


def shard(contents: list[bytes]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Recordings in a row, each at a multiple of 512 bytes, with their starts and lengths."""
    starts, joined = [], b""
    for content in contents:
        joined += bytes(512)
        starts.append(len(joined))
        joined += content + bytes(-len(content) % 512)
    return np.frombuffer(joined, np.uint8), np.array(starts), np.array([len(content) for content in contents])


def read(contents: list[bytes], clip_samples: int, padding: str) -> tuple[np.ndarray, np.ndarray]:
    """The plain ones of a shard's recordings as clips, and which they are."""
    stretch, starts, lengths = shard(contents)
    plain = pcm16.are_plain(stretch, starts, lengths, RATE)
    return pcm16.read_many(stretch, starts[plain], lengths[plain], clip_samples, padding), plain


def speechlike(samples: int) -> bytes:
    return recordings.plain(np.random.default_rng(samples).integers(-32_768, 32_768, samples), RATE)


@pytest.mark.parametrize("padding", MODES)
def test_many_at_once_are_what_each_is_alone(padding):
    contents = [speechlike(samples) for samples in (16_000, 1, 6688, 15_999, 16_001, 70_000, 2)]
    clips, plain = read(contents, 16_000, padding)
    assert plain.all()
    for clip, content in zip(clips, contents, strict=True):
        np.testing.assert_array_equal(clip, decode.clip(content, RATE, 16_000, padding))
    assert clips.dtype == np.float32


def test_what_is_not_plain_is_left_to_others_whatever_it_claims():
    honest = speechlike(800)
    liars = [honest[:44], honest[:45], honest[:-1], honest + b"\0", b"", b"RIFF", honest[:20] + b"\3" + honest[21:]]
    others = [recordings.plain(np.zeros(800), 8000), recordings.plain(np.zeros(800), RATE, channels=2)]
    others += [recordings.written("WAV", "FLOAT"), recordings.written("FLAC", "PCM_16")]
    contents = [honest, *liars, *others, honest]
    clips, plain = read(contents, 400, "silence")
    np.testing.assert_array_equal(np.flatnonzero(plain), [0, len(contents) - 1])
    np.testing.assert_array_equal(clips[0], decode.clip(honest, RATE, 400, "silence"))


def test_every_bit_of_a_header_counts():
    honest = speechlike(800)
    flipped = [honest[:at] + bytes([honest[at] ^ 1 << bit]) + honest[at + 1 :] for at in range(44) for bit in range(8)]
    _, plain = read([*flipped, honest], 400, "silence")
    assert not plain[:-1].any()
    assert plain[-1]


def test_none_plain_is_no_clip():
    clips, plain = read([b"x" * 100], 400, "repeat")
    assert clips.shape == (0, 400)
    assert not plain.any()
