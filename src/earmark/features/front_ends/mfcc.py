"""`mfcc`: the cosine transform of `log_mel` over its bands (The HTK Book, section 5.6, without liftering)."""

from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from earmark.features.front_end import Array, Tensor
from earmark.features.front_ends.log_mel import LogMel
from earmark.params import Features


@dataclass(frozen=True, kw_only=True)
class Mfcc(LogMel):
    """The first `coefficients` of the cosine transform. Shards store `log_mel`, to which noise can be added."""

    name: str = "mfcc"
    version: int = 1

    @classmethod
    def own_settings(cls, features: Features) -> dict[str, Any]:
        """The sections `features.log_mel` and `features.mfcc`."""
        return super().own_settings(features) | features.mfcc.model_dump()

    @property
    def stored(self) -> LogMel:
        """`log_mel` with the same settings."""
        return replace(self.as_kind(LogMel), coefficients=0)

    @property
    def bins(self) -> int:
        """Values in one frame."""
        return self.coefficients

    def in_numpy(self, stored: Array) -> Array:
        """The cosine transform in NumPy."""
        return stored @ cosine_matrix(self)

    def in_keras(self, stored: Tensor) -> Tensor:
        """The cosine transform in Keras."""
        from earmark.features.keras_backend import linear

        return linear(stored, cosine_matrix(self), "cosines")


@lru_cache
def cosine_matrix(settings: Mfcc) -> Array:
    """Weights from mel bands to cepstral coefficients, float32 (mel_bands, coefficients): the orthonormal DCT-II."""
    band = np.arange(settings.mel_bands)[:, None]
    coefficient = np.arange(settings.coefficients)
    weights: npt.NDArray[np.float64] = np.cos(np.pi * coefficient * (2 * band + 1) / (2 * settings.mel_bands))
    weights *= np.where(coefficient == 0, 1.0, np.sqrt(2.0)) / np.sqrt(settings.mel_bands)
    return weights.astype(np.float32)
