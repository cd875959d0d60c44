"""The front ends in NumPy and SciPy, for blocks of clips: what feature shards are made with."""

from functools import lru_cache

import numpy as np
import scipy.fft

from earmark.features.front_ends import FrontEnd, cosine_matrix, mel_matrix, window

_MEL_GROUPS = 4
_HALF_A_PLACE = 1 << 12  # of the last of the 10 bits that float16 keeps of 23
_REBIAS = (127 - 15) << 23  # exponents are counted from 127 in float32, from 15 in float16


def features(waveforms: np.ndarray, front_ends: tuple[FrontEnd, ...]) -> list[np.ndarray]:
    """Each front end of a block of clips, float32 (clips, frames, bins); `waveforms` are float32 (clips, samples).

    The front ends must share their frames, whose power is computed once. Blocks of some sixteen clips are fastest: what
    lies between two steps then stays in a core's cache.
    """
    power = _power(waveforms, front_ends[0])
    return [_of_power(power, each) for each in front_ends]


def _power(waveforms: np.ndarray, settings: FrontEnd) -> np.ndarray:
    """Squared magnitudes, float32 (clips, frames, FFT bins)."""
    frames = np.lib.stride_tricks.sliding_window_view(waveforms, settings.window_samples, axis=-1)
    frames = frames[:, :: settings.stride_samples]
    first, last = settings.frame_offset, settings.frame_offset + settings.window_samples
    padded = np.empty((*frames.shape[:2], settings.fft_length), dtype=np.float32)
    padded[..., :first] = 0
    padded[..., last:] = 0
    np.multiply(frames, window(settings), out=padded[..., first:last])
    parts = scipy.fft.rfft(padded).view(np.float32)
    np.square(parts, out=parts)
    return parts[..., ::2] + parts[..., 1::2]


def _of_power(power: np.ndarray, settings: FrontEnd) -> np.ndarray:
    if settings.mel_bands:
        power = _mel_power(power, settings)
    floor = np.float32(settings.floor)
    if settings.normalisation == "full_scale":
        values = np.log(power * (1 / floor) + np.float32(1)) * np.float32(1 / settings.log_range)
    else:
        values = np.log(power + floor)
    return values @ cosine_matrix(settings) if settings.coefficients else values


def _mel_power(power: np.ndarray, settings: FrontEnd) -> np.ndarray:
    result = np.empty((*power.shape[:-1], settings.mel_bands), dtype=np.float32)
    # Products of all frames, not one for each clip.
    frames, bands_of_frames = power.reshape(-1, power.shape[-1]), result.reshape(-1, settings.mel_bands)
    for bins, bands, weights in _mel_groups(settings):
        np.matmul(frames[:, bins], weights, out=bands_of_frames[:, bands])
    return result


@lru_cache
def _mel_groups(settings: FrontEnd) -> list[tuple[slice, slice, np.ndarray]]:
    """The mel matrix in groups of neighbouring bands, with only the bins that they reach: half as much to multiply."""
    weights = mel_matrix(settings)
    groups = []
    for bands in np.array_split(np.arange(settings.mel_bands), _MEL_GROUPS):
        reached = np.flatnonzero(weights[:, bands].any(axis=1))
        bins = slice(reached[0], reached[-1] + 1) if len(reached) else slice(0)
        columns = slice(bands[0], bands[-1] + 1)
        groups.append((bins, columns, np.ascontiguousarray(weights[bins, columns])))
    return groups


def to_float16(values: np.ndarray) -> np.ndarray:
    """Float32 of less than 65,520 in magnitude, rounded to the nearest float16, exact ties away from zero.

    In integers, several times faster than `astype`, which converts one number after the other. Magnitudes below 6.1e-5,
    for which float16 has no normal number, come out wrong by at most 3.1e-5.
    """
    bits = values.view(np.uint32)
    result = bits & np.uint32(0x7FFF_FFFF)
    np.maximum(result, np.uint32(_REBIAS - _HALF_A_PLACE), out=result)
    result -= np.uint32(_REBIAS - _HALF_A_PLACE)
    result >>= np.uint32(13)
    sign = bits >> np.uint32(16)
    sign &= np.uint32(0x8000)
    result |= sign
    return result.astype(np.uint16).view(np.float16)
