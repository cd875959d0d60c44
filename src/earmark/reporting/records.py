"""The inputs of the report: each candidate's scores, and the worst mistakes of the best one."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd


@dataclass(frozen=True)
class CandidateScores:
    """The scores of one candidate.

    metrics: {"validation": scores, "test": scores (absent without a test split), "parameters": n, "multiply_adds": n,
        "saved_bytes": n, "latency_ms_p50": ms a clip, "latency_ms_p99": ms, "train_seconds": s,
        "train_clips_per_second": n}; scores: {"accuracy": 0 to 1, "accuracy_ci95": [low, high], "macro_f1": 0 to 1,
        "macro_f1_ci95": [low, high], "clips": n, "speakers": n, "expected_calibration_error": 0 to 1, "rejection":
        {"threshold": 0 to 1, "miss_rate": 0 to 1, "false_accept_rate": 0 to 1}} and, with background noise as long as
        a clip in its split, "accuracy_in_noise": {20: 0 to 1, ...} by SNR in dB, and in "rejection" also
        "false_accepts_per_hour": n, "false_accepts_per_hour_ci95": [low, high] and "noise_seconds": s.
    history: a row an epoch: epoch, loss, accuracy, validation_loss, validation_accuracy, seconds.
    predictions: a row a clip: id, speaker, split ("validation" or "test"), label, predicted, probability (0 to 1).
    labels: a row a split and label: split, label, precision, recall, f1 (0 to 1), clips.
    calibration: a row a split and bin of confidence that holds clips: split, low, high (the bin), confidence (mean),
        accuracy (all 0 to 1), clips.
    slices: a row a split and band: split, slice ("loudness" or "length"), band (text), clips, speakers, accuracy, low,
        high (0 to 1, its 95 % interval).
    """

    name: str
    metrics: dict[str, Any]
    history: pd.DataFrame
    predictions: pd.DataFrame
    labels: pd.DataFrame
    calibration: pd.DataFrame
    slices: pd.DataFrame


@dataclass(frozen=True)
class Mistake:
    """A clip for which another label was predicted.

    probability: of `predicted`, 0 to 1; wav: a WAV file of the clip as the model gets it; spectrogram: (frames, bands)
    float, larger is louder; seconds: the duration of all frames.
    """

    id: str
    speaker: str
    label: str
    predicted: str
    probability: float
    wav: bytes
    spectrogram: np.ndarray
    seconds: float

    @property
    def wav_base64(self) -> str:
        """The WAV file in base64, for a data: URI."""
        return base64.b64encode(self.wav).decode("ascii")
