"""The front ends against other implementations, and the one in a saved model against the one that fills shards."""

import functools
import io
import tarfile
from dataclasses import dataclass, replace

import numpy as np
import pytest
import scipy.fft
import scipy.signal
from conftest import EXCERPT, ROOT

from earmark import params
from earmark.audio import decode
from earmark.dataset.sources import synthetic
from earmark.errors import UserError
from earmark.features import front_ends, numpy_backend
from earmark.features.front_end import FrontEnd
from earmark.features.front_ends.log_mel import LogMel
from earmark.features.front_ends.spectrogram import Spectrogram

NAMES = tuple(front_ends.FRONT_ENDS)
SAMPLES = 16_000
TIME = np.arange(SAMPLES) / SAMPLES
PADDINGS = ("silence", "repeat", "reflect")
generator = np.random.default_rng(1)


def squares(*frequencies_hz: int) -> np.ndarray:
    return np.stack(
        [np.where(np.sin(2 * np.pi * frequency * TIME + 1e-3) >= 0, 1.0, -1.0) for frequency in frequencies_hz]
    )


@functools.cache
def speech() -> np.ndarray:
    """Real recordings, a short one of 6,688 samples with every padding among them."""
    if not EXCERPT.exists():
        pytest.skip("the excerpt of real recordings is not beside the checkout")
    contents = []
    with tarfile.open(EXCERPT) as archive:
        for member in archive:
            if member.name.endswith(".wav") and "_background_noise_" not in member.name:
                contents.append(archive.extractfile(member).read())
                if len(contents) == 400:
                    break
    shortest = recording_of(contents[0], 6688)
    clips = [decode.clip(content, SAMPLES, SAMPLES, "silence") for content in contents]
    return np.stack([*clips, *(decode.clip(shortest, SAMPLES, SAMPLES, padding) for padding in PADDINGS)])


def recording_of(content: bytes, samples: int) -> bytes:
    import soundfile

    buffer = io.BytesIO()
    soundfile.write(buffer, decode.mono(content, SAMPLES)[:samples], SAMPLES, format="WAV")
    return buffer.getvalue()


@functools.cache
def synthetic_speech() -> np.ndarray:
    spoken = [content for name, content in synthetic.entries(1, 6) if not name.startswith("_")]
    return np.stack([decode.clip(content, SAMPLES, SAMPLES, "silence") for content in spoken])


SIGNALS = {
    "speech": speech,
    "synthetic speech": synthetic_speech,
    "silence": lambda: np.zeros((2, SAMPLES)),
    "full-scale square waves": lambda: squares(50, 100, 440, 500, 1000, 3999, 8000),
    "white noise": lambda: generator.uniform(-1, 1, (20, SAMPLES)),
    "chirp": lambda: 0.4 * np.sin(2 * np.pi * (200 + 3000 * TIME) * TIME)[None],
    "the least that 16 bits hold": lambda: np.where(np.arange(SAMPLES) == 8000, 1 / 32_768, 0.0)[None],
}


@pytest.fixture(scope="module")
def loaded():
    return params.load(ROOT / "params.yaml")


@pytest.fixture(params=SIGNALS)
def waveforms(request) -> np.ndarray:
    return SIGNALS[request.param]().astype(np.float32)


def computed(waveforms: np.ndarray, settings: FrontEnd) -> np.ndarray:
    (features,) = numpy_backend.features(waveforms, (settings,))
    assert features.dtype == np.float32
    assert features.shape == (len(waveforms), settings.frames, settings.bins)
    return features


def reference_power(waveforms: np.ndarray) -> np.ndarray:
    """By SciPy's own framing, in double precision; it divides by the sum of the window."""
    _, _, spectrum = scipy.signal.stft(
        waveforms.astype(np.float64), nperseg=480, noverlap=320, nfft=512, boundary=None, padded=False
    )
    window = scipy.signal.get_window("hann", 480)
    return np.square(np.abs(spectrum) * window.sum()).transpose(0, 2, 1)


