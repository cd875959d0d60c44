"""The embedded data set: the same to the byte, in the form of Speech Commands, and with speech in it."""

import hashlib
import io
import itertools
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from earmark.dataset.sources import synthetic

SEED = 7
_WORDS_OF_SPEECH_COMMANDS_001 = """
bed bird cat dog down eight five four go happy house left marvin nine no off on one right seven sheila six stop three
tree two up wow yes zero
"""
WORDS = set(_WORDS_OF_SPEECH_COMMANDS_001.split())
FRAME = 160


@pytest.fixture(scope="module")
def files() -> dict[str, bytes]:
    return dict(synthetic.entries(SEED, 6))


@pytest.fixture(scope="module")
def clips(files) -> dict[str, np.ndarray]:
    return {path: _samples(content) for path, content in files.items() if not path.startswith("_")}


def _samples(content: bytes) -> np.ndarray:
    return soundfile.read(io.BytesIO(content))[0]


def _frame_rms(signal: np.ndarray) -> np.ndarray:
    frames = signal[: len(signal) // FRAME * FRAME].reshape(-1, FRAME)
    return np.sqrt(np.mean(frames**2, axis=1))


def _official_split(speaker: str) -> str:
    largest = 2**27 - 1
    percent = (int(hashlib.sha1(speaker.encode()).hexdigest(), 16) % (largest + 1)) * (100.0 / largest)
    return "validation" if percent < 10 else "test" if percent < 20 else "training"


def _run_python(code: str, *import_folders: Path) -> subprocess.CompletedProcess[str]:
    paths = [str(folder) for folder in import_folders]
    program = f"import sys\nsys.path[:0] = {paths!r}\n{code}"
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)


def test_each_speaker_says_each_word_once_and_paths_are_sorted(files):
    paths = [path for path in files if not path.startswith("_background_noise_/")]
    speakers = {path.split("/")[1] for path in paths}
    assert list(files) == sorted(files)
    assert set(paths) == {f"{word}/{speaker}" for word in WORDS for speaker in speakers}
    assert len(speakers) == 6
    assert all(re.fullmatch(r"[0-9a-f]{8}_nohash_0\.wav", speaker) for speaker in speakers)


def test_another_process_and_fewer_speakers_give_the_same_bytes(files):
    code = (
        "import hashlib\n"
        "from earmark.dataset.sources.synthetic import entries\n"
        "list(entries(1, 1))\n"
        f"for path, content in entries({SEED}, 2): print(hashlib.sha256(content).hexdigest(), path)"
    )
    lines = _run_python(code).stdout.splitlines()
    here = {f"{hashlib.sha256(content).hexdigest()} {path}" for path, content in files.items()}
    assert len(lines) == 2 * len(WORDS) + 4
    assert set(lines) <= here


def test_another_seed_gives_other_speakers_and_other_noise(files):
    other = dict(synthetic.entries(SEED + 1, 1))
    noises = [path for path in other if path.startswith("_")]
    assert set(other) & set(files) == set(noises)
    assert all(other[path] != files[path] for path in noises)


def test_files_are_16_bit_mono_at_16_khz(files):
    for path, content in files.items():
        info = soundfile.info(io.BytesIO(content))
        assert (info.format, info.subtype, info.channels, info.samplerate) == ("WAV", "PCM_16", 1, 16_000), path


def test_clips_last_a_second_and_some_less(clips):
    lengths = [len(clip) for clip in clips.values()]
    shorter = sum(length < 16_000 for length in lengths)
    assert max(lengths) == 16_000
    assert min(lengths) >= 0.5 * 16_000
    assert 0.03 < shorter / len(lengths) < 0.25


def test_no_clip_is_overloaded_or_silent_anywhere(clips):
    for path, clip in clips.items():
        assert np.abs(clip).max() < 0.95, path
        assert _frame_rms(clip).min() > 0, path


def test_every_clip_has_a_word_that_stands_out_of_its_noise(clips):
    for path, clip in clips.items():
        level = np.sort(_frame_rms(clip))
        assert level[-10] > 4 * level[5], path
        assert np.mean(level > 0.1 * level[-1]) < 0.9, path


def test_the_same_word_by_two_speakers_has_other_spectra(clips):
    spectra = [_spectrum_db(clip) for path, clip in clips.items() if path.startswith("seven/")]
    for one, other in itertools.combinations(spectra, 2):
        assert np.sqrt(np.mean((one - other) ** 2)) > 2.0


