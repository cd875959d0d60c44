"""`spectrogram`: the logarithm of the power of every FFT bin."""

from dataclasses import dataclass

from earmark.features.front_end import FrontEnd


@dataclass(frozen=True, kw_only=True)
class Spectrogram(FrontEnd):
    """The front end of the tutorial *Simple audio classification with Keras*."""

    name: str = "spectrogram"
    version: int = 2
