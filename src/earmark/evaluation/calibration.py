"""How well a model's probabilities match its accuracy. Pure."""

import numpy as np
import pandas as pd

BINS = 15
"""Number of equal bins of probability."""


def reliability(predictions: pd.DataFrame) -> pd.DataFrame:
    """Computes the reliability curve (Guo et al. 2017, "On Calibration of Modern Neural Networks", section 2).

    `predictions` has the columns label, predicted and probability. The result has one row for each bin that holds
    clips: low, high (the bin), confidence (mean probability), accuracy, clips.
    """
    correct = predictions["label"] == predictions["predicted"]
    bins = np.clip(np.ceil(predictions["probability"] * BINS).astype(int) - 1, 0, BINS - 1)
    frame = pd.DataFrame({"confidence": predictions["probability"], "accuracy": correct.astype(float)})
    curve = frame.groupby(bins.to_numpy()).agg(
        confidence=("confidence", "mean"), accuracy=("accuracy", "mean"), clips=("accuracy", "size")
    )
    at = curve.index.to_numpy()
    curve.insert(0, "low", at / BINS)
    curve.insert(1, "high", (at + 1) / BINS)
    return curve.reset_index(drop=True)


def expected_calibration_error(reliability: pd.DataFrame) -> float:
    """The mean distance of confidence from accuracy, 0 to 1, over bins weighted by their clips (same paper, equation
    3)."""
    distance = (reliability["confidence"] - reliability["accuracy"]).abs()
    return float(np.average(distance, weights=reliability["clips"]))
