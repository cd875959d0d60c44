"""Defines the front ends, which turn a waveform into the input of a network.

`numpy_backend` computes them for feature shards, `keras_backend` inside a model. All share these steps: frames of
`window_samples` every `stride_samples`, a periodic Hann window, a zero-padded FFT of `fft_length` with the frame in its
middle, and the squared magnitude, called power. `spectrogram` is the logarithm of the power; `log_mel` is the logarithm
of its sums in triangular HTK filters (Young et al., The HTK Book, section 5.4); `mfcc` is the discrete cosine transform
of `log_mel` over its bands (same book, section 5.6, without liftering). All logarithms are natural.
"""

import math
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from earmark.errors import UserError
from earmark.params import Normalisation, Padding, Params

VERSIONS = {"spectrogram": 2, "log_mel": 2, "mfcc": 1}
"""Version of each front end; increase it when the front end's values change."""
Name = Literal["spectrogram", "log_mel", "mfcc"]


@dataclass(frozen=True)
class FrontEnd:
    """One front end with every setting that its values depend on.

    `mel_bands` is 0 for `spectrogram`; `coefficients` is 0 for all but `mfcc`. With `normalisation` "none" a value is
    log(power + floor). With "full_scale" it is log(power / floor + 1) / log(full_scale_power / floor + 1): silence is
    0, and a clip in [-1, 1] has no value above 1.
    """

    name: str
    version: int
    sample_rate_hz: int
    clip_samples: int
    padding: Padding
    window_samples: int
    stride_samples: int
    fft_length: int
    floor: float
    normalisation: Normalisation
    mel_bands: int = 0
    lowest_hz: float = 0.0
    highest_hz: float = 0.0
    coefficients: int = 0

    @property
    def frames(self) -> int:
        """Frames in one clip."""
        return frame_count(self.clip_samples, self)

    @property
    def bins(self) -> int:
        """Values in one frame."""
        return self.coefficients or self.mel_bands or self.fft_length // 2 + 1

    @property
    def frame_offset(self) -> int:
        """Zeros before the frame in its FFT, as in TensorFlow; the position affects rounding only."""
        return (self.fft_length - self.window_samples) // 2

    @property
    def log_range(self) -> float:
        """log(full_scale_power / floor + 1), the divisor of the normalisation "full_scale"."""
        return math.log1p(full_scale_power(self) / self.floor)

    @property
    def silence(self) -> float:
        """The stored value of zero power."""
        return 0.0 if self.normalisation == "full_scale" else math.log(self.floor)

    @property
    def stored(self) -> "FrontEnd":
        """The front end that is stored in shards: `log_mel` for `mfcc`, which a model computes from it; else itself."""
        if not self.coefficients:
            return self
        return replace(self, name="log_mel", version=VERSIONS["log_mel"], coefficients=0)

    def settings(self) -> dict[str, Any]:
        """All fields as plain values; `FrontEnd(**settings)` restores the front end."""
        return asdict(self)


def front_end(name: Name, params: Params) -> FrontEnd:
    """The front end `name` with the settings of params.yaml.

    Raises:
        UserError: a mel band would have no FFT bin.
    """
    features, mel = params.features, params.features.log_mel
    has_mel = name != "spectrogram"
    own = mel if has_mel else features.spectrogram
    settings = FrontEnd(
        name=name,
        version=VERSIONS[name],
        sample_rate_hz=params.dataset.sample_rate_hz,
        clip_samples=params.dataset.clip_samples,
        padding=params.dataset.padding,
        window_samples=params.window_samples,
        stride_samples=params.stride_samples,
        fft_length=features.fft_length,
        floor=own.floor,
        normalisation=own.normalisation,
        mel_bands=mel.bands if has_mel else 0,
        lowest_hz=mel.lowest_hz if has_mel else 0.0,
        highest_hz=mel.highest_hz if has_mel else 0.0,
        coefficients=features.mfcc.coefficients if name == "mfcc" else 0,
    )
    if has_mel:
        _check_mel_bands(settings)
    return settings


def _check_mel_bands(settings: FrontEnd) -> None:
    empty = np.flatnonzero(~mel_matrix(settings).any(axis=0))
    if len(empty):
        raise UserError(
            f"params.yaml: features.log_mel.bands {settings.mel_bands} leaves band {empty[0]} without an FFT bin;"
            f" expected fewer bands, a wider range, or a features.fft_length above {settings.fft_length}"
        )


def frame_count(samples: int, settings: FrontEnd) -> int:
    """Number of whole windows in `samples` samples."""
    return max(0, 1 + (samples - settings.window_samples) // settings.stride_samples)


@lru_cache
def window(settings: FrontEnd) -> npt.NDArray[np.float32]:
    """The periodic Hann window, float32 (window_samples,)."""
    return np.hanning(settings.window_samples + 1)[:-1].astype(np.float32)


def full_scale_power(settings: FrontEnd) -> float:
    """Upper bound on the power of one bin or mel band of a signal in [-1, 1].

    For a bin it is the power of a constant signal of 1; for a mel band it is, by Parseval's theorem, the power of all
    bins of a square wave.
    """
    hann = window(settings).astype(np.float64)
    return float(settings.fft_length * (hann @ hann) / 2 if settings.mel_bands else hann.sum() ** 2)


def hertz_to_mel(hertz: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """Convert frequencies to the HTK mel scale."""
    mel: npt.NDArray[np.float64] = 2595.0 * np.log10(1.0 + np.asarray(hertz, dtype=np.float64) / 700.0)
    return mel


@lru_cache
def mel_matrix(settings: FrontEnd) -> npt.NDArray[np.float32]:
    """Weights from FFT bins to mel bands, float32 (fft_length / 2 + 1, mel_bands): mel-scale triangles of peak 1."""
    bins = hertz_to_mel(np.linspace(0.0, settings.sample_rate_hz / 2, settings.fft_length // 2 + 1))[:, None]
    lowest, highest = hertz_to_mel(np.array([settings.lowest_hz, settings.highest_hz]))
    edges = np.linspace(lowest, highest, settings.mel_bands + 2)
    rising = (bins - edges[:-2]) / (edges[1:-1] - edges[:-2])
    falling = (edges[2:] - bins) / (edges[2:] - edges[1:-1])
    weights: npt.NDArray[np.float64] = np.maximum(0.0, np.minimum(rising, falling))
    weights[0] = 0.0  # the constant part of a signal cannot be heard
    return weights.astype(np.float32)


@lru_cache
def cosine_matrix(settings: FrontEnd) -> npt.NDArray[np.float32]:
    """Weights from mel bands to cepstral coefficients, float32 (mel_bands, coefficients): the orthonormal DCT-II."""
    band = np.arange(settings.mel_bands)[:, None]
    coefficient = np.arange(settings.coefficients)
    weights: npt.NDArray[np.float64] = np.cos(np.pi * coefficient * (2 * band + 1) / (2 * settings.mel_bands))
    weights *= np.where(coefficient == 0, 1.0, np.sqrt(2.0)) / np.sqrt(settings.mel_bands)
    return weights.astype(np.float32)
