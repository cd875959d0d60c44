"""The front ends in NumPy and SciPy, for blocks of clips; feature shards are computed with these."""

from functools import lru_cache

import numpy as np
import numpy.typing as npt
import scipy.fft

from earmark.features.front_end import FrontEnd, window

_BAND_GROUPS = 4
_HALF_UNIT = 1 << 12  # half of the last of the 10 mantissa bits that float16 keeps of 23
_REBIAS = (127 - 15) << 23  # the exponent's bias is 127 in float32 and 15 in float16


def features(waveforms: npt.NDArray[np.float32], front_ends: tuple[FrontEnd, ...]) -> list[npt.NDArray[np.float32]]:
    """Compute each front end of a block of clips, float32 (clips, samples): float32 (clips, frames, bins).

    The front ends must share their frames, whose power is computed once. Blocks of about sixteen clips are fastest:
    intermediate results then stay in a core's cache.
    """
    power = _power(waveforms, front_ends[0])
    return [front_end.in_numpy(_log(_in_bands(power, front_end), front_end)) for front_end in front_ends]


def _power(waveforms: npt.NDArray[np.float32], settings: FrontEnd) -> npt.NDArray[np.float32]:
    """Squared magnitudes, float32 (clips, frames, FFT bins)."""
    frames = np.lib.stride_tricks.sliding_window_view(waveforms, settings.window_samples, axis=-1)
    frames = frames[:, :: settings.stride_samples]
    first, last = settings.frame_offset, settings.frame_offset + settings.window_samples
    padded = np.empty((*frames.shape[:2], settings.fft_length), dtype=np.float32)
    padded[..., :first] = 0
    padded[..., last:] = 0
    np.multiply(frames, window(settings), out=padded[..., first:last])
    parts: npt.NDArray[np.float32] = scipy.fft.rfft(padded).view(np.float32)  # real and imaginary parts in turn
    np.square(parts, out=parts)
    return parts[..., ::2] + parts[..., 1::2]


def _in_bands(power: npt.NDArray[np.float32], settings: FrontEnd) -> npt.NDArray[np.float32]:
    weights = settings.weights
    if weights is None:
        return power
    result = np.empty((*power.shape[:-1], weights.shape[1]), dtype=np.float32)
    # One product for the frames of all clips, not one for each clip.
    frames, bands_of_frames = power.reshape(-1, len(weights)), result.reshape(-1, weights.shape[1])
    for bins, bands, group in _band_groups(settings):
        np.matmul(frames[:, bins], group, out=bands_of_frames[:, bands])
    return result


@lru_cache
def _band_groups(settings: FrontEnd) -> list[tuple[slice, slice, npt.NDArray[np.float32]]]:
    """The weights in groups of neighbouring bands (bins, bands, weights), without bins that are zero in all bands.

    For `log_mel` this halves the multiplications.
    """
    weights = settings.weights
    if weights is None:
        return []
    groups = []
    for bands in np.array_split(np.arange(weights.shape[1]), min(_BAND_GROUPS, weights.shape[1])):
        reached = np.flatnonzero(weights[:, bands].any(axis=1))
        bins = slice(reached[0], reached[-1] + 1) if len(reached) else slice(0)
        columns = slice(bands[0], bands[-1] + 1)
        groups.append((bins, columns, np.ascontiguousarray(weights[bins, columns])))
    return groups


def _log(power: npt.NDArray[np.float32], settings: FrontEnd) -> npt.NDArray[np.float32]:
    floor = np.float32(settings.floor)
    values: npt.NDArray[np.float32]
    if settings.normalisation == "full_scale":
        values = np.log(power * (1 / floor) + np.float32(1)) * np.float32(1 / settings.log_range)
    else:
        values = np.log(power + floor)
    return values


def to_float16(values: npt.NDArray[np.float32]) -> npt.NDArray[np.float16]:
    """Round to the nearest float16, ties away from zero; magnitudes must be below 65,520.

    Uses integer arithmetic on the bits, several times faster than `astype`, which converts value by value. Magnitudes
    below 6.1e-5, where float16 has no normal numbers, have an error of at most 3.1e-5.
    """
    bits = values.view(np.uint32)
    result = bits & np.uint32(0x7FFF_FFFF)
    np.maximum(result, np.uint32(_REBIAS - _HALF_UNIT), out=result)
    result -= np.uint32(_REBIAS - _HALF_UNIT)
    result >>= np.uint32(13)
    sign = bits >> np.uint32(16)
    sign &= np.uint32(0x8000)
    result |= sign
    return result.astype(np.uint16).view(np.float16)
