"""Any WAV becomes mono float32 of one length; what is no audio is refused with a reason."""

import io

import numpy as np
import pytest
import soundfile

from earmark.audio import decode


def wav(samples: np.ndarray, rate: int = 16000, subtype: str = "PCM_16") -> bytes:
    buffer = io.BytesIO()
    soundfile.write(buffer, samples, rate, format="WAV", subtype=subtype)
    return buffer.getvalue()


def tone(rate: int, seconds: float) -> np.ndarray:
    return 0.5 * np.sin(2 * np.pi * 440 * np.arange(round(rate * seconds)) / rate)


@pytest.mark.parametrize("subtype", ["PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE"])
@pytest.mark.parametrize("rate", [8000, 16000, 22050, 44100, 48000])
def test_any_rate_and_depth_keeps_the_tone(subtype, rate):
    clip = decode.clip(wav(tone(rate, 1.0), rate, subtype), 16000, 16000)
    assert clip.dtype == np.float32
    assert clip.shape == (16000,)
    np.testing.assert_allclose(clip[1000:-1000], tone(16000, 1.0)[1000:-1000], atol=0.02)


def test_channels_are_averaged():
    stereo = np.stack([tone(16000, 1.0), -tone(16000, 1.0)], axis=1)
    assert np.abs(decode.clip(wav(stereo), 16000, 16000)).max() < 1e-4


def test_a_long_recording_keeps_its_middle_and_a_short_one_gets_silence_on_both_sides():
    ramp = np.arange(10, dtype=np.float32)
    np.testing.assert_array_equal(decode.fit(ramp, 4), [3, 4, 5, 6])
    np.testing.assert_array_equal(decode.fit(ramp[:3] + 1, 6), [0, 1, 2, 3, 0, 0])
    np.testing.assert_array_equal(decode.fit(ramp, 10), ramp)


@pytest.mark.parametrize("content", [b"", b"RIFF", b"no audio at all" * 10, wav(tone(16000, 0.1))[:40]])
def test_what_is_no_audio_is_refused(content):
    with pytest.raises(decode.UndecodableAudio):
        decode.facts(content)


def test_nan_is_refused():
    samples = tone(16000, 0.1)
    samples[5] = np.nan
    with pytest.raises(decode.UndecodableAudio, match="NaN"):
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
