"""Features of shards as they grow, and of recordings of every kind."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT, change_params
from growing import fill, manifest, run_ingest, wav

from earmark import params
from earmark.audio import decode, front_ends
from earmark.stages.extract import extract
from earmark.stages.paths import FEATURES
from earmark.stores import features

RECORDINGS = {
    f"{label}/{speaker}_nohash_0.wav": wav(10 * s + n, 1.0)
    for n, label in enumerate(("no", "yes"))
    for s, speaker in enumerate(("anouk", "ben"))
}
HUM = wav(99, 3.0)


@pytest.fixture
def recordings(tmp_path, monkeypatch) -> Path:
    folder = tmp_path / "project"
    folder.mkdir()
    shutil.copy2(ROOT / "params.yaml", folder)
    change_params(folder, {"dataset": {"source": "../recordings"}})
    monkeypatch.chdir(folder)
    return fill(tmp_path / "recordings", RECORDINGS | {"_background_noise_/hum.wav": HUM})


def expected(content: bytes, name: str = "log_mel") -> np.ndarray:
    settings = params.load()
    front_end = front_ends.front_end(name, settings)
    waveform = decode.clip(content, settings.dataset.sample_rate_hz, settings.dataset.clip_samples)
    return front_ends.compute(waveform[None], front_end)[0].astype(np.float16)


def stored(recording: str, name: str = "log_mel") -> np.ndarray:
    return features.read(FEATURES / name, manifest().loc[[recording]])[0]


@pytest.mark.parametrize("name", ["log_mel", "spectrogram"])
def test_every_clip_has_its_features(recordings, name):
    run_ingest()
    extract(params.load())
    for recording, content in RECORDINGS.items():
        np.testing.assert_array_equal(stored(recording, name), expected(content, name))


def test_noise_is_one_run_of_frames_however_long(recordings, monkeypatch):
    fill(recordings, {"_background_noise_/long.wav": wav(98, 120.0)})  # more than is computed at a time
    run_ingest()
    extract(params.load())
    front_end = front_ends.front_end("log_mel", params.load())
    parts = [front_ends.compute(decode.mono(content, 16_000)[None], front_end)[0] for content in (HUM, wav(98, 120.0))]
    np.testing.assert_allclose(features.read_noise(FEATURES / "log_mel"), np.concatenate(parts), atol=0.01)


def test_a_recording_that_was_noise_and_became_a_clip_has_the_features_of_a_clip(recordings):
    run_ingest()
    extract(params.load())
    (recordings / "hum").mkdir()
    (recordings / "_background_noise_/hum.wav").rename(recordings / "hum/hum.wav")
    run_ingest()
    extract(params.load())
    np.testing.assert_array_equal(stored("hum/hum.wav"), expected(HUM))
    assert len(features.read_noise(FEATURES / "log_mel")) == 0


def test_only_new_shards_are_computed_and_other_settings_compute_all(recordings):
    run_ingest()
    extract(params.load())
    before = {path: path.stat().st_mtime_ns for path in FEATURES.glob("*/shard-*")}
    fill(recordings, {"yes/new_nohash_0.wav": wav(50, 1.0)})
    run_ingest()
    assert extract(params.load()).startswith("1 of 2 shards were new")
    assert before.items() < {path: path.stat().st_mtime_ns for path in FEATURES.glob("*/shard-*")}.items()
    change_params(Path(), {"features": {"stride_ms": 20.0}})
    assert extract(params.load()).startswith("2 of 2 shards were new")
    np.testing.assert_array_equal(stored("yes/new_nohash_0.wav"), expected(wav(50, 1.0)))
