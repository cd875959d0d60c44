"""Any WAV becomes mono float32 of one length; what is no audio is refused with a reason."""

import io
import tracemalloc

import numpy as np
import pytest
import soundfile
from support import recordings

from earmark.audio import decode, pcm16
from earmark.audio.padding import fit


def wav(samples: np.ndarray, rate: int = 16000, subtype: str = "PCM_16") -> bytes:
    buffer = io.BytesIO()
    soundfile.write(buffer, samples, rate, format="WAV", subtype=subtype)
    return buffer.getvalue()


def tone(rate: int, seconds: float) -> np.ndarray:
    return 0.5 * np.sin(2 * np.pi * 440 * np.arange(round(rate * seconds)) / rate)


@pytest.mark.parametrize("subtype", ["PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE"])
@pytest.mark.parametrize("rate", [8000, 16000, 22050, 44100, 48000])
def test_any_rate_and_depth_keeps_the_tone(subtype, rate):
    clip = decode.clip(wav(tone(rate, 1.0), rate, subtype), 16000, 16000, "silence")
    assert clip.dtype == np.float32
    assert clip.shape == (16000,)
    np.testing.assert_allclose(clip[1000:-1000], tone(16000, 1.0)[1000:-1000], atol=0.02)


def test_channels_are_averaged():
    stereo = np.stack([tone(16000, 1.0), -tone(16000, 1.0)], axis=1)
    assert np.abs(decode.clip(wav(stereo), 16000, 16000, "silence")).max() < 1e-4


@pytest.mark.parametrize("content", [b"", b"RIFF", b"no audio at all" * 10, wav(tone(16000, 0.1))[:40]])
def test_what_is_no_audio_is_refused(content):
    with pytest.raises(decode.DecodeError):
        decode.facts(content)


def test_nan_is_refused():
    samples = tone(16000, 0.1)
    samples[5] = np.nan
    with pytest.raises(decode.DecodeError, match="NaN"):
        decode.facts(wav(samples, subtype="FLOAT"))


def test_a_lying_header_allocates_nothing():
    content = bytearray(wav(tone(16000, 0.1)))
    content[40:44] = (0xFFFFFFF0).to_bytes(4, "little")
    content[4:8] = (0xFFFFFFF0).to_bytes(4, "little")
    assert decode.facts(bytes(content)).frames == 1600


def test_facts_of_a_known_recording():
    facts = decode.facts(wav(np.array([0.0, 1.0, -0.5, 0.0]), 8000))
    assert (facts.format, facts.sample_rate_hz, facts.channels, facts.frames) == ("WAV PCM_16", 8000, 1, 4)
    assert facts.peak == pytest.approx(1.0, abs=1e-4)
    assert facts.rms == pytest.approx(np.sqrt(1.25 / 4), abs=1e-4)
    assert facts.clipped_fraction == 0.25


def eight_bit(samples: int, rate: int) -> bytes:
    """A silent 8-bit WAV."""
    data = recordings.chunk(b"data", b"\x80" * samples)
    return recordings.riff(recordings.format_chunk(recordings.PCM, 1, rate, 8), data)


def peak_bytes(function, *arguments) -> int:
    """Most bytes that Python and NumPy held for `function` at one time."""
    tracemalloc.start()
    try:
        function(*arguments)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("content", [recordings.plain(np.full(2**24, 32767)), eight_bit(2**24, 16000)])
def test_facts_of_a_long_recording_take_no_more_memory_than_a_block(content):
    assert peak_bytes(decode.facts, content) < 2**24


def test_a_recording_beyond_the_limit_of_samples_is_refused():
    assert decode.facts(eight_bit(decode.MAX_SAMPLES, 16000)).peak == 0
    for content in (eight_bit(decode.MAX_SAMPLES + 1, 16000), recordings.plain(np.zeros(decode.MAX_SAMPLES + 1))):
        with pytest.raises(decode.DecodeError, match="more than 67108864 samples"):
            decode.facts(content)


def test_a_low_rate_in_the_header_does_not_multiply_the_samples():
    content = recordings.plain(np.zeros(decode.MAX_SAMPLES // 16 + 1), 1000)
    assert decode.facts(content).sample_rate_hz == 1000
    with pytest.raises(decode.DecodeError, match="more than 67108864 samples at 16000 Hz"):
        decode.mono(content, 16000)
    arguments = (content, 16000, 16000, "silence")
    clip, memory = decode.clip(*arguments), peak_bytes(decode.clip, *arguments)
    assert clip.shape == (16000,)
    assert memory < 6 * len(content)


@pytest.mark.parametrize("rate", [1000, 8000, 11025, 16001, 22050, 44100, 48000, 96000])
def test_the_middle_of_a_long_recording_is_that_of_the_whole_resampled(rate):
    content = wav(np.random.default_rng(0).uniform(-0.7, 0.7, rate * 9 + 7), rate)
    expected = fit(decode.mono(content, 16000), 16000, "silence")
    np.testing.assert_allclose(decode.clip(content, 16000, 16000, "silence"), expected, atol=2e-6)


def test_an_encoding_that_is_not_listed_is_refused_by_name():
    with pytest.raises(decode.DecodeError, match="encoding G721_32; expected one of ALAW, DOUBLE"):
        decode.facts(wav(tone(8000, 0.1), 8000, "G721_32"))


def test_a_plain_wav_with_one_bit_of_its_header_or_its_length_changed_is_left_to_libsndfile():
    content = recordings.plain(range(40), channels=2)
    half_a_frame = recordings.riff(content[12:36], recordings.chunk(b"data", content[44:-2]))
    changed = [content[:-1], content[:-2], content + b"\0", content[:44], content[:9], b"", half_a_frame]
    for bit in range(44 * 8):
        flipped = bytearray(content)
        flipped[bit // 8] ^= 1 << bit % 8
        changed.append(bytes(flipped))
    assert pcm16.read(content, 2, range(1, 20_000)) is not None
    for one in changed:
        assert pcm16.read(one, 2, range(1, 20_000)) is None
