"""How good one candidate is, as it would be registered, by all that models are judged by."""

import io
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from earmark.errors import UserError
from earmark.evaluation import calibration, metrics, rejection, slices, test_set
from earmark.features import numpy_backend
from earmark.features.front_ends import FrontEnd
from earmark.io import hashing
from earmark.models import detector
from earmark.params import NOT_WORDS, Params
from earmark.paths import HISTORIES, MODELS
from earmark.reporting.records import METRICS_OF_SPLIT, Mistake

if TYPE_CHECKING:
    from earmark.models.model_folder import Classifier

MISTAKES = 12
"""How many of the worst can be listened to in the report."""


@dataclass(frozen=True)
class Judgement:
    """`entry` is the candidate's in reports/metrics.json, but for the bounds of intervals by name. The frames have a
    column `split`, "validation" or "testing": a row of `predictions` is a clip, of `labels` a label, of `calibration` a
    bin of the probability, of `slices` a band of loudness or length."""

    entry: dict
    front_end: FrontEnd
    history: pd.DataFrame
    predictions: pd.DataFrame
    labels: pd.DataFrame
    calibration: pd.DataFrame
    slices: pd.DataFrame


def judge(name: str, clips: pd.DataFrame, params: Params) -> Judgement:
    """Scores the candidate `name` on judged clips, clean and in noise, and measures what it costs."""
    from earmark.models import model_folder

    classifier = model_folder.load(MODELS / name)
    history = _history(name)
    predictions = test_set.predict_clips(classifier, clips, test_set.SNR_DB)
    splits = dict(list(predictions.groupby("split", sort=False)))
    reliability = {split: calibration.reliability(frame) for split, frame in splits.items()}
    scores = {
        METRICS_OF_SPLIT[split]: metrics.summary(frame, params.seed)
        | {"expected_calibration_error": calibration.expected_calibration_error(reliability[split])}
        | _in_noise(frame)
        | {"rejection": _rejection(classifier, split, frame)}
        for split, frame in splits.items()
    }
    facts, seconds = clips[["rms", "seconds"]], params.dataset.clip_seconds
    by_slice = {name: slices.by_slice(frame.join(facts), seconds, params.seed) for name, frame in splits.items()}
    return Judgement(
        scores | _costs(name, classifier, history, test_set.training_clips(params)),
        classifier.front_end,
        history,
        predictions,
        _by_split({split: metrics.per_label(frame) for split, frame in splits.items()}),
        _by_split(reliability),
        _by_split(by_slice),
    )


def _costs(name: str, classifier: "Classifier", history: pd.DataFrame, clips_of_epoch: int) -> dict:
    from earmark.models import cost, model_folder

    latency, seconds = cost.latency(classifier), float(history["seconds"].sum())
    return {
        "content_sha256": hashing.content_sha256(MODELS / name),
        "parameters": classifier.parameters,
        "multiply_adds": cost.multiply_adds(classifier.model),
        "saved_bytes": (MODELS / name / model_folder.MODEL).stat().st_size,
        "latency_ms_p50": latency.p50_ms,
        "latency_ms_p99": latency.p99_ms,
        "train_seconds": seconds,
        "train_clips_per_second": clips_of_epoch * len(history) / seconds,
    }


def worst_mistakes(predictions: pd.DataFrame, clips: pd.DataFrame, front_end: FrontEnd) -> list[Mistake]:
    """The wrong ones of a candidate's `predictions` that it was surest of, with what it heard; `front_end` is what
    shards hold for its own."""
    wrong = predictions[predictions["label"] != predictions["predicted"]]
    worst = wrong.sort_values(["probability", "id"], ascending=[False, True]).head(MISTAKES)
    heard = test_set.waveforms(clips.loc[worst.index], front_end, MISTAKES)
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
        for block in heard
        for row, waveform in zip(worst.itertuples(), block, strict=True)
    ]


def _in_noise(predictions: pd.DataFrame) -> dict:
    columns = {snr: f"predicted_at_{snr}_db" for snr in test_set.SNR_DB}
    found = {
        f"{snr}_db": metrics.accuracy(predictions.assign(predicted=predictions[column]))
        for snr, column in columns.items()
        # One split may have noise as long as a clip where another has none.
        if column in predictions and predictions[column].notna().all()
    }
    return {"accuracy_in_noise": found} if found else {}


def _rejection(classifier: "Classifier", split: str, predictions: pd.DataFrame) -> dict:
    threshold = classifier.rejection_threshold
    said, probability, truth = (predictions[each].to_numpy() for each in ("predicted", "probability", "label"))
    rates = rejection.rates(rejection.answers(said, probability, truth, NOT_WORDS, whole=True), threshold)
    return {"threshold": threshold} | rates | _false_accepts_per_hour(classifier, split)


def _false_accepts_per_hour(classifier: "Classifier", split: str) -> dict:
    """How often `earmark listen` would hear a word where there is background noise only."""
    rate, threshold = classifier.front_end.sample_rate_hz, classifier.rejection_threshold
    noise = [each for each in test_set.noise_of(split, rate) if len(each) >= classifier.front_end.clip_samples]
    if not noise:
        return {}
    heard = sum(1 for recording in noise for _ in detector.detections(classifier, [recording], threshold))
    seconds = sum(map(len, noise)) / rate
    return {
        "false_accepts_per_hour": 3600 * heard / seconds,
        "false_accepts_per_hour_ci95": [3600 / seconds * bound for bound in rejection.poisson_interval(heard)],
        "noise_seconds": seconds,
    }


def _by_split(frames: dict[str, pd.DataFrame]) -> pd.DataFrame:
    return pd.concat([frame.assign(split=split) for split, frame in frames.items()], ignore_index=True)


def _history(name: str) -> pd.DataFrame:
    try:
        return pd.read_csv(HISTORIES / f"{name}.csv")
    except FileNotFoundError:
        raise UserError(f"{HISTORIES / name}.csv is missing; run 'dvc repro train@{name}' first") from None


def _wav(waveform: np.ndarray, sample_rate_hz: int) -> bytes:
    import soundfile

    buffer = io.BytesIO()
    soundfile.write(buffer, np.clip(waveform, -1.0, 1.0), sample_rate_hz, subtype="PCM_16", format="WAV")
    return buffer.getvalue()
