"""Whatever the bytes: accepted audio with the exact samples, or a refusal with a reason; no crash, hang or allocation.

EARMARK_FUZZ=10000 gives that many new cases; by default a few hundred, the same ones every time."""

import functools
import io
import math
import os
import struct
import tarfile
from collections.abc import Iterator

import numpy as np
import pytest
import soundfile
from conftest import EXCERPT
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support import recordings
from support.decoding_child import Child
from support.wav_references import agrees_with_references, as_floats, is_sane

from earmark.audio import decode, pcm16

CASES = int(os.environ.get("EARMARK_FUZZ", "0"))


def share(percent: int) -> settings:
    """A share of the cases for one test. New ones at each run only if many are requested."""
    return settings(
        max_examples=(CASES or 400) * percent // 100,
        derandomize=not CASES,
        print_blob=True,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )


@pytest.fixture(scope="module")
def child() -> Iterator[Child]:
    with Child() as child:
        yield child
        assert "Traceback" not in child.stderr_text()


@functools.cache
def originals() -> list[bytes]:
    """One generated recording of each kind, and some real ones if they are available beside this checkout."""
    contents = [recordings.written(*kind) for kind in recordings.WRITTEN]
    contents += [recordings.plain(range(-3000, 3000, 20), 8000, channels) for channels in (1, 2, 3)]
    if EXCERPT.is_file():
        with tarfile.open(EXCERPT) as archive:
            members = (member for member in archive if member.name.endswith(".wav"))
            contents += [archive.extractfile(next(members)).read() for _ in range(20)]
    return contents


def decoded(child: Child, content: bytes) -> tuple[np.ndarray, int] | str:
    """What the child made of `content`, samples and rate or a reason, checked for all that must hold of any bytes."""
    outcome = child.outcome(content)
    failures = [text for kind, text in outcome.values() if kind == "failed"]
    assert not failures, failures[0]
    kinds = {kind for kind, _ in outcome.values()}
    assert len(kinds) == 1, outcome
    if kinds == {"refused"}:
        reason = outcome["facts"][1]
        assert reason.isprintable()
        assert reason.strip()
        assert "alloc" not in reason.lower()
        assert "memory" not in reason.lower()
        assert not is_sane(content), reason
        return reason
    samples, sample_rate_hz = outcome["decode"][1]
    agree(outcome["facts"][1], samples, sample_rate_hz)
    clip, whole = outcome["clip"][1], outcome["mono"][1]
    assert (clip.dtype, clip.shape, whole.dtype, whole.ndim) == (np.float32, (16_000,), np.float32, 1)
    assert np.isfinite(clip).all()
    assert np.isfinite(whole).all()
    agrees_with_references(content, samples, sample_rate_hz, outcome["facts"][1].format)
    return samples, sample_rate_hz


def agree(facts: decode.Facts, samples: np.ndarray, sample_rate_hz: int) -> None:
    """The facts are those of the samples."""
    assert samples.dtype == np.float32
    assert np.isfinite(samples).all()
    assert (facts.sample_rate_hz, facts.frames, facts.channels) == (sample_rate_hz, *samples.shape)
    assert facts.frames > 0
    assert facts.peak == np.abs(samples).max()
    assert facts.rms == pytest.approx(np.sqrt(np.mean(np.square(samples, dtype=np.float64))), rel=1e-9)
    assert facts.clipped_fraction == np.mean(np.abs(samples) >= np.float32(decode.CLIPPED_AT))


UNKNOWN_CHUNKS = st.builds(
    recordings.chunk, st.sampled_from([b"JUNK", b"PAD ", b"iXML", b"zzzz"]), st.binary(max_size=40)
)
TITLES = st.binary(max_size=9).map(lambda title: recordings.chunk(b"LIST", b"INFO" + recordings.chunk(b"INAM", title)))
BROKEN_CHUNKS = st.builds(
    recordings.chunk,
    st.sampled_from([b"LIST", b"bext", b"cue ", b"id3 ", b"fact", b"smpl", b"PEAK"]),
    st.binary(max_size=40),
)


