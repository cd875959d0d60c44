"""How good predictions are. Pure: frames with the columns `label`, `predicted` and `speaker` in, numbers out."""

import numpy as np
import pandas as pd

RESAMPLES = 2000


def summary(predictions: pd.DataFrame, seed: int) -> dict:
    """accuracy with its 95 % interval, macro F1, clips and speakers of one split's predictions."""
    return {
        "accuracy": float((predictions["label"] == predictions["predicted"]).mean()),
        "accuracy_ci95": accuracy_interval(predictions, seed),
        "macro_f1": float(per_label(predictions)["f1"].mean()),
        "clips": len(predictions),
        "speakers": int(predictions["speaker"].nunique()),
    }


def accuracy_interval(predictions: pd.DataFrame, seed: int) -> list[float]:
    """95 % percentile interval of the accuracy, [low, high], by a bootstrap over speakers: clips of one speaker are not
    independent (Efron and Tibshirani 1993, "An Introduction to the Bootstrap", section 8.3)."""
    correct = predictions["label"] == predictions["predicted"]
    of_speaker = correct.groupby(predictions["speaker"]).agg(["sum", "size"]).to_numpy(dtype=np.float64)
    draws = np.random.default_rng(seed).integers(len(of_speaker), size=(RESAMPLES, len(of_speaker)))
    sums = of_speaker[draws].sum(axis=1)
    return [float(bound) for bound in np.quantile(sums[:, 0] / sums[:, 1], [0.025, 0.975])]


def per_label(predictions: pd.DataFrame) -> pd.DataFrame:
    """One row for each label that occurs: label, precision, recall, f1, clips; 0 where a ratio has no denominator."""
    from sklearn.metrics import precision_recall_fscore_support

    labels = sorted(predictions["label"].unique())
    precision, recall, f1, clips = precision_recall_fscore_support(
        predictions["label"], predictions["predicted"], labels=labels, zero_division=0.0
    )
    return pd.DataFrame({"label": labels, "precision": precision, "recall": recall, "f1": f1, "clips": clips})
