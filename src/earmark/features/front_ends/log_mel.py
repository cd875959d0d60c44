"""`log_mel`: the logarithm of power in triangular HTK filters (Young et al., The HTK Book, section 5.4)."""

from dataclasses import dataclass
from functools import lru_cache
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from earmark.features.front_end import Array, FrontEnd
from earmark.params import Features


@dataclass(frozen=True, kw_only=True)
class LogMel(FrontEnd):
    """Log power in `mel_bands` bands from `lowest_hz` to `highest_hz`, equally wide on the mel scale."""

    name: str = "log_mel"
    version: int = 2

    layer: ClassVar[str] = "mel"

    @classmethod
    def own_settings(cls, features: Features) -> dict[str, Any]:
        """The section `features.log_mel`, whose `bands` are called `mel_bands` here."""
        section = features.log_mel.model_dump()
        return {"mel_bands" if key == "bands" else key: value for key, value in section.items()}

    @property
    def weights(self) -> Array:
        """The mel filters."""
        return mel_matrix(self)


def hertz_to_mel(hertz: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """Convert frequencies to the HTK mel scale."""
    mel: npt.NDArray[np.float64] = 2595.0 * np.log10(1.0 + np.asarray(hertz, dtype=np.float64) / 700.0)
    return mel


@lru_cache
def mel_matrix(settings: LogMel) -> Array:
    """Weights from FFT bins to mel bands, float32 (fft_length / 2 + 1, mel_bands): mel-scale triangles of peak 1."""
    bins = hertz_to_mel(np.linspace(0.0, settings.sample_rate_hz / 2, settings.fft_length // 2 + 1))[:, None]
    lowest, highest = hertz_to_mel(np.array([settings.lowest_hz, settings.highest_hz]))
    edges = np.linspace(lowest, highest, settings.mel_bands + 2)
    rising = (bins - edges[:-2]) / (edges[1:-1] - edges[:-2])
    falling = (edges[2:] - bins) / (edges[2:] - edges[1:-1])
    weights: npt.NDArray[np.float64] = np.maximum(0.0, np.minimum(rising, falling))
    weights[0] = 0.0  # the constant part of a signal cannot be heard
    return weights.astype(np.float32)
