"""Audio of any length, block by block, is the audio that decode has as a whole."""

import io
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st
from support import recordings

from earmark.audio import decode, stream
from earmark.audio.padding import fit

NOISE = np.random.default_rng(0).uniform(-0.5, 0.5, 700_001).astype(np.float32)


def opened(folder: Path, content: bytes) -> io.FileIO:
    path = folder / "recording"
    path.write_bytes(content)
    return io.FileIO(path)


def written(samples: np.ndarray, sample_rate_hz: int, form: str = "WAV", subtype: str = "PCM_16") -> bytes:
    buffer = io.BytesIO()
    soundfile.write(buffer, samples, sample_rate_hz, format=form, subtype=subtype)
    return buffer.getvalue()


@pytest.mark.parametrize(("form", "subtype"), recordings.WRITTEN)
def test_every_format_has_the_samples_that_decode_finds(form, subtype, tmp_path):
    content = recordings.written(form, subtype)
    samples = np.concatenate(list(stream.recording(opened(tmp_path, content), 16_000)))
    np.testing.assert_array_equal(samples, decode.mono(content, 16_000))


@pytest.mark.parametrize("rate", [8_000, 11_025, 16_001, 44_100, 48_000])
@pytest.mark.parametrize("channels", [1, 3])
def test_a_recording_of_many_blocks_is_resampled_as_a_whole_one_is(rate, channels, tmp_path):
    content = written(NOISE[: len(NOISE) // channels * channels].reshape(-1, channels), rate)
    blocks = list(stream.recording(opened(tmp_path, content), 16_000))
    assert len(blocks) > 2
    np.testing.assert_allclose(np.concatenate(blocks), decode.mono(content, 16_000), atol=1e-6)


def test_a_recording_longer_than_is_decoded_at_once_takes_the_memory_of_a_block(tmp_path):
    samples = decode.MAX_SAMPLES + 1
    header = recordings.riff(
        recordings.format_chunk(recordings.PCM, 1, 16_000, 16),
        recordings.chunk(b"data", b"", 2 * samples),
        size=36 + 2 * samples,
    )
    file = opened(tmp_path, header)
    (tmp_path / "recording").open("r+b").truncate(len(header) + 2 * samples)
    tracemalloc.start()
    try:
        assert sum(len(block) for block in stream.recording(file, 16_000)) == samples
        assert tracemalloc.get_traced_memory()[1] < 2**24
    finally:
        tracemalloc.stop()


def nan_at(second: float) -> bytes:
    samples = np.zeros(20 * 16_000, np.float32)
    samples[round(second * 16_000)] = np.nan
    return written(samples, 16_000, subtype="FLOAT")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "an empty file"),
        (b"no audio at all" * 10, "not a recording; expected one of WAV"),
        (b"RIFF", "libsndfile cannot read it"),
        (recordings.plain([]), "no samples"),
        (nan_at(0.5), "NaN or infinite samples"),
        (nan_at(19.5), "NaN or infinite samples"),
        (recordings.riff(recordings.format_chunk(recordings.PCM, 65, 16_000, 16)), "channels|cannot read"),
        (written(NOISE[:100], 900), "sample rate 900 Hz; expected 1000"),
        (written(NOISE[:800], 8_000, subtype="G721_32"), "encoding G721_32"),
    ],
)
def test_what_is_no_sound_recording_is_refused_with_a_reason(content, reason, tmp_path):
    with pytest.raises(decode.DecodeError, match=reason):
        list(stream.recording(opened(tmp_path, content), 16_000))


