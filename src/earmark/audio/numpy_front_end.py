"""The front ends in NumPy and SciPy, for blocks of clips: what feature shards are made with."""

import numpy as np
import scipy.fft

from earmark.audio.front_ends import FrontEnd, cosine_matrix, mel_matrix, window

_HALF_A_PLACE = 1 << 12  # of the last of the 10 bits that float16 keeps of 23
_REBIAS = (127 - 15) << 23  # exponents are counted from 127 in float32, from 15 in float16


def features(waveforms: np.ndarray, front_ends: tuple[FrontEnd, ...]) -> list[np.ndarray]:
    """Each front end of a block of clips, float32 (clips, frames, bins); `waveforms` are float32 (clips, samples).

    The front ends must share their frames, whose power is computed once. Blocks of some eight clips are fastest: what
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
        power = _linear(power, mel_matrix(settings))
    floor = np.float32(settings.floor)
    if settings.normalisation == "full_scale":
        values = np.log(power * (1 / floor) + np.float32(1)) * np.float32(1 / settings.log_range)
    else:
        values = np.log(power + floor)
    return _linear(values, cosine_matrix(settings)) if settings.coefficients else values


def _linear(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    # One matrix product of all frames, not one for each clip.
    return (values.reshape(-1, len(weights)) @ weights).reshape(*values.shape[:-1], -1)


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
