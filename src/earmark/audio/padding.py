"""How a recording becomes a clip of fixed length: the middle of a long one; a short one is padded on both sides."""

from typing import TYPE_CHECKING, TypeVar

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:  # a served model carries this module, but not the parameters
    from earmark.params import Padding

Scalar = TypeVar("Scalar", bound=np.generic)


def first_kept(samples: npt.NDArray[np.int64], length: int) -> npt.NDArray[np.int64]:
    """Index of the sample at which a clip of `length` starts, for recordings with these numbers of `samples`.

    Negative for a short recording: the clip starts with padding.
    """
    return np.where(samples >= length, (samples - length) // 2, -((length - samples) // 2))


def positions(samples: npt.NDArray[np.int64], length: int, padding: "Padding") -> npt.NDArray[np.int64]:
    """For each sample of a clip, its index in the recording: int64 (recordings, length); -1 for silence.

    Args:
        samples: how many samples each recording has, int64 (recordings,).
        length: samples in a clip.
        padding: "repeat" continues with the other end of the recording and "reflect" turns at each end without
            repeating the last sample, as NumPy's padding modes "wrap" and "reflect" do. A recording without samples
            becomes silence.
    """
    count = np.asarray(samples)[:, None]
    index = first_kept(count, length) + np.arange(length)
    outside = (index < 0) | (index >= count)
    if padding == "repeat":
        padded = index % np.maximum(count, 1)
    elif padding == "reflect":
        turn = np.maximum(count - 1, 1)
        padded = np.minimum(turn - np.abs(index % (2 * turn) - turn), np.maximum(count - 1, 0))
    else:
        return np.where(outside, -1, index)
    return np.where(count > 0, padded, -1)


def fit(samples: npt.NDArray[Scalar], length: int, padding: "Padding") -> npt.NDArray[Scalar]:
    """Cut or pad one recording, (samples,), to one clip, (length,)."""
    if len(samples) >= length:
        first = (len(samples) - length) // 2
        return samples[first : first + length]
    index = positions(np.array([len(samples)]), length, padding)[0]
    clip: npt.NDArray[Scalar] = np.append(samples, samples.dtype.type(0))[index]  # index -1 is silence
    return clip
