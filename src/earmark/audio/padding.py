"""How a recording becomes a clip: a long one keeps its middle, a short one is padded on both sides."""

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:  # a served model carries this module, and not the parameters
    from earmark.params import Padding


def first_kept(samples: np.ndarray, length: int) -> np.ndarray:
    """Where a clip of `length` begins in recordings of so many `samples`; below 0 for what comes before a short one."""
    return np.where(samples >= length, (samples - length) // 2, -((length - samples) // 2))


def positions(samples: np.ndarray, length: int, padding: "Padding") -> np.ndarray:
    """The sample of its recording that each sample of a clip is, int64 (recordings, length); -1 for silence.

    `samples` says how many each recording has, int64 (recordings,). `repeat` goes on with the recording's other end,
    `reflect` turns round at each end without saying its last sample twice, as NumPy's padding modes "wrap" and
    "reflect" do. Of no samples at all comes silence.
    """
    count = np.asarray(samples)[:, None]
    wanted = first_kept(count, length) + np.arange(length)
    outside = (wanted < 0) | (wanted >= count)
    if padding == "repeat":
        found = wanted % np.maximum(count, 1)
    elif padding == "reflect":
        turn = np.maximum(count - 1, 1)
        found = np.minimum(turn - np.abs(wanted % (2 * turn) - turn), np.maximum(count - 1, 0))
    else:
        return np.where(outside, -1, wanted)
    return np.where(count > 0, found, -1)


def fit(samples: np.ndarray, length: int, padding: "Padding") -> np.ndarray:
    """One recording, (samples,), as one clip, (length,)."""
    if len(samples) >= length:
        first = (len(samples) - length) // 2
        return samples[first : first + length]
    found = positions(np.array([len(samples)]), length, padding)[0]
    return np.append(samples, samples.dtype.type(0))[found]