@pytest.mark.parametrize(
    "content",
    [
        recordings.flac_claiming(2**36 - 1),
        recordings.flac_claiming(2**36 - 1, tail=b"\xff\xf8" + bytes(1000)),
        recordings.rf64_claiming(2**62, 2**61, bytes(1000)),
        recordings.aiff_claiming(2**31, 1, bytes(1000), 2**31),
        recordings.au_claiming(2**32 - 1, 1, bytes(1000)),
        recordings.w64_claiming(2**62, bytes(1000)),
        recordings.riff(
            recordings.format_chunk(recordings.PCM, 1, 16_000, 16), recordings.chunk(b"data", bytes(1000), 2**32 - 16)
        ),
    ],
)
def test_a_header_that_lies_about_the_length_adds_no_sound(content, tmp_path):
    try:
        count = sum(len(block) for block in stream.recording(opened(tmp_path, content), 16_000))
    except decode.DecodeError:
        return
    assert count <= 1000


def arriving(content: bytes, sizes: list[int]):
    """A `read` to which `content` comes in pieces of these sizes, then as it likes."""
    source, pieces = io.BytesIO(content), iter(sizes)
    return lambda most: source.read(min(most, next(pieces, most)))


@given(st.binary(max_size=400), st.lists(st.integers(1, 9), max_size=60))
def test_raw_pcm_is_the_same_in_whatever_pieces_it_comes(content, sizes):
    content = b"\0\0\0\0" + content[: len(content) // 2 * 2]
    samples = np.concatenate(list(stream.raw_pcm16(arriving(content, sizes))))
    np.testing.assert_array_equal(samples, np.frombuffer(content, "<i2") / np.float32(32_768))


@pytest.mark.parametrize(
    ("content", "reason"),
    [(b"", "no samples"), (bytes(5), "half a sample"), (b"\0", "half a sample"), (recordings.plain([1]), "a WAV file")],
)
def test_raw_pcm_that_is_none_is_refused(content, reason):
    with pytest.raises(decode.DecodeError, match=reason):
        list(stream.raw_pcm16(arriving(content, [1, 1, 1])))


def blocks_of(samples: np.ndarray, sizes: list[int]) -> list[np.ndarray]:
    return np.split(samples, np.cumsum(sizes)[np.cumsum(sizes) < len(samples)])


@given(
    st.integers(0, 3000),
    st.lists(st.integers(0, 700), max_size=30),
    st.integers(1, 400),
    st.sampled_from([160.0, 110.25, 0.75, 31.5, 500.0]),
)
def test_windows_are_the_same_in_whatever_blocks_the_samples_come(count, sizes, length, hop):
    samples = NOISE[:count]
    batches = list(stream.windows(blocks_of(samples, sizes), length, hop, "silence"))
    assert all(1 <= len(batch) <= stream.MAX_WINDOWS for batch in batches)
    starts = [start for i in range(2 * count) if (start := round(i * hop)) + length <= count]
    expected = [samples[start : start + length] for start in starts] or [fit(samples, length, "silence")]
    np.testing.assert_array_equal(np.concatenate(batches), np.stack(expected))


@pytest.mark.parametrize("padding", ["silence", "repeat", "reflect"])
def test_a_recording_shorter_than_a_window_is_padded_as_a_clip_is(padding):
    [batch] = stream.windows([NOISE[:40], NOISE[40:100]], 160, 16.0, padding)
    np.testing.assert_array_equal(batch, fit(NOISE[:100], 160, padding)[None])


def test_a_window_comes_with_the_block_that_holds_its_last_sample():
    arrived = []

    def blocks():
        for at in range(0, 480, 16):
            arrived.append(at + 16)
            yield NOISE[at : at + 16]

    ends = [arrived[-1] for batch in stream.windows(blocks(), 160, 32.0, "silence") for _ in batch]
    assert ends == list(range(160, 481, 32))


def test_windows_over_an_hour_stay_in_place_at_a_rate_that_no_hop_divides_and_in_little_memory():
    rate, seconds = 1_025, 3_600
    blocks = (np.zeros(rate, np.float32) for _ in range(seconds))
    tracemalloc.start()
    try:
        count = sum(len(batch) for batch in stream.windows(blocks, rate, 0.1 * rate, "silence"))
        assert tracemalloc.get_traced_memory()[1] < 2**20
    finally:
        tracemalloc.stop()
    assert count == 10 * (seconds - 1) + 1