@st.composite
def honest(draw) -> tuple[bytes, np.ndarray, int]:
    """A WAV with every field true and other chunks around, its samples as float32 and its rate."""
    width, is_float = draw(st.sampled_from([(1, False), (2, False), (3, False), (4, False), (4, True), (8, True)]))
    channels = draw(st.one_of(st.integers(1, 3), st.sampled_from([8, 64])))
    rate = draw(st.one_of(st.sampled_from([1_000, 8_000, 16_000, 44_100, 768_000]), st.integers(1_000, 768_000)))
    frames = draw(st.integers(1, 60))
    if is_float:
        values = draw(st.lists(st.floats(-1.5, 1.5, width=32), min_size=1, max_size=50))
        stored = np.resize(values, frames * channels).astype(f"<f{width}")
        data, floats = stored.tobytes(), stored.astype(np.float32)
    else:
        data = (
            np.resize(list(draw(st.binary(min_size=1, max_size=200))), frames * channels * width)
            .astype(np.uint8)
            .tobytes()
        )
        floats = as_floats(data, width)
    tag = draw(st.sampled_from([recordings.FLOAT if is_float else recordings.PCM, recordings.EXTENSIBLE]))
    fmt = recordings.format_chunk(tag, channels, rate, 8 * width, is_float=is_float)
    before, between, after = (draw(st.lists(UNKNOWN_CHUNKS | TITLES, max_size=2)) for _ in range(3))
    content = recordings.riff(*before, fmt, *between, recordings.chunk(b"data", data), *after)
    return content, floats.reshape(-1, channels), rate


LIES = {
    "tag": st.one_of(
        st.sampled_from([0, 1, 2, 3, 6, 7, 0x11, 0x31, 0x38, 0x40, 0x50, 0x55, 0xFFFE]), st.integers(0, 65_535)
    ),
    "channels": st.one_of(st.sampled_from([0, 1, 2, 64, 65, 255, 1024, 1025, 65_535]), st.integers(0, 65_535)),
    "rate": st.one_of(
        st.sampled_from([0, 1, 999, 1_000, 768_000, 768_001, 2**31 - 1, 2**31]), st.integers(0, 2**32 - 1)
    ),
    "bits": st.sampled_from([0, 1, 4, 8, 12, 16, 17, 20, 24, 32, 33, 64, 128, 65_535]),
    "block_align": st.sampled_from([0, 1, 2, 3, 4, 255, 65_535]),
    "byte_rate": st.sampled_from([0, 1, 2**31, 2**32 - 1]),
    "fmt_size": st.sampled_from([0, 1, 14, 15, 17, 18, 20, 40, 41, 65_535, 2**31, 2**32 - 1]),
    "data_size": st.one_of(st.sampled_from([0, 1, 2**31 - 1, 2**31, 2**32 - 1, 2**32 - 8]), st.integers(0, 200)),
    "riff_size": st.one_of(st.sampled_from([0, 1, 4, 2**31, 2**32 - 1]), st.integers(0, 200)),
    "name": st.sampled_from([b"RIFX", b"RF64", b"riff", b"FORM", b"LIST", b"Riff"]),
}
INTERESTING = [b"\0", b"\xff", b"\0\0\0\0", b"\xff\xff\xff\xff", b"\xff\xff\xff\x7f", b"\0\0\0\x80", b"\0\0\xc0\x7f"]


@st.composite
def lying(draw) -> bytes:
    """A WAV in which up to four fields lie, or its chunks stand in another order, or one is there twice."""
    lies = {name: draw(LIES[name]) for name in draw(st.lists(st.sampled_from(sorted(LIES)), unique=True, max_size=4))}
    tag, channels, rate, bits = (
        lies.pop(name, truth) for name, truth in (("tag", 1), ("channels", 1), ("rate", 16_000), ("bits", 16))
    )
    name, size, data_size = lies.pop("name", b"RIFF"), lies.pop("riff_size", None), lies.pop("data_size", None)
    fmt = recordings.format_chunk(tag, channels, rate, bits, **lies)
    data = recordings.chunk(b"data", draw(st.binary(max_size=100)), data_size)
    others = draw(st.lists(UNKNOWN_CHUNKS | BROKEN_CHUNKS | st.sampled_from([fmt, data]), max_size=2))
    order = draw(st.one_of(st.just([fmt, data, *others]), st.permutations([fmt, data, *others])))
    return recordings.riff(*order, name=name, size=size)


