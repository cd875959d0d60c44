"""Whether probabilities mean what they say. Pure."""

import numpy as np
import pandas as pd

BINS = 15


def reliability(predictions: pd.DataFrame) -> pd.DataFrame:
    """One row for each of BINS equal bins of the probability that holds clips: low, high, confidence (mean
    probability), accuracy, clips (Guo et al. 2017, "On Calibration of Modern Neural Networks", section 2).

    `predictions` has the columns label, predicted and probability.
    """
    correct = predictions["label"] == predictions["predicted"]
    bins = np.clip(np.ceil(predictions["probability"] * BINS).astype(int) - 1, 0, BINS - 1)
    frame = pd.DataFrame({"confidence": predictions["probability"], "accuracy": correct.astype(float)})
    found = frame.groupby(bins.to_numpy()).agg(
        confidence=("confidence", "mean"), accuracy=("accuracy", "mean"), clips=("accuracy", "size")
    )
    at = found.index.to_numpy()
    found.insert(0, "low", at / BINS)
    found.insert(1, "high", (at + 1) / BINS)
    return found.reset_index(drop=True)


def expected_calibration_error(reliability: pd.DataFrame) -> float:
    """Mean distance of confidence from accuracy over the bins, each weighted with its clips, from 0 to 1 (same paper,
    equation 3)."""
    distance = (reliability["confidence"] - reliability["accuracy"]).abs()
    return float(np.average(distance, weights=reliability["clips"]))
