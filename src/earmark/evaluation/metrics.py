"""How good predictions are. Pure: frames with the columns `label`, `predicted` and `speaker` in, numbers out."""

from typing import Any

import numpy as np
import pandas as pd

from earmark.params import SILENCE

RESAMPLES = 2000
"""How many times the bootstrap draws speakers."""
_DRAWN_AT_ONCE = 100


def summary(predictions: pd.DataFrame, seed: int) -> dict[str, Any]:
    """Returns accuracy and macro F1 with their 95 % intervals, and the numbers of clips and speakers of one split.

    Silence is cut from noise recordings, which do not count as speakers.
    """
    return {
        "accuracy": accuracy(predictions),
        "accuracy_ci95": accuracy_interval(predictions, seed),
        "macro_f1": float(per_label(predictions)["f1"].mean()),
        "macro_f1_ci95": macro_f1_interval(predictions, seed),
        "clips": len(predictions),
        "speakers": int(predictions.loc[predictions["label"] != SILENCE, "speaker"].nunique()),
    }


def accuracy(predictions: pd.DataFrame) -> float:
    """The share of clips whose label was predicted."""
    return float((predictions["label"] == predictions["predicted"]).mean())


def accuracy_interval(predictions: pd.DataFrame, seed: int) -> list[float]:
    """The 95 % percentile interval of the accuracy, [low, high], by a bootstrap over speakers.

    Speakers are drawn because clips of one speaker are not independent (Efron and Tibshirani 1993, "An Introduction to
    the Bootstrap", section 8.3). With a single speaker the interval is [0, 1].
    """
    correct = predictions["label"] == predictions["predicted"]
    of_speaker, of_silence = by_speaker(np.column_stack([correct, np.ones(len(correct))]), predictions)
    if len(of_speaker) < 2:
        return [0.0, 1.0]
    sums = resampled(of_speaker, seed) + of_silence
    return percentiles(sums[:, 0] / sums[:, 1])


def macro_f1_interval(predictions: pd.DataFrame, seed: int) -> list[float]:
    """The same for macro F1; a label without clips in a resample is left out of that resample's mean."""
    labels = np.unique(predictions["label"].to_numpy(dtype=str))
    true = predictions["label"].to_numpy(dtype=str)[:, None] == labels
    predicted = predictions["predicted"].to_numpy(dtype=str)[:, None] == labels
    of_speaker, of_silence = by_speaker(np.hstack([true & predicted, true, predicted]), predictions)
    if len(of_speaker) < 2:
        return [0.0, 1.0]
    hits, clips, predictions_of_label = np.split(resampled(of_speaker, seed) + of_silence, 3, axis=1)
    f1 = 2 * hits / np.maximum(clips + predictions_of_label, 1)
    return percentiles(f1.sum(axis=1, where=clips > 0) / (clips > 0).sum(axis=1))


def by_speaker(counts: np.ndarray, predictions: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """Sums counts of clips, (clips, counts), over each speaker, (speakers, counts), and over silence, (counts,).

    Silence has no speaker: every resample has all of it.
    """
    is_silence = (predictions["label"] == SILENCE).to_numpy()
    counts = pd.DataFrame(counts.astype(np.float64))
    of_speaker = counts[~is_silence].groupby(predictions.loc[~is_silence, "speaker"].to_numpy()).sum()
    return of_speaker.to_numpy(), counts[is_silence].sum().to_numpy()


def resampled(of_speaker: np.ndarray, seed: int) -> np.ndarray:
    """Draws as many speakers as there are, RESAMPLES times, and sums their counts: (RESAMPLES, counts)."""
    # One product for all counts: measured faster than scipy.stats.bootstrap at any number of speakers tried.
    generator, speakers = np.random.default_rng(seed), len(of_speaker)
    sums = np.empty((RESAMPLES, of_speaker.shape[1]))
    # In blocks, so that memory does not grow with speakers times resamples.
    for at in range(0, RESAMPLES, _DRAWN_AT_ONCE):
        block = sums[at : at + _DRAWN_AT_ONCE]
        draws = generator.integers(speakers, size=(len(block), speakers))
        # Counting how often each resample has each speaker makes all sums one matrix product.
        offsets = draws + speakers * np.arange(len(block))[:, None]
        times = np.bincount(offsets.ravel(), minlength=draws.size).reshape(draws.shape)
        block[:] = times.astype(np.float64) @ of_speaker
    return sums


def percentiles(values: np.ndarray) -> list[float]:
    """The 2.5 and 97.5 percentiles of `values`."""
    return [float(bound) for bound in np.quantile(values, [0.025, 0.975])]


def per_label(predictions: pd.DataFrame) -> pd.DataFrame:
    """One row for each true label: label, precision, recall, f1, clips; a ratio with denominator 0 is 0."""
    from sklearn.metrics import precision_recall_fscore_support

    labels = sorted(predictions["label"].unique())
    precision, recall, f1, clips = precision_recall_fscore_support(
        predictions["label"], predictions["predicted"], labels=labels, zero_division=0.0
    )
    return pd.DataFrame({"label": labels, "precision": precision, "recall": recall, "f1": f1, "clips": clips})