def _spectrum_db(clip: np.ndarray) -> np.ndarray:
    """Return the mean level of 25 bands up to 4 kHz in the 20 loudest frames of 32 ms, less their mean."""
    frames = np.lib.stride_tricks.sliding_window_view(clip, 512)[::FRAME]
    power = np.abs(np.fft.rfft(frames * np.hanning(512))) ** 2
    loudest = power[np.argsort(power.sum(axis=1))[-20:], :125].mean(axis=0)
    bands_db = 10 * np.log10(loudest.reshape(25, 5).sum(axis=1))
    return bands_db - bands_db.mean()


@pytest.mark.parametrize("speakers", [6, 40])
@pytest.mark.parametrize("seed", [0, 1, 2**40])
def test_every_split_has_a_speaker(seed, speakers):
    ids = [speaker.id for speaker in synthetic._cast(seed, speakers)]
    assert len(set(ids)) == speakers
    assert {_official_split(speaker) for speaker in ids} == {"training", "validation", "test"}


def test_twenty_speakers_split_14_3_3():
    splits = [_official_split(speaker.id) for speaker in synthetic._cast(SEED, 40)]
    for twenty in (splits[:20], splits[20:]):
        assert [twenty.count(split) for split in ("training", "validation", "test")] == [14, 3, 3]


def test_forty_speakers_have_forty_voices():
    voices = {speaker.voice.partition("+")[2] for speaker in synthetic._cast(SEED, 40)}
    assert len(voices) == 40


def test_noise_recordings_sound_like_different_rooms(files):
    noises = {path: _samples(content) for path, content in files.items() if path.startswith("_background_noise_/")}
    spectra = [_long_spectrum_db(noise) for noise in noises.values()]
    assert len(noises) == 4
    for noise in noises.values():
        assert 10 <= len(noise) / 16_000 <= 20
        assert np.abs(noise).max() < 0.95
        assert _frame_rms(noise).min() > 0
    for one, other in itertools.combinations(spectra, 2):
        assert np.sqrt(np.mean((one - other) ** 2)) > 2.0
    assert all(np.ptp(spectrum) > 10 for spectrum in spectra), "white noise has a flat spectrum"


def _long_spectrum_db(noise: np.ndarray) -> np.ndarray:
    frames = np.lib.stride_tricks.sliding_window_view(noise, 512)[::512]
    power = (np.abs(np.fft.rfft(frames * np.hanning(512))) ** 2).mean(axis=0)
    bands_db = 10 * np.log10(power[1:].reshape(32, 8).sum(axis=1))
    return bands_db - bands_db.mean()


def test_fingerprint_tells_data_sets_apart():
    prints = {synthetic.fingerprint(seed, speakers) for seed in (1, 2, 12) for speakers in (1, 2, 12)}
    assert len(prints) == 9
    assert synthetic.fingerprint(1, 2) == synthetic.fingerprint(1, 2)


def _fake_loader(folder: Path, library: Path, data: Path) -> Path:
    """Write a package like espeakng_loader that names another library and other voices."""
    (folder / "espeakng_loader.py").write_text(
        f"def get_library_path(): return {str(library)!r}\ndef get_data_path(): return {str(data)!r}\n"
    )
    return folder


@pytest.mark.parametrize("content", [None, b"not a library"])
def test_a_platform_without_espeak_is_told_and_offered_another_source(tmp_path, content):
    library = tmp_path / "libespeak-ng.so"
    if content is not None:
        library.write_bytes(content)
    (tmp_path / "espeak-ng-data").mkdir()
    code = (
        "from earmark.dataset.sources.synthetic import entries\nfrom earmark.errors import UserError\n"
        "try: list(entries(1, 1))\nexcept UserError as error: print(error)"
    )
    answer = _run_python(code, _fake_loader(tmp_path, library, tmp_path / "espeak-ng-data"))
    assert "does not run on" in answer.stdout
    assert "dataset.source" in answer.stdout
    assert len(answer.stdout.splitlines()) == 1
    assert answer.stderr == ""


@pytest.mark.skipif(sys.platform == "win32", reason="needs a symbolic link")
def test_voices_are_found_below_a_long_path(tmp_path):
    import espeakng_loader

    deep = tmp_path / ("a" * 100) / ("b" * 100)
    deep.mkdir(parents=True)
    (deep / "espeak-ng-data").symlink_to(espeakng_loader.get_data_path())
    folder = _fake_loader(tmp_path, Path(espeakng_loader.get_library_path()), deep / "espeak-ng-data")
    code = "from earmark.dataset.sources.synthetic import entries\nprint(len(list(entries(1, 1))))"
    answer = _run_python(code, folder)
    assert answer.stdout == "34\n", answer.stderr
