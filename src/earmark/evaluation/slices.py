"""Accuracy by loudness and by length of the recordings. Pure."""

import numpy as np
import pandas as pd

from earmark.evaluation import metrics

LOUDNESS_DBFS = (-40.0, -30.0, -20.0)
"""The bounds between bands of loudness."""
CLIP_SHARES = (0.5, 1.0)
"""The bounds between bands of length, as shares of a clip."""
_LOUDNESS = ("below -40 dBFS", "-40 to -30 dBFS", "-30 to -20 dBFS", "above -20 dBFS")
_LENGTHS = ("below half a clip", "half to a whole", "a whole or longer")


def by_slice(predictions: pd.DataFrame, clip_seconds: float, seed: int) -> pd.DataFrame:
    """Returns one row for each band that holds clips: slice, band, clips, speakers, accuracy, low, high (its 95 %
    interval).

    `predictions` has the columns label, predicted, speaker, rms (1 is full scale) and seconds. Clips of silence have
    no rms and are in no band.
    """
    recorded = predictions[predictions["rms"].notna()]
    dbfs = 20 * np.log10(np.maximum(recorded["rms"], 1e-6))
    bands = {
        "loudness": (_LOUDNESS, np.searchsorted(LOUDNESS_DBFS, dbfs, side="right")),
        "length": (_LENGTHS, np.searchsorted(CLIP_SHARES, recorded["seconds"] / clip_seconds, side="right")),
    }
    rows = [
        _row(name, band, recorded[which == at], seed)
        for name, (names, which) in bands.items()
        for at, band in enumerate(names)
        if (which == at).any()
    ]
    return pd.DataFrame(rows, columns=["slice", "band", "clips", "speakers", "accuracy", "low", "high"])


def _row(name: str, band: str, clips: pd.DataFrame, seed: int) -> tuple[object, ...]:
    interval = metrics.accuracy_interval(clips, seed)
    return name, band, len(clips), clips["speaker"].nunique(), metrics.accuracy(clips), *interval
