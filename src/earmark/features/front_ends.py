"""The front ends: what a waveform looks like to a network. Here is what each of them is; `numpy_front_end` computes
them for shards and `graph_front_end` in the graph of a model.

All take the same steps: frames of `window_samples` every `stride_samples`, a periodic Hann window, a zero-padded FFT of
`fft_length` with the frame in its middle, squared magnitude. `spectrogram` is the logarithm of that, `log_mel` of its
sums in triangular HTK filters (Young et al., The HTK Book, section 5.4), and `mfcc` the discrete cosine transform of
`log_mel` over its bands (same book, section 5.6, without liftering). Natural logarithms throughout.
"""

import math
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from typing import Literal

import numpy as np

from earmark.errors import UserError
from earmark.params import Normalisation, Padding, Params

VERSIONS = {"spectrogram": 2, "log_mel": 2, "mfcc": 1}
"""Raised when the numbers of a front end change."""


@dataclass(frozen=True)
class FrontEnd:
    """One front end with all that its numbers depend on.

    `mel_bands` is 0 for a plain spectrogram, `coefficients` for all but `mfcc`. `normalisation` is "none" for
    log(power + floor), or "full_scale" for log(power / floor + 1) over the same of `full_scale_power`: then silence is
    0, and no value of a clip in [-1, 1] is above 1.
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
        """Frames of one clip."""
        return frame_count(self.clip_samples, self)

    @property
    def bins(self) -> int:
        """Values of one frame."""
        return self.coefficients or self.mel_bands or self.fft_length // 2 + 1

    @property
    def frame_offset(self) -> int:
        """Zeros before the frame in its FFT. Where it stands changes rounding only; TensorFlow has it there."""
        return (self.fft_length - self.window_samples) // 2

    @property
    def log_range(self) -> float:
        """log(full_scale_power / floor + 1): what "full_scale" divides by."""
        return math.log1p(full_scale_power(self) / self.floor)

    @property
    def silence(self) -> float:
        """What no power at all is, as shards hold it."""
        return 0.0 if self.normalisation == "full_scale" else math.log(self.floor)

    @property
    def stored(self) -> "FrontEnd":
        """What shards hold for it: itself, or for `mfcc` the `log_mel` from which a network's graph makes it."""
        if not self.coefficients:
            return self
        return replace(self, name="log_mel", version=VERSIONS["log_mel"], coefficients=0)

    def settings(self) -> dict:
        """Everything above as plain values; FrontEnd(**settings) gives it back."""
        return asdict(self)


def front_end(name: Literal["spectrogram", "log_mel", "mfcc"], params: Params) -> FrontEnd:
    """The front end `name` as params.yaml has it; UserError where a mel band would have no bin."""
    features = params.features
    own = features.spectrogram if name == "spectrogram" else features.log_mel
    mel = (
        {}
        if name == "spectrogram"
        else {"mel_bands": own.bands, "lowest_hz": own.lowest_hz, "highest_hz": own.highest_hz}
    )
    found = FrontEnd(
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
        coefficients=features.mfcc.coefficients if name == "mfcc" else 0,
        **mel,
    )
    _require_full_bands(found)
    return found


def _require_full_bands(settings: FrontEnd) -> None:
    empty = np.flatnonzero(~mel_matrix(settings).any(axis=0)) if settings.mel_bands else ()
    if len(empty):
        raise UserError(
            f"params.yaml: features.log_mel.bands {settings.mel_bands} leaves band {empty[0]} without a bin of the FFT;"
            f" allowed are fewer bands, a wider range, or a features.fft_length above {settings.fft_length}"
        )


def frame_count(samples: int, settings: FrontEnd) -> int:
    """Whole windows in `samples`."""
    return max(0, 1 + (samples - settings.window_samples) // settings.stride_samples)


@lru_cache
def window(settings: FrontEnd) -> np.ndarray:
    """The periodic Hann window, float32 (window_samples,)."""
    return np.hanning(settings.window_samples + 1)[:-1].astype(np.float32)


def full_scale_power(settings: FrontEnd) -> float:
    """A bound on the power that one bin or band of a signal in [-1, 1] can have: of a bin, the constant 1's; of a mel
    band, by Parseval's theorem, that of all bins of a square wave."""
    hann = window(settings).astype(np.float64)
    return float(settings.fft_length * (hann @ hann) / 2 if settings.mel_bands else hann.sum() ** 2)


def hertz_to_mel(hertz: np.ndarray) -> np.ndarray:
    """The HTK mel scale."""
    return 2595.0 * np.log10(1.0 + np.asarray(hertz, dtype=np.float64) / 700.0)


@lru_cache
def mel_matrix(settings: FrontEnd) -> np.ndarray:
    """Weights from FFT bins to mel bands, float32 (fft_length / 2 + 1, mel_bands); triangles in mel, peak 1."""
    bins = hertz_to_mel(np.linspace(0.0, settings.sample_rate_hz / 2, settings.fft_length // 2 + 1))[:, None]
    edges = np.linspace(*hertz_to_mel(np.array([settings.lowest_hz, settings.highest_hz])), settings.mel_bands + 2)
    rising = (bins - edges[:-2]) / (edges[1:-1] - edges[:-2])
    falling = (edges[2:] - bins) / (edges[2:] - edges[1:-1])
    weights = np.maximum(0.0, np.minimum(rising, falling))
    weights[0] = 0.0  # the constant part of a signal is no sound
    return weights.astype(np.float32)


@lru_cache
def cosine_matrix(settings: FrontEnd) -> np.ndarray:
    """Weights from mel bands to cepstral coefficients, float32 (mel_bands, coefficients): the orthonormal DCT-II."""
    band = np.arange(settings.mel_bands)[:, None]
    coefficient = np.arange(settings.coefficients)
    weights = np.cos(np.pi * coefficient * (2 * band + 1) / (2 * settings.mel_bands))
    weights *= np.where(coefficient == 0, 1.0, np.sqrt(2.0)) / np.sqrt(settings.mel_bands)
    return weights.astype(np.float32)
