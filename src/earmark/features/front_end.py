"""Defines what all front ends share. A front end turns a waveform into the input of a network.

The steps: frames of `window_samples` every `stride_samples`, a periodic Hann window, a zero-padded FFT of `fft_length`
with the frame in its middle, the squared magnitude, called power, its sums in bands, and the natural logarithm. Shards
store this log power, because noise can be added to power. A front end may compute more from it, inside the model.

`numpy_backend` computes the shared steps for feature shards, `keras_backend` inside a model. What a front end has of
its own is a class in a module of `front_ends`.
"""

import math
from dataclasses import asdict, dataclass, fields
from functools import lru_cache
from typing import Any, ClassVar, TypeAlias, TypeVar

import numpy as np
import numpy.typing as npt

from earmark.params import Features, Normalisation, Padding

Array: TypeAlias = npt.NDArray[np.float32]
Tensor: TypeAlias = Any
"""A symbolic or eager tensor of the Keras backend in use."""
Kind = TypeVar("Kind", bound="FrontEnd")


@dataclass(frozen=True, kw_only=True)
class FrontEnd:
    """One front end with every setting that its values depend on.

    This class keeps the power of every FFT bin; subclasses override what they do otherwise, and add their settings as
    fields. With `normalisation` "none" a stored value is log(power + floor). With "full_scale" it is
    log(power / floor + 1) / log(full_scale_power / floor + 1): silence is 0, and no value of a clip in [-1, 1] is
    above 1.

    Attributes:
        name: each subclass has its own.
        version: of a subclass; increase it when the front end's values change.
        mel_bands: like the next three, of `log_mel` or `mfcc` and 0 elsewhere; these four are not in the subclasses
            because shards and models name them for every front end.
        layer: name of the layer in a saved model that sums power in bands.
    """

    name: str = ""
    version: int = 0
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

    layer: ClassVar[str] = "bands"

    @classmethod
    def own_settings(cls, features: Features) -> dict[str, Any]:
        """Fields that not all front ends share: the section of its name in params.yaml, none if it has no section."""
        section = getattr(features, cls.name, None)
        return section.model_dump() if section else {}

    @property
    def weights(self) -> Array | None:
        """Weights from FFT bins to bands, from 0 to 1, float32 (fft_length / 2 + 1, bands); None: every bin is kept."""
        return None

    @property
    def stored(self) -> "FrontEnd":
        """The front end whose log power shards store, and from which a model computes this one; by default itself."""
        return self

    def in_numpy(self, stored: Array) -> Array:
        """Compute the front end of stored features, float32 (clips, frames, stored bins): (clips, frames, bins)."""
        return stored

    def in_keras(self, stored: Tensor) -> Tensor:
        """Compute the same with Keras' own operations, so that a saved model can be loaded without earmark."""
        return stored

    @property
    def frames(self) -> int:
        """Frames in one clip."""
        return frame_count(self.clip_samples, self)

    @property
    def bins(self) -> int:
        """Values in one frame."""
        return self.fft_length // 2 + 1 if self.weights is None else self.weights.shape[1]

    @property
    def frame_offset(self) -> int:
        """Zeros before the frame in its FFT, as in TensorFlow; the position affects rounding only."""
        return (self.fft_length - self.window_samples) // 2

    @property
    def full_scale_power(self) -> float:
        """Upper bound on the power of one bin or band of a signal in [-1, 1].

        For a bin it is the power of a constant signal of 1; for a band it is, by Parseval's theorem, the power of all
        bins of a square wave.
        """
        hann = window(self).astype(np.float64)
        return float(hann.sum() ** 2 if self.weights is None else self.fft_length * (hann @ hann) / 2)

    @property
    def log_range(self) -> float:
        """What one unit of a stored value is in natural logarithms: power = floor * expm1((value - silence) * this)."""
        return math.log1p(self.full_scale_power / self.floor) if self.normalisation == "full_scale" else 1.0

    @property
    def silence(self) -> float:
        """The stored value of zero power."""
        return 0.0 if self.normalisation == "full_scale" else math.log(self.floor)

    def settings(self) -> dict[str, Any]:
        """All fields as plain values, as they are written beside features and models."""
        return asdict(self)

    def as_kind(self, kind: type[Kind]) -> Kind:
        """The front end of class `kind` with the settings of this one."""
        names = {field.name for field in fields(kind)} - {"name", "version"}
        return kind(**{name: getattr(self, name) for name in names})


def frame_count(samples: int, settings: FrontEnd) -> int:
    """Number of whole windows in `samples` samples."""
    return max(0, 1 + (samples - settings.window_samples) // settings.stride_samples)


@lru_cache
def window(settings: FrontEnd) -> Array:
    """The periodic Hann window, float32 (window_samples,)."""
    return np.hanning(settings.window_samples + 1)[:-1].astype(np.float32)
