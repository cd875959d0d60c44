"""The front ends against TensorFlow's operators, and the graph's front end against the extractor's."""

import numpy as np
import pytest
from conftest import ROOT

from earmark import params
from earmark.audio import front_ends


@pytest.fixture(scope="module")
def loaded():
    return params.load(ROOT / "params.yaml")


@pytest.fixture(scope="module")
def waveforms():
    generator = np.random.default_rng(1)
    time = np.arange(16000) / 16000
    chirp = np.sin(2 * np.pi * (200 + 3000 * time) * time) * 0.4
    noise = generator.normal(0, 0.1, 16000).clip(-1, 1)
    square = np.sign(np.sin(2 * np.pi * 440 * time))
    short = np.concatenate([noise[:6688], np.zeros(16000 - 6688)])
    return np.stack([chirp, noise, square, short, np.zeros(16000)]).astype(np.float32)


def test_spectrogram_is_the_tutorials_operator(loaded, waveforms):
    import tensorflow as tf

    operator = [
        tf.raw_ops.AudioSpectrogram(input=clip[:, None], window_size=480, stride=160, magnitude_squared=True).numpy()[0]
        for clip in waveforms
    ]
    found = front_ends.compute(waveforms, front_ends.front_end("spectrogram", loaded))
    assert found.shape == (5, 98, 257)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, np.log(np.abs(operator) + 0.01), rtol=1e-4, atol=1e-3)


def test_log_mel_is_that_of_an_independent_implementation(loaded, waveforms):
    import tensorflow as tf

    settings = front_ends.front_end("log_mel", loaded)
    spectrum = tf.signal.stft(waveforms, 480, 160, fft_length=512)
    weights = tf.signal.linear_to_mel_weight_matrix(40, 257, 16000, 20.0, 7600.0)
    expected = np.log(np.abs(spectrum) ** 2 @ weights.numpy() + 1e-6)
    found = front_ends.compute(waveforms, settings)
    assert found.shape == (5, 98, 40)
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("name", ["spectrogram", "log_mel"])
def test_the_graph_computes_what_the_extractor_computes(loaded, waveforms, name):
    import keras

    settings = front_ends.front_end(name, loaded)
    given = keras.Input((settings.clip_samples,))
    model = keras.Model(given, front_ends.in_graph(given, settings))
    found = model.predict_on_batch(waveforms)
    np.testing.assert_allclose(found, front_ends.compute(waveforms, settings), rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("name", ["spectrogram", "log_mel"])
def test_silence_is_the_logarithm_of_the_floor(loaded, name):
    settings = front_ends.front_end(name, loaded)
    found = front_ends.compute(np.zeros((1, 16000), dtype=np.float32), settings)
    np.testing.assert_allclose(found, np.log(settings.floor), rtol=1e-6)