@st.composite
def damaged(draw) -> bytes:
    """A recording after one to six edits, most of them in its header."""
    content = bytearray(draw(st.deferred(lambda: st.sampled_from(originals()))))
    for _ in range(draw(st.integers(1, 6))):
        at = draw(st.one_of(st.integers(0, min(100, len(content))), st.integers(0, len(content))))
        edit = draw(st.sampled_from(["flip", "overwrite", "overwrite", "insert", "delete", "cut", "splice"]))
        if edit == "flip" and at < len(content):
            content[at] ^= 1 << draw(st.integers(0, 7))
        elif edit in ("overwrite", "insert"):
            value = draw(st.one_of(st.sampled_from(INTERESTING), st.binary(min_size=1, max_size=8)))
            content[at : at + len(value) * (edit == "overwrite")] = value
        elif edit == "delete":
            del content[at : at + draw(st.integers(1, 50))]
        elif edit == "cut" and draw(st.booleans()):
            del content[at:]
        elif edit == "splice":
            other = draw(st.deferred(lambda: st.sampled_from(originals())))
            start = draw(st.integers(0, 60))
            content[at:at] = other[start : start + draw(st.integers(1, 100))]
    return bytes(content)


@share(25)
@given(honest())
def test_an_honest_wav_of_any_shape_gives_its_exact_samples(child, recording):
    content, expected, expected_rate_hz = recording
    result = decoded(child, content)
    assert not isinstance(result, str), result
    np.testing.assert_array_equal(result[0], expected)
    assert result[1] == expected_rate_hz


@share(30)
@given(lying())
def test_a_wav_whose_header_lies_is_read_exactly_or_refused(child, content):
    decoded(child, content)


@share(35)
@given(damaged())
def test_a_damaged_recording_is_read_exactly_or_refused(child, content):
    decoded(child, content)


@share(10)
@given(st.sampled_from([b"", *decode.CONTAINERS]), st.binary(max_size=300))
def test_any_bytes_are_refused_or_read(child, magic, content):
    decoded(child, magic + content)


@share(25)
@given(
    st.lists(st.sampled_from([-32_768, -32_736, -32_735, -1, 0, 1, 32_735, 32_736, 32_767]), min_size=1, max_size=400),
    st.integers(1, 3),
    st.integers(1_000, 768_000),
)
def test_the_short_way_for_plain_wavs_and_libsndfile_agree_bit_for_bit(values, channels, rate):
    content = recordings.plain(np.repeat(values, channels), rate, channels)
    padded = content + recordings.chunk(b"JUNK", b"")
    padded = padded[:4] + struct.pack("<I", len(padded) - 8) + padded[8:]
    assert pcm16.read(content, decode.MAX_CHANNELS, decode.SAMPLE_RATES_HZ) is not None
    assert pcm16.read(padded, decode.MAX_CHANNELS, decode.SAMPLE_RATES_HZ) is None
    assert decode.facts(content) == decode.facts(padded)
    expected, expected_rate = soundfile.read(io.BytesIO(content), dtype="float32", always_2d=True)
    for version in (content, padded):
        samples, sample_rate_hz = decode.decode(version)
        np.testing.assert_array_equal(samples, expected)
        assert sample_rate_hz == expected_rate == rate
    clips = [decode.clip(version, 16_000, 800, "silence") for version in (content, padded)]
    np.testing.assert_array_equal(*clips)
    squares = np.square(expected, dtype=np.float64).ravel()
    assert decode.facts(content).rms == math.sqrt(math.fsum(squares) / len(squares))


