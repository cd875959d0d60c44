"""How good predictions are. Pure: frames with the columns `label`, `predicted` and `speaker` in, numbers out."""

import numpy as np
import pandas as pd

from earmark.params import SILENCE

RESAMPLES = 2000


def summary(predictions: pd.DataFrame, seed: int) -> dict:
    """accuracy and macro F1 with their 95 % intervals, clips and speakers of one split's predictions; noise, which
    silence is cut from, is no speaker here."""
    return {
        "accuracy": accuracy(predictions),
        "accuracy_ci95": accuracy_interval(predictions, seed),
        "macro_f1": float(per_label(predictions)["f1"].mean()),
        "macro_f1_ci95": macro_f1_interval(predictions, seed),
        "clips": len(predictions),
        "speakers": int(predictions.loc[predictions["label"] != SILENCE, "speaker"].nunique()),
    }


def accuracy(predictions: pd.DataFrame) -> float:
    """The share of the clips whose label was predicted."""
    return float((predictions["label"] == predictions["predicted"]).mean())


def accuracy_interval(predictions: pd.DataFrame, seed: int) -> list[float]:
    """95 % percentile interval of the accuracy, [low, high], by a bootstrap over speakers: clips of one speaker are not
    independent (Efron and Tibshirani 1993, "An Introduction to the Bootstrap", section 8.3). [0, 1] of one speaker,
    of whom nothing follows for others."""
    correct = predictions["label"] == predictions["predicted"]
    of_speaker = correct.groupby(predictions["speaker"]).agg(["sum", "size"]).to_numpy(dtype=np.float64)
    if len(of_speaker) < 2:
        return [0.0, 1.0]
    sums = resampled(of_speaker, seed)
    return percentiles(sums[:, 0] / sums[:, 1])


def macro_f1_interval(predictions: pd.DataFrame, seed: int) -> list[float]:
    """The same of the macro F1; a label of which a resample has no clip counts for nothing in it."""
    labels = np.unique(predictions["label"].to_numpy(dtype=str))
    true = predictions["label"].to_numpy(dtype=str)[:, None] == labels
    said = predictions["predicted"].to_numpy(dtype=str)[:, None] == labels
    counts = pd.DataFrame(np.hstack([true & said, true, said]).astype(np.float64))
    of_speaker = counts.groupby(predictions["speaker"].to_numpy()).sum().to_numpy()
    if len(of_speaker) < 2:
        return [0.0, 1.0]
    hits, clips, claims = np.split(resampled(of_speaker, seed), 3, axis=1)
    f1 = 2 * hits / np.maximum(clips + claims, 1)
    return percentiles(f1.sum(axis=1, where=clips > 0) / (clips > 0).sum(axis=1))


def resampled(of_speaker: np.ndarray, seed: int) -> np.ndarray:
    """Sums over as many drawn speakers as there are: (speakers, counts) to (RESAMPLES, counts)."""
    speakers = len(of_speaker)
    draws = np.random.default_rng(seed).integers(speakers, size=(RESAMPLES, speakers))
    # How often each resample has each speaker, so that the sums are one product however many counts there are.
    offsets = draws + speakers * np.arange(RESAMPLES)[:, None]
    times = np.bincount(offsets.ravel(), minlength=RESAMPLES * speakers).reshape(RESAMPLES, speakers)
    return times.astype(np.float64) @ of_speaker


def percentiles(values: np.ndarray) -> list[float]:
    """The bounds between which 95 % of `values` lie."""
    return [float(bound) for bound in np.quantile(values, [0.025, 0.975])]


def per_label(predictions: pd.DataFrame) -> pd.DataFrame:
    """One row for each label that occurs: label, precision, recall, f1, clips; 0 where a ratio has no denominator."""
    from sklearn.metrics import precision_recall_fscore_support

    labels = sorted(predictions["label"].unique())
    precision, recall, f1, clips = precision_recall_fscore_support(
        predictions["label"], predictions["predicted"], labels=labels, zero_division=0.0
    )
    return pd.DataFrame({"label": labels, "precision": precision, "recall": recall, "f1": f1, "clips": clips})