def reference_log_mel(waveforms: np.ndarray) -> np.ndarray:
    """With TensorFlow's filters, in double precision."""
    import tensorflow as tf

    weights = tf.signal.linear_to_mel_weight_matrix(40, 257, 16_000, 20.0, 7600.0, dtype=tf.float64).numpy()
    # 46,080 is by Parseval what all bins of a square wave have: 512 times 180, the window's energy, halved.
    return np.log1p(reference_power(waveforms) @ weights / 1e-6) / np.log1p(46_080 / 1e-6)


def test_log_mel_is_that_of_an_independent_implementation(loaded, waveforms):
    features = computed(waveforms, front_ends.front_end("log_mel", loaded))
    np.testing.assert_allclose(features, reference_log_mel(waveforms), atol=1e-4)


def test_spectrogram_is_that_of_an_independent_implementation(loaded, waveforms):
    features = computed(waveforms, front_ends.front_end("spectrogram", loaded))
    expected = np.log(reference_power(waveforms) + 0.01)
    np.testing.assert_allclose(features, expected, atol=2e-4)


def test_spectrogram_is_the_tutorials_operator(loaded, waveforms):
    import tensorflow as tf

    operator = [
        tf.raw_ops.AudioSpectrogram(input=clip[:, None], window_size=480, stride=160, magnitude_squared=True).numpy()[0]
        for clip in waveforms
    ]
    features = computed(waveforms, front_ends.front_end("spectrogram", loaded))
    assert features.shape[1:] == (98, 257)
    np.testing.assert_allclose(features, np.log(np.abs(operator) + 0.01), atol=2e-4)


def test_mfcc_is_the_orthonormal_cosine_transform_of_log_mel(loaded, waveforms):
    expected = scipy.fft.dct(reference_log_mel(waveforms), type=2, norm="ortho")[..., :20]
    features = computed(waveforms, front_ends.front_end("mfcc", loaded))
    np.testing.assert_allclose(features, expected, atol=2e-4)


def model_of(settings: FrontEnd, tmp_path):
    """A saved and loaded model that answers with its own front end."""
    import keras

    from earmark.models import model_folder

    features = keras.Input((settings.frames, settings.bins))
    network = keras.Model(features, keras.layers.Activation("linear")(features), name="identity")
    model_folder.with_front_end(network, settings).save(tmp_path / "model.keras")
    return keras.saving.load_model(tmp_path / "model.keras", compile=False, safe_mode=True)


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("spectrogram", {"window_ms": 32.0, "fft_length": 512}),
        ("spectrogram", {"window_ms": 30.0625, "stride_ms": 7.0625, "fft_length": 1024}),
        ("log_mel", {"window_ms": 25.0, "stride_ms": 12.5, "fft_length": 402}),
        ("log_mel", {"log_mel": {"bands": 5, "lowest_hz": 0.0, "highest_hz": 8000.0, "normalisation": "none"}}),
        ("log_mel", {"fft_length": 4096, "log_mel": {"bands": 128, "lowest_hz": 50.0, "highest_hz": 7000.0}}),
        ("mfcc", {"window_ms": 25.0, "stride_ms": 12.5, "fft_length": 402, "log_mel": {"bands": 5, "floor": 1e-9}}),
    ],
)
def test_a_saved_model_computes_what_the_extractor_computes_whatever_the_settings(loaded, name, settings, tmp_path):
    values = loaded.model_dump(by_alias=True)
    values["features"] |= settings | {"log_mel": values["features"]["log_mel"] | settings.get("log_mel", {})}
    values["features"]["mfcc"] = {"coefficients": 3}
    front_end = front_ends.front_end(name, params.Params.model_validate(values))
    signals = [make() for make in SIGNALS.values() if make is not speech]
    waveforms = np.concatenate(signals).astype(np.float32)
    expected = computed(waveforms, front_end)
    np.testing.assert_allclose(model_of(front_end, tmp_path).predict_on_batch(waveforms), expected, atol=1e-5)
    assert name != "log_mel" or front_end.normalisation == "none" or 0 <= expected.min() <= expected.max() <= 1


