"""The front ends: one module each, with a class that is an entry of FRONT_ENDS."""

from earmark.errors import UserError
from earmark.features.front_end import FrontEnd, frame_count
from earmark.features.front_ends.log_mel import LogMel
from earmark.features.front_ends.mfcc import Mfcc
from earmark.features.front_ends.spectrogram import Spectrogram
from earmark.params import Params

__all__ = ["FRONT_ENDS", "FrontEnd", "class_of", "frame_count", "front_end"]

FRONT_ENDS: dict[str, type[FrontEnd]] = {kind.name: kind for kind in (Spectrogram, LogMel, Mfcc)}


def front_end(name: str, params: Params) -> FrontEnd:
    """The front end `name` with the settings of params.yaml.

    Raises:
        UserError: there is no such front end, or a band would have no FFT bin.
    """
    if name not in FRONT_ENDS:
        raise UserError(f"FRONT_END: {name!r} is no front end; expected one of {', '.join(FRONT_ENDS)}")
    kind = FRONT_ENDS[name]
    settings = kind(
        sample_rate_hz=params.dataset.sample_rate_hz,
        clip_samples=params.dataset.clip_samples,
        padding=params.dataset.padding,
        window_samples=params.window_samples,
        stride_samples=params.stride_samples,
        fft_length=params.features.fft_length,
        **kind.own_settings(params.features),
    )
    _check_bands(settings)
    return settings


def _check_bands(settings: FrontEnd) -> None:
    weights = settings.weights
    if weights is not None and not weights.any(axis=0).all():
        empty = int(weights.any(axis=0).argmin())
        raise UserError(
            f"params.yaml: features.{settings.stored.name}: {weights.shape[1]} bands leave band {empty} without an"
            f" FFT bin; expected fewer bands, a wider range, or a features.fft_length above {settings.fft_length}"
        )


def class_of(name: str) -> type[FrontEnd]:
    """The class of the front end `name`; FrontEnd for one that is unknown here, whose saved models can be used."""
    return FRONT_ENDS.get(name, FrontEnd)
