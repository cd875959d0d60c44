"""The front ends: what a waveform looks like to a network, once in NumPy for shards and once in the graph of a saved
model.

Both follow the same steps: frames of `window_samples` every `stride_samples`, a periodic Hann window, a zero-padded
FFT of
`fft_length`, squared magnitude; then `spectrogram` is log(power + floor) and `log_mel` is log(mel power + floor),
with the
triangular HTK filters of Young et al., The HTK Book, section 5.4. Natural logarithms throughout.
"""

from dataclasses import asdict, dataclass

import numpy as np
import scipy.fft

from earmark.params import Params

VERSIONS = {"spectrogram": 1, "log_mel": 1}
"""Raised when the numbers of a front end change."""


@dataclass(frozen=True)
class FrontEnd:
    """One front end with all that its numbers depend on. `mel_bands` is 0 for a plain spectrogram."""

    name: str
    version: int
    sample_rate_hz: int
    clip_samples: int
    window_samples: int
    stride_samples: int
    fft_length: int
    floor: float
    mel_bands: int = 0
    lowest_hz: float = 0.0
    highest_hz: float = 0.0

    @property
    def frames(self) -> int:
        """Frames of one clip."""
        return frame_count(self.clip_samples, self)

    @property
    def bins(self) -> int:
        """Values of one frame."""
        return self.mel_bands or self.fft_length // 2 + 1

    def settings(self) -> dict:
        """Everything above as plain values; FrontEnd(**settings) gives it back."""
        return asdict(self)


def front_end(name: str, params: Params) -> FrontEnd:
    """The front end `name` (`spectrogram` or `log_mel`) as params.yaml has it."""
    own = params.features.spectrogram if name == "spectrogram" else params.features.log_mel
    mel = (
        {}
        if name == "spectrogram"
        else {"mel_bands": own.bands, "lowest_hz": own.lowest_hz, "highest_hz": own.highest_hz}
    )
    return FrontEnd(
        name=name,
        version=VERSIONS[name],
        sample_rate_hz=params.dataset.sample_rate_hz,
        clip_samples=params.dataset.clip_samples,
        window_samples=params.window_samples,
        stride_samples=params.stride_samples,
        fft_length=params.features.fft_length,
        floor=own.floor,
        **mel,
    )


def frame_count(samples: int, settings: FrontEnd) -> int:
    """Whole windows in `samples`."""
    return max(0, 1 + (samples - settings.window_samples) // settings.stride_samples)


def hertz_to_mel(hertz: np.ndarray) -> np.ndarray:
    """The HTK mel scale."""
    return 2595.0 * np.log10(1.0 + np.asarray(hertz, dtype=np.float64) / 700.0)


def mel_matrix(settings: FrontEnd) -> np.ndarray:
    """Weights from FFT bins to mel bands, float32 of shape (fft_length / 2 + 1, mel_bands); triangles in mel, peak
    1."""
    bins = hertz_to_mel(np.linspace(0.0, settings.sample_rate_hz / 2, settings.fft_length // 2 + 1))[:, None]
    edges = np.linspace(*hertz_to_mel(np.array([settings.lowest_hz, settings.highest_hz])), settings.mel_bands + 2)
    rising = (bins - edges[:-2]) / (edges[1:-1] - edges[:-2])
    falling = (edges[2:] - bins) / (edges[2:] - edges[1:-1])
    weights = np.maximum(0.0, np.minimum(rising, falling))
    weights[0] = 0.0  # the constant part of a signal is no sound
    return weights.astype(np.float32)


def power(waveforms: np.ndarray, settings: FrontEnd) -> np.ndarray:
    """Power of each frame: float32 (clips, samples) in [-1, 1] to float32 (clips, frames, bins), mel bands where
    set."""
    frames = np.lib.stride_tricks.sliding_window_view(waveforms, settings.window_samples, axis=-1)
    frames = frames[:, :: settings.stride_samples]
    window = np.hanning(settings.window_samples + 1)[:-1].astype(np.float32)
    spectrum = scipy.fft.rfft(frames * window, settings.fft_length, axis=-1)
    result = np.square(spectrum.real) + np.square(spectrum.imag)
    return result @ mel_matrix(settings) if settings.mel_bands else result


def compute(waveforms: np.ndarray, settings: FrontEnd) -> np.ndarray:
    """The front end of a block of clips: float32 (clips, samples) to float32 (clips, frames, bins)."""
    return np.log(power(waveforms, settings) + np.float32(settings.floor))


def in_graph(waveforms, settings: FrontEnd):
    """The same front end on a Keras tensor (clips, samples), of Keras' own operations only, so that a saved model needs
    nothing of earmark to be loaded."""
    import keras

    # Keras centres the window in the FFT's frame; padding by as much on both sides keeps the frames where they are.
    left = (settings.fft_length - settings.window_samples) // 2
    right = settings.fft_length - settings.window_samples - left
    real, imaginary = keras.ops.stft(
        keras.ops.pad(waveforms, [[0, 0], [left, right]]),
        sequence_length=settings.window_samples,
        sequence_stride=settings.stride_samples,
        fft_length=settings.fft_length,
        window="hann",
        center=False,
    )
    result = keras.ops.square(real) + keras.ops.square(imaginary)
    if settings.mel_bands:
        layer = keras.layers.Dense(settings.mel_bands, use_bias=False, trainable=False, name="mel")
        result = layer(result)
        layer.set_weights([mel_matrix(settings)])
    return keras.ops.log(result + settings.floor)