SIXTEEN_BIT = recordings.format_chunk(recordings.PCM, 1, 16_000, 16)
REAL = np.arange(-50, 50, dtype="<i2").tobytes()
REAL_BIG_ENDIAN = np.arange(-50, 50, dtype=">i2").tobytes()
WHOLE_FLAC = recordings.written("FLAC", "PCM_16")
LIARS = {
    "44 bytes that claim 4 GB": (
        recordings.riff(SIXTEEN_BIT, recordings.chunk(b"data", b"", 2**32 - 36)),
        "no samples",
    ),
    "nothing": (b"", "empty"),
    "only a name": (b"RIFF", "libsndfile cannot read it"),
    "no data chunk": (recordings.riff(SIXTEEN_BIT), "libsndfile cannot read it"),
    "an empty data chunk": (recordings.plain([]), "no samples"),
    "no channels": (
        recordings.plain(range(9), channels=1)[:22] + b"\0\0" + recordings.plain(range(9))[24:],
        "libsndfile cannot read it",
    ),
    "65,535 channels": (recordings.plain([1] * 65_535, channels=65_535), "libsndfile cannot read it"),
    "65 channels": (recordings.plain(range(65), channels=65), "65 channels; expected 1 to 64"),
    "0 Hz": (recordings.plain(range(9), 0), "libsndfile cannot read it"),
    "1 Hz": (recordings.plain(range(9), 1), "sample rate 1 Hz; expected 1000 to 768000 Hz"),
    "2**31 - 1 Hz": (recordings.plain(range(9), 2**31 - 1), "sample rate 2147483647 Hz; expected"),
    "2**31 Hz": (recordings.plain(range(9), 2**31), ""),
    "FLAC of 2**36 samples": (recordings.flac_claiming(2**36 - 1), ""),
    "FLAC of 2**36 samples of 8 channels and one frame": (
        recordings.flac_claiming(2**36 - 1, 8, 655_350, WHOLE_FLAC[WHOLE_FLAC.rindex(b"\xff\xf8") :]),
        "",
    ),
    "RF64 without samples": (recordings.rf64_claiming(2**62, 2**61, b""), ""),
    "AIFF of 65,535 channels": (recordings.aiff_claiming(2**32 - 1, 65_535, REAL, 2**32 - 1), ""),
    "AU of 2**32 - 1 channels": (recordings.au_claiming(2**32 - 2, 2**32 - 1, REAL), ""),
    "AU of -2 bytes": (recordings.au_claiming(2**32 - 2, 1, REAL_BIG_ENDIAN), "no samples"),
    "CAF": (recordings.caf_claiming(2**62, REAL_BIG_ENDIAN), "not a recording"),
    "OGG": (recordings.written("OGG", "VORBIS"), "expected one of WAV, RF64, W64, AIFF, FLAC, AU"),
    "MP3": (recordings.written("MP3", "MPEG_LAYER_III"), "not a recording"),
    "NaN": (
        recordings.riff(recordings.format_chunk(3, 1, 16_000, 32), recordings.chunk(b"data", b"\0\0\xc0\x7f" * 9)),
        "NaN",
    ),
    "infinity": (
        recordings.riff(recordings.format_chunk(3, 1, 16_000, 32), recordings.chunk(b"data", b"\0\0\x80\x7f")),
        "infinite",
    ),
    "float overflow": (
        recordings.riff(recordings.format_chunk(3, 2, 16_000, 32), recordings.chunk(b"data", b"\xff\xff\x7f\x7f" * 2)),
        "3.4e+38 times full scale; expected",
    ),
}


@pytest.mark.parametrize("name", LIARS)
def test_a_known_liar_is_refused_for_what_it_lies_about(child, name):
    content, reason = LIARS[name]
    result = decoded(child, content)
    assert isinstance(result, str), result
    assert reason in result


@pytest.mark.parametrize(
    "content",
    [
        recordings.riff(SIXTEEN_BIT, recordings.chunk(b"data", REAL, 2**32 - 36), size=2**32 - 1),
        recordings.rf64_claiming(2**62, 2**61, REAL),
        recordings.w64_claiming(2**62, REAL),
        recordings.aiff_claiming(2**32 - 1, 1, REAL_BIG_ENDIAN, 2**32 - 1),
        recordings.au_claiming(2**30, 1, REAL_BIG_ENDIAN),
    ],
    ids=["WAV", "RF64", "W64", "AIFF", "AU"],
)
def test_of_a_header_that_claims_gigabytes_only_the_samples_that_are_there_are_read(child, content):
    result = decoded(child, content)
    assert not isinstance(result, str), result
    np.testing.assert_array_equal(result[0][:, 0], np.arange(-50, 50) / np.float32(32_768))


@pytest.mark.parametrize("value", [0, 1_000, -32_768])
def test_silence_and_a_constant_are_audio(child, value):
    assert not isinstance(decoded(child, recordings.plain([value] * 700)), str)
    facts = decode.facts(recordings.plain([value] * 700))
    assert facts.peak == facts.rms == abs(value) / 32_768
    assert facts.clipped_fraction == (value == -32_768)
