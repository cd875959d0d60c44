"""The front ends in NumPy and SciPy, for blocks of clips; feature shards are computed with these."""

from functools import lru_cache

import numpy as np
import numpy.typing as npt
import scipy.fft

from earmark.features.front_ends import FrontEnd, cosine_matrix, mel_matrix, window

_MEL_GROUPS = 4
_HALF_UNIT = 1 << 12  # half of the last of the 10 mantissa bits that float16 keeps of 23
_REBIAS = (127 - 15) << 23  # the exponent's bias is 127 in float32 and 15 in float16


def features(waveforms: npt.NDArray[np.float32], front_ends: tuple[FrontEnd, ...]) -> list[npt.NDArray[np.float32]]:
    """Compute each front end of a block of clips, float32 (clips, samples): float32 (clips, frames, bins).

    The front ends must share their frames, whose power is computed once. Blocks of about sixteen clips are fastest:
    intermediate results then stay in a core's cache.
    """
    power = _power(waveforms, front_ends[0])
    return [_from_power(power, front_end) for front_end in front_ends]


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


def _from_power(power: npt.NDArray[np.float32], settings: FrontEnd) -> npt.NDArray[np.float32]:
    if settings.mel_bands:
        power = _mel_power(power, settings)
    floor = np.float32(settings.floor)
    values: npt.NDArray[np.float32]
    if settings.normalisation == "full_scale":
        values = np.log(power * (1 / floor) + np.float32(1)) * np.float32(1 / settings.log_range)
    else:
        values = np.log(power + floor)
    return values @ cosine_matrix(settings) if settings.coefficients else values


def _mel_power(power: npt.NDArray[np.float32], settings: FrontEnd) -> npt.NDArray[np.float32]:
    result = np.empty((*power.shape[:-1], settings.mel_bands), dtype=np.float32)
    # One product for the frames of all clips, not one for each clip.
    frames, bands_of_frames = power.reshape(-1, power.shape[-1]), result.reshape(-1, settings.mel_bands)
    for bins, bands, weights in _mel_groups(settings):
        np.matmul(frames[:, bins], weights, out=bands_of_frames[:, bands])
    return result


@lru_cache
def _mel_groups(settings: FrontEnd) -> list[tuple[slice, slice, npt.NDArray[np.float32]]]:
    """The mel matrix in groups of neighbouring bands (bins, bands, weights), without bins that are zero in all bands.

    This halves the multiplications.
    """
    weights = mel_matrix(settings)
    groups = []
    for bands in np.array_split(np.arange(settings.mel_bands), _MEL_GROUPS):
        reached = np.flatnonzero(weights[:, bands].any(axis=1))
        bins = slice(reached[0], reached[-1] + 1) if len(reached) else slice(0)
        columns = slice(bands[0], bands[-1] + 1)
        groups.append((bins, columns, np.ascontiguousarray(weights[bins, columns])))
    return groups


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