@pytest.mark.parametrize("name", ["log_mel", "mfcc"])
def test_mel_bands_that_no_bin_reaches_are_refused(loaded, name):
    values = loaded.model_dump(by_alias=True)
    values["features"]["log_mel"]["bands"] = 256
    message = r"features\.log_mel: 256 bands leave band \d+ without an FFT bin; expected fewer bands"
    with pytest.raises(UserError, match=message):
        front_ends.front_end(name, params.Params.model_validate(values))


def test_an_unknown_front_end_is_refused(loaded):
    with pytest.raises(UserError, match="'mel' is no front end; expected one of spectrogram, log_mel, mfcc"):
        front_ends.front_end("mel", loaded)


@pytest.mark.parametrize("name", NAMES)
def test_a_loaded_model_has_the_front_end_that_it_was_saved_with(loaded, name, tmp_path):
    settings = front_ends.front_end(name, loaded)
    assert saved_and_loaded(settings, tmp_path) == settings


def test_a_model_with_a_front_end_that_is_unknown_here_can_be_loaded(loaded, tmp_path):
    settings = front_ends.front_end("log_mel", loaded)
    unknown = saved_and_loaded(replace(settings, name="other"), tmp_path)
    assert type(unknown) is FrontEnd
    assert unknown.settings() == settings.settings() | {"name": "other"}


def saved_and_loaded(settings: FrontEnd, folder) -> FrontEnd:
    """The front end of a model that was saved with these settings."""
    from keras import Sequential, layers

    from earmark.models import model_folder

    network = Sequential([layers.Input((settings.frames, settings.bins)), layers.Dense(2)], name="dense")
    model_folder.save(folder, network, settings, ("a", "b"), 0.5)
    return model_folder.load(folder).front_end


@dataclass(frozen=True, kw_only=True)
class Thirds(Spectrogram):
    """The power below, between and above 1 and 3 kHz: bands of its own, and fewer than are computed in one product."""

    name: str = "thirds"

    @property
    def weights(self) -> np.ndarray:
        third = np.digitize(np.linspace(0, 8000, 257), [1000, 3000])
        return (third[:, None] == np.arange(3)).astype(np.float32)


@dataclass(frozen=True, kw_only=True)
class Pcen(LogMel):
    """Per-channel energy normalisation (Wang et al. 2017): not linear, with a memory, and computed in the model."""

    name: str = "pcen"
    version: int = 1
    smoothing: float = 0.025

    @property
    def stored(self) -> LogMel:
        return self.as_kind(LogMel)

    def in_numpy(self, stored: np.ndarray) -> np.ndarray:
        power = self.floor * np.expm1((stored - self.silence) * self.log_range)
        filters = [self.smoothing], [1, self.smoothing - 1]
        smooth, _ = scipy.signal.lfilter(*filters, power, axis=1, zi=(1 - self.smoothing) * power[:, :1])
        return np.sqrt(power / (1e-6 + smooth) ** 0.98 + 2, dtype=np.float32) - np.float32(2**0.5)

    def in_keras(self, stored):
        from keras import ops

        from earmark.features.keras_backend import to_power

        age = np.subtract.outer(np.arange(self.frames), np.arange(self.frames))
        shares = np.where(age >= 0, (1 - self.smoothing) ** np.maximum(age, 0), 0) * self.smoothing
        shares[:, 0] /= self.smoothing
        power = to_power(stored, self)
        smooth = ops.matmul(ops.array(shares, "float32"), power)
        return ops.sqrt(power / ops.power(1e-6 + smooth, 0.98) + 2.0) - 2**0.5


