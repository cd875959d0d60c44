"""How good one candidate is, evaluated as the model that would be registered, and what it costs."""

import io
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from earmark.errors import UserError
from earmark.evaluation import calibration, metrics, noise, rejection, slices
from earmark.evaluation.test_set import TestSet
from earmark.features import numpy_backend
from earmark.features.front_ends import FrontEnd
from earmark.io.hashing import content_sha256
from earmark.models import detector
from earmark.params import NOT_WORDS, Params
from earmark.paths import MODELS, history_of
from earmark.reporting.records import CandidateScores, Mistake

if TYPE_CHECKING:
    from earmark.models.model_folder import Classifier

MISTAKES = 12
"""How many of the worst mistakes the report plays."""


@dataclass(frozen=True)
class TrainedCandidate:
    """What `train` made of a candidate: the loaded model, one history row an epoch, checksum and size of its files."""

    name: str
    classifier: "Classifier"
    history: pd.DataFrame
    content_sha256: str
    saved_bytes: int


def read(name: str) -> TrainedCandidate:
    """Reads models/`name` and its history.

    Raises:
        UserError: one of them is missing or damaged.
    """
    from earmark.models import model_folder

    folder, history = MODELS / name, history_of(name)
    classifier = model_folder.load(folder)
    try:
        rows = pd.read_csv(history, dtype={"seconds": "float64"})
    except (FileNotFoundError, ValueError):
        rows = pd.DataFrame()
    if rows.empty or "seconds" not in rows:
        raise UserError(f"{history} is missing or damaged; run 'dvc repro train@{name}' first")
    saved_bytes = (folder / model_folder.MODEL).stat().st_size
    return TrainedCandidate(name, classifier, rows, content_sha256(folder), saved_bytes)


def score(candidate: TrainedCandidate, test_set: TestSet, clips_per_epoch: int, params: Params) -> CandidateScores:
    """Scores a candidate on every clip of the test set, clean and in noise, and measures what it costs."""
    predictions = test_set.predictions(candidate.classifier, noise.SNR_DB)
    by_split = dict(list(predictions.groupby("split", sort=False)))
    reliability = {split: calibration.reliability(frame) for split, frame in by_split.items()}
    scores = {
        split: metrics.summary(frame, params.seed)
        | {"expected_calibration_error": calibration.expected_calibration_error(reliability[split])}
        | _in_noise(frame)
        | {"rejection": _rejection(candidate.classifier, frame, test_set)}
        for split, frame in by_split.items()
    }
    recorded = predictions.merge(test_set.clips[["id", "rms", "seconds"]], on="id")
    return CandidateScores(
        candidate.name,
        scores | _costs(candidate, clips_per_epoch),
        candidate.history,
        predictions,
        _joined({split: metrics.per_label(frame) for split, frame in by_split.items()}),
        _joined(reliability),
        _joined(
            {
                split: slices.by_slice(recorded[recorded["split"] == split], params.dataset.clip_seconds, params.seed)
                for split in by_split
            }
        ),
    )


def _costs(candidate: TrainedCandidate, clips_per_epoch: int) -> dict[str, Any]:
    from earmark.models import cost

    latency, seconds = cost.latency(candidate.classifier), float(candidate.history["seconds"].sum())
    return {
        "content_sha256": candidate.content_sha256,
        "parameters": candidate.classifier.parameters,
        "multiply_adds": cost.multiply_adds(candidate.classifier.model),
        "saved_bytes": candidate.saved_bytes,
        "latency_ms_p50": latency.p50_ms,
        "latency_ms_p99": latency.p99_ms,
        "train_seconds": seconds,
        "train_clips_per_second": clips_per_epoch * len(candidate.history) / seconds,
    }


def worst_mistakes(predictions: pd.DataFrame, test_set: TestSet, front_end: FrontEnd) -> list[Mistake]:
    """The MISTAKES wrong predictions with the highest probability, each with its clip as a model with this front end
    gets it."""
    wrong = predictions[predictions["label"] != predictions["predicted"]]
    worst = wrong.sort_values(["probability", "id"], ascending=[False, True]).head(MISTAKES)
    return [
        Mistake(
            row.id,
            row.speaker,
            row.label,
            row.predicted,
            row.probability,
            _wav(waveform, front_end.sample_rate_hz),
            numpy_backend.features(waveform[None], (front_end,))[0][0],
            len(waveform) / front_end.sample_rate_hz,
        )
        for row, waveform in zip(worst.itertuples(), test_set.waveforms(worst["id"], front_end), strict=True)
    ]


def _in_noise(predictions: pd.DataFrame) -> dict[str, dict[int, float]]:
    """Accuracy at each signal-to-noise ratio in decibels; empty if the split has no noise as long as a clip."""
    accuracies = {
        snr: metrics.accuracy(predictions.assign(predicted=predictions[noise.column(snr)]))
        for snr in noise.SNR_DB
        if noise.column(snr) in predictions and predictions[noise.column(snr)].notna().all()
    }
    return {"accuracy_in_noise": accuracies} if accuracies else {}


def _rejection(classifier: "Classifier", predictions: pd.DataFrame, test_set: TestSet) -> dict[str, Any]:
    threshold = classifier.rejection_threshold
    predicted, probability, truth = (predictions[name].to_numpy() for name in ("predicted", "probability", "label"))
    rates = rejection.rates(rejection.answers(predicted, probability, truth, NOT_WORDS, whole=True), threshold)
    recordings = test_set.noise(predictions["split"].iloc[0], classifier.front_end.sample_rate_hz)
    return {"threshold": threshold} | rates | _false_accepts_per_hour(classifier, recordings)


def _false_accepts_per_hour(classifier: "Classifier", noise_recordings: list[np.ndarray]) -> dict[str, Any]:
    """How often `earmark listen` would report a word in background noise alone."""
    recordings = [samples for samples in noise_recordings if len(samples) >= classifier.front_end.clip_samples]
    if not recordings:
        return {}
    threshold = classifier.rejection_threshold
    count = sum(1 for samples in recordings for _ in detector.detections(classifier, [samples], threshold))
    seconds = sum(map(len, recordings)) / classifier.front_end.sample_rate_hz
    return {
        "false_accepts_per_hour": 3600 * count / seconds,
        "false_accepts_per_hour_ci95": [3600 / seconds * bound for bound in rejection.poisson_interval(count)],
        "noise_seconds": seconds,
    }


def _joined(frames: dict[str, pd.DataFrame]) -> pd.DataFrame:
    return pd.concat([frame.assign(split=split) for split, frame in frames.items()], ignore_index=True)


def _wav(waveform: np.ndarray, sample_rate_hz: int) -> bytes:
    import soundfile

    buffer = io.BytesIO()
    soundfile.write(buffer, np.clip(waveform, -1.0, 1.0), sample_rate_hz, subtype="PCM_16", format="WAV")
    return buffer.getvalue()
