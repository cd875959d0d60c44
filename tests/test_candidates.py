"""The candidates as networks and as saved models."""

import json
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
from conftest import ROOT

from earmark import params
from earmark.audio import front_ends, numpy_front_end
from earmark.audio.augmentation import Augmentation
from earmark.errors import UserError
from earmark.learning import export, fitting
from earmark.learning.candidates import front_end_of, module_of


@pytest.fixture(scope="module")
def loaded():
    return params.load(ROOT / "params.yaml")


def network(loaded, candidate, labels=30):
    import keras

    keras.utils.set_random_seed(1)
    front_end = front_ends.front_end(front_end_of(candidate), loaded)
    settings = loaded.train.candidate(candidate).network
    return module_of(candidate).build((front_end.frames, front_end.bins), labels, **settings), front_end


def test_seed_cnn_is_the_tutorials_network(loaded):
    model, front_end = network(loaded, "seed_cnn")
    assert model.count_params() == 2_226_846
    assert (front_end.frames, front_end.bins) == (98, 257)


@pytest.mark.parametrize("candidate", ["seed_cnn", "tc_resnet"])
def test_a_saved_model_answers_as_the_network_does(loaded, candidate, tmp_path):
    model, front_end = network(loaded, candidate, labels=3)
    waveforms = np.random.default_rng(2).normal(0, 0.1, (2, 16000)).astype(np.float32)
    export.save(tmp_path, model, front_end, ("a", "b", "c d"))
    saved = export.load(tmp_path)
    (features,) = numpy_front_end.features(waveforms, (front_end,))
    expected = model.predict_on_batch(features)
    np.testing.assert_allclose(saved.model.predict_on_batch(waveforms), expected, atol=1e-5)
    assert (saved.labels, saved.front_end, saved.candidate) == (("a", "b", "c d"), front_end, candidate)


def test_a_saved_model_loads_where_earmark_is_not(loaded, tmp_path):
    model, front_end = network(loaded, "tc_resnet", labels=3)
    export.save(tmp_path, model, front_end, ("a", "b", "c"))
    script = (
        "import sys; sys.modules['earmark'] = None\n"
        "import keras, numpy\n"
        "model = keras.saving.load_model('model.keras', safe_mode=True)\n"
        "print(model.predict_on_batch(numpy.zeros((1, 16000), 'float32')).shape)"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True)
    assert done.stdout.strip() == "(1, 3)", done.stderr


def test_a_damaged_model_is_refused_in_a_sentence(loaded, tmp_path):
    model, front_end = network(loaded, "tc_resnet", labels=3)
    export.save(tmp_path, model, front_end, ("a", "b", "c"))
    settings = json.loads((tmp_path / "settings.json").read_text())
    (tmp_path / "settings.json").write_text(json.dumps(settings | {"labels": ["a", "b"]}))
    with pytest.raises(UserError, match="lists 2 labels for a model that tells 3 apart"):
        export.load(tmp_path)
    (tmp_path / "model.keras").write_bytes((tmp_path / "model.keras").read_bytes()[:1000])
    with pytest.raises(UserError, match="no model that can be read"):
        export.load(tmp_path)
    with pytest.raises(UserError, match="holds no model"):
        export.load(tmp_path / "absent")


@pytest.fixture
def augmentation(loaded):
    front_end = front_ends.front_end("log_mel", loaded)

    def build(noise_frames=500, **settings):
        noise = np.random.default_rng(5).uniform(0, 1, (noise_frames, 40)).astype(np.float16)
        return Augmentation(params.Augmentation(**settings), front_end, noise, seed=7)

    return build


FEATURES = np.random.default_rng(4).uniform(0.3, 0.9, (64, 98, 40)).astype(np.float32)
FULL_SCALE, FLOOR = 46_080, 1e-6


def power(features) -> np.ndarray:
    """What features from 0 for silence to 1 for full scale stand for."""
    return np.expm1(np.asarray(features, dtype=np.float64) * np.log1p(FULL_SCALE / FLOOR)) * FLOOR


def test_augmentation_leaves_what_is_not_training_alone(augmentation):
    layer = augmentation(shift_ms=100, gain_db=6, noise_probability=1, frequency_mask_bands=6, time_mask_ms=150)
    np.testing.assert_array_equal(layer(FEATURES, training=False), FEATURES)


def test_augmentation_with_everything_off_is_the_identity(augmentation):
    np.testing.assert_allclose(augmentation()(FEATURES, training=True), FEATURES, atol=1e-3)


def test_noise_is_mixed_at_the_asked_ratio(augmentation):
    layer = augmentation(noise_probability=1.0, noise_snr_db={"min": 10, "max": 10})
    clean = power(FEATURES)
    noise = power(layer(FEATURES, training=True)) - clean
    ratio_db = 10 * np.log10(clean.mean(axis=(1, 2)) / noise.mean(axis=(1, 2)))
    np.testing.assert_allclose(ratio_db, 10, atol=0.1)


def test_without_background_noise_none_is_mixed_in(augmentation):
    np.testing.assert_allclose(
        augmentation(noise_frames=0, noise_probability=1)(FEATURES, training=True), FEATURES, atol=1e-3
    )


def test_gain_is_one_factor_a_clip_within_its_bounds(augmentation):
    change = power(augmentation(gain_db=6)(FEATURES, training=True)) / power(FEATURES)
    factor_db = 10 * np.log10(np.median(change, axis=(1, 2)))
    assert np.abs(factor_db).max() <= 6.01
    assert factor_db.std() > 1


def test_a_shift_moves_frames_and_fills_with_silence(augmentation):
    shifted = np.asarray(augmentation(shift_ms=100)(FEATURES, training=True))
    silent = (shifted == 0).all(axis=2).sum(axis=1)
    assert silent.max() <= 10
    assert silent.std() > 0


class InMemory:
    """Clips that are an array."""

    def __init__(self, features: np.ndarray):
        self._features = features

    def epoch(self, generator=None):
        order = np.arange(len(self._features))
        return SimpleNamespace(order=order, rows=lambda start, stop: self._features[start:stop])


def test_a_network_on_mfcc_is_trained_on_stored_log_mel_and_answers_to_waveforms(loaded, augmentation, tmp_path):
    front_end = front_ends.front_end("mfcc", loaded)
    assert (front_end.bins, front_end.stored) == (20, front_ends.front_end("log_mel", loaded))
    settings = loaded.train.candidate("tc_resnet").model_copy(update={"epochs": 3})
    model = module_of("tc_resnet").build((front_end.frames, front_end.bins), 2, **settings.network)
    waveforms = np.random.default_rng(2).normal(0, 0.1, (64, 16000)).astype(np.float32)
    waveforms[::2] = np.sin(np.arange(16000) / 4)
    (features,) = numpy_front_end.features(waveforms, (front_end.stored,))
    examples = fitting.Examples(InMemory(features.astype(np.float16)), np.arange(64) % 2)
    fitting.fit(model, front_end, augmentation(), examples, examples, 2, settings, 1, lambda _: None)
    export.save(tmp_path, model, front_end, ("tone", "noise"))
    (cepstra,) = numpy_front_end.features(waveforms, (front_end,))
    answers = export.load(tmp_path).model.predict_on_batch(waveforms)
    np.testing.assert_allclose(answers, model.predict_on_batch(cepstra), atol=1e-5)
