"""The test set: which clips in which order, what a model gets of them, and what is decoded once."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from conftest import ROOT
from support.growing import wav

from earmark import params
from earmark.audio import background_noise, decode
from earmark.dataset import shards
from earmark.errors import UserError
from earmark.evaluation import noise, test_set
from earmark.evaluation.test_set import Silence, TestSet
from earmark.features.front_ends import front_end

CLIPS = {
    "no/anouk_nohash_0.wav": ("validation", wav(1, 1.0)),
    "yes/ben_nohash_0.wav": ("test", wav(2, 0.5)),
    "yes/cid_nohash_0.wav": ("test", wav(3, 1.0)),
}
HUM = "_background_noise_/hum.wav"
LABELS = ("_silence_", "no", "yes")


class Loudest:
    """Answers "_silence_" for digital silence, else "no" or "yes" by an RMS between those of clips and noisy clips."""

    def predict_on_batch(self, waveforms: np.ndarray) -> np.ndarray:
        rms = np.sqrt(np.square(waveforms).mean(axis=1))
        return np.eye(3, dtype=np.float32)[np.digitize(rms, [1e-9, 0.17])] * 0.9


@pytest.fixture
def mel():
    return front_end("log_mel", params.load(ROOT / "params.yaml"))


@pytest.fixture
def clips(tmp_path) -> TestSet:
    """Three recorded clips, one clip of silence in each split, and ten seconds of noise."""
    rows = []
    with shards.ShardWriter(tmp_path) as writer:
        for name, content in [*((name, content) for name, (_, content) in CLIPS.items()), (HUM, wav(9, 10.0))]:
            rows.append((name, *writer.add(name, content, name)))
    frame = pd.DataFrame(rows, columns=["id", "shard", "offset", "length"])
    frame["shard"] = frame["shard"].map(writer.names)
    recorded = frame[frame["id"] != HUM].assign(
        split=[split for split, _ in CLIPS.values()], label=["no", "yes", "yes"], speaker=["anouk", "ben", "cid"]
    )
    silences = (Silence("_silence_/v", "validation", HUM, 0.0, 0.0), Silence("_silence_/t", "test", HUM, 0.5, 0.25))
    recordings = frame[frame["id"] == HUM].assign(seconds=10.0)
    return TestSet(recorded, silences, recordings, tmp_path)


@pytest.fixture
def classifier(mel):
    return SimpleNamespace(labels=LABELS, front_end=mel, model=Loudest())


def test_each_split_has_its_recorded_clips_and_then_its_silences(clips):
    assert clips.rows["id"].tolist() == [
        *("no/anouk_nohash_0.wav", "_silence_/v"),
        *("yes/ben_nohash_0.wav", "yes/cid_nohash_0.wav", "_silence_/t"),
    ]
    assert clips.rows["label"].tolist() == ["no", "_silence_", "yes", "yes", "_silence_"]
    assert clips.reporting_split == "test"
    assert clips.restricted_to("validation").reporting_split == "validation"
    assert clips.restricted_to("test", ["yes"]).rows["id"].tolist() == list(CLIPS)[1:]


def test_clips_come_in_the_order_asked_for_as_training_decodes_them(clips, mel):
    names = ["_silence_/t", "yes/cid_nohash_0.wav", "no/anouk_nohash_0.wav"]
    silence, cid, anouk = clips.waveforms(names, mel)
    for name, waveform in ((names[1], cid), (names[2], anouk)):
        expected = decode.clip(CLIPS[name][1], mel.sample_rate_hz, mel.clip_samples, mel.padding)
        np.testing.assert_array_equal(waveform, expected)
    testing_part = background_noise.split_portion(decode.mono(wav(9, 10.0), 16_000), "test")
    start = (len(testing_part) - mel.clip_samples) // 2
    np.testing.assert_allclose(silence, 0.25 * testing_part[start : start + mel.clip_samples], rtol=1e-6)


def test_predictions_have_every_clip_once_clean_and_in_noise(clips, classifier):
    predictions = clips.predictions(classifier, [0])
    assert predictions["id"].tolist() == clips.rows["id"].tolist()
    assert predictions["predicted"].tolist() == ["no", "_silence_", "no", "no", "no"]
    np.testing.assert_allclose(predictions["probability"], 0.9, rtol=1e-6)
    # At 0 dB the power doubles; silence has no power to double.
    assert predictions[noise.column(0)].tolist() == ["yes", "_silence_", "no", "yes", "no"]


def test_noise_is_decoded_once_for_all_candidates_splits_and_purposes(clips, classifier, monkeypatch):
    decoded, mono = [], decode.mono
    monkeypatch.setattr(decode, "mono", lambda content, rate: decoded.append(rate) or mono(content, rate))
    for _ in range(2):
        clips.predictions(classifier, noise.SNR_DB)
        clips.restricted_to("test").predictions(classifier)
        clips.noise("validation", 16_000)
    assert decoded == [16_000]
    clips.noise("validation", 8_000)
    assert decoded == [16_000, 8_000]


def test_silence_of_a_recording_that_is_too_long_at_a_models_rate_is_a_sentence(clips, mel):
    long = replace(clips, noise_recordings=clips.noise_recordings.assign(seconds=1e6))
    with pytest.raises(UserError, match=r"hum\.wav is too long at 16000 Hz; expected at most"):
        list(long.waveforms(["_silence_/t"], mel))


def test_splits_are_named_as_params_names_them():
    assert set(test_set.SPLITS) < set(params.SPLITS)