@pytest.mark.parametrize(("kind", "like"), [(Thirds, "spectrogram"), (Pcen, "log_mel")])
def test_a_front_end_is_a_class(loaded, waveforms, kind, like, tmp_path):
    settings = kind(**front_ends.front_end(like, loaded).settings() | {"name": kind.name})
    features = model_of(settings, tmp_path).predict_on_batch(waveforms)
    np.testing.assert_allclose(features, computed(waveforms, settings), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_a_saved_model_computes_what_the_extractor_computes(loaded, waveforms, name, tmp_path):
    settings = front_ends.front_end(name, loaded)
    features = model_of(settings, tmp_path).predict_on_batch(waveforms)
    np.testing.assert_allclose(features, computed(waveforms, settings), atol=1e-5)


@pytest.mark.parametrize("name", ["spectrogram", "log_mel"])
def test_a_saved_model_computes_what_shards_hold(loaded, waveforms, name, tmp_path):
    settings = front_ends.front_end(name, loaded)
    stored = numpy_backend.to_float16(computed(waveforms, settings)).astype(np.float32)
    # Of numbers above 1, as the tutorial's spectrogram has them, float16 keeps three digits and no more.
    features = model_of(settings, tmp_path).predict_on_batch(waveforms)
    np.testing.assert_allclose(features, stored, atol=1e-3, rtol=0 if settings.normalisation == "full_scale" else 1e-3)


@pytest.mark.parametrize("name", ["spectrogram", "log_mel"])
def test_power_of_stored_features_gives_them_back(loaded, name):
    from earmark.features.keras_backend import from_power, to_power

    settings = front_ends.front_end(name, loaded)
    features = computed(SIGNALS["white noise"]().astype(np.float32), settings)
    np.testing.assert_allclose(from_power(to_power(features, settings), settings), features, atol=1e-5)


def test_full_scale_is_one_and_silence_is_zero(loaded):
    settings = front_ends.front_end("log_mel", loaded)
    assert (computed(np.zeros((1, SAMPLES), np.float32), settings) == 0).all()
    loudest = max(
        computed(make().astype(np.float32), settings).max() for make in SIGNALS.values() if make is not speech
    )
    assert 0.8 < loudest <= 1


def test_without_normalisation_silence_is_the_logarithm_of_the_floor(loaded):
    settings = front_ends.front_end("spectrogram", loaded)
    np.testing.assert_allclose(computed(np.zeros((1, SAMPLES), np.float32), settings), np.log(0.01), rtol=1e-6)


def test_two_front_ends_at_once_are_each_alone(loaded):
    both = tuple(front_ends.front_end(name, loaded) for name in ("log_mel", "spectrogram"))
    waveforms = SIGNALS["white noise"]().astype(np.float32)
    for features, settings in zip(numpy_backend.features(waveforms, both), both, strict=True):
        np.testing.assert_array_equal(features, computed(waveforms, settings))


def test_float16_is_the_nearest_for_all_that_features_can_be():
    values = np.concatenate([generator.uniform(-20, 20, 10**6), generator.uniform(-1, 1, 10**6), [65_503, -65_503, 0]])
    values = values.astype(np.float32)
    rounded, nearest = numpy_backend.to_float16(values), values.astype(np.float16)
    normal = np.abs(values) >= 2.0**-14
    error, least = np.abs(rounded - values), np.abs(nearest - values)
    np.testing.assert_array_equal(error[normal], least[normal])  # of two that are equally near, either
    assert error[~normal].max() <= 2.0**-15


# What each version gives for one recording, to four digits. Other numbers are another version.
GOLDEN = {
    ("spectrogram", 2): (-4.6052, 7.9120, -4.3540),
    ("log_mel", 2): (0.0, 0.0352, 0.1352),
    ("mfcc", 1): (0.0, -0.0277, 0.0340),
}


@pytest.mark.parametrize("name", NAMES)
def test_a_version_stands_for_its_numbers(loaded, name):
    settings = front_ends.front_end(name, loaded)
    recording = np.sin(2 * np.pi * 300 * TIME * (1 + TIME)) * np.minimum(1, 4 * TIME) / 2
    recording[:3000] = 0
    features = computed(recording[None].astype(np.float32), settings)[0]
    figures = features[0, 0], features[50, :20][-1], features.mean(dtype=np.float64)
    np.testing.assert_allclose(figures, GOLDEN.get((name, settings.version), np.nan), atol=5e-5)
