"""evaluate: every candidate, as it would be registered, on the recordings of validation and testing."""

import json
import statistics
import time
from pathlib import Path

import numpy as np
import pandas as pd

from earmark.errors import UserError
from earmark.params import Params
from earmark.scoring import metrics
from earmark.stages.paths import (
    ACCEPTED,
    CONFUSION,
    HISTORIES,
    LABELS,
    METRICS,
    MODELS,
    PREDICTIONS,
    RAW,
    REPORT,
    VALIDATION_RESULT,
)
from earmark.stores import provenance, shards
from earmark.stores.files import whole_file, write_json, write_text

LATENCY_CALLS = 30


def evaluate(params: Params) -> str:
    """Writes metrics, every prediction, per-label scores and the report; returns a sentence."""
    clips = shards.read_accepted(ACCEPTED)
    clips = clips[clips["split"] != "training"].reset_index(drop=True)
    reporting = reporting_split(clips)
    scored = {name: _score(name, clips, params.seed) for name in params.train.candidates}
    entries = {name: entry for name, (entry, _) in scored.items()}
    best = max(entries, key=lambda name: entries[name]["validation"]["accuracy"])
    predictions = pd.concat(frame.assign(candidate=name) for name, (_, frame) in scored.items())
    labels = pd.concat(
        metrics.per_label(_of(frame, reporting)).assign(candidate=name) for name, (_, frame) in scored.items()
    )
    _write_csv(PREDICTIONS, predictions)
    _write_csv(LABELS, labels)
    _write_csv(CONFUSION, _of(scored[best][1], reporting)[["label", "predicted"]])
    write_json(METRICS, {"best": best, "candidates": entries})
    write_text(REPORT, _report(params, best, reporting, entries, predictions, labels))
    figures = entries[best]["test" if reporting == "testing" else "validation"]
    return f"{best} is best on validation; {figures['accuracy']:.2%} of {figures['clips']} {reporting} clips right"


def reporting_split(clips: pd.DataFrame) -> str:
    """The split that figures are of: testing, or validation where there is no test split."""
    return "testing" if (clips["split"] == "testing").any() else "validation"


def predict_clips(folder: Path, clips: pd.DataFrame) -> pd.DataFrame:
    """id, speaker, split, label of `clips`, and what the model in `folder` says: predicted, probability."""
    from earmark.learning import export, inference

    classifier = export.load(folder)
    found = inference.probabilities(classifier, shards.read_recordings(RAW, clips))
    return clips[["id", "speaker", "split", "label"]].assign(
        predicted=np.array(classifier.labels, dtype=object)[found.argmax(axis=1)], probability=found.max(axis=1)
    )


def _score(name: str, clips: pd.DataFrame, seed: int) -> tuple[dict, pd.DataFrame]:
    from earmark.learning import export

    predictions = predict_clips(MODELS / name, clips)
    classifier = export.load(MODELS / name)
    entry = {"validation": metrics.summary(_of(predictions, "validation"), seed)}
    if reporting_split(clips) == "testing":
        entry["test"] = metrics.summary(_of(predictions, "testing"), seed)
    return entry | {
        "content_sha256": provenance.content_sha256(MODELS / name),
        "parameters": classifier.parameters,
        "saved_bytes": (MODELS / name / export.MODEL).stat().st_size,
        "latency_ms_p50": _latency_ms(classifier),
        "train_seconds": float(_history(name)["seconds"].sum()),
    }, predictions


def _of(predictions: pd.DataFrame, split: str) -> pd.DataFrame:
    return predictions[predictions["split"] == split]


def _latency_ms(classifier) -> float:
    """Median milliseconds for one clip, from waveform to probabilities, on this machine."""
    waveform = np.zeros((1, classifier.front_end.clip_samples), dtype=np.float32)
    durations = []
    for _ in range(LATENCY_CALLS):
        started = time.perf_counter()
        classifier.model.predict_on_batch(waveform)
        durations.append(1000 * (time.perf_counter() - started))
    return statistics.median(durations)


def _history(name: str) -> pd.DataFrame:
    try:
        return pd.read_csv(HISTORIES / f"{name}.csv")
    except FileNotFoundError:
        raise UserError(f"{HISTORIES / name}.csv is missing; run 'dvc repro train@{name}' first") from None


def _write_csv(path: Path, frame: pd.DataFrame) -> None:
    with whole_file(path) as temporary:
        frame.to_csv(temporary, index=False)


def _report(
    params: Params, best: str, reporting: str, entries: dict, predictions: pd.DataFrame, labels: pd.DataFrame
) -> str:
    from earmark.report.page import CandidateReport, render

    def mine(frame: pd.DataFrame, name: str) -> pd.DataFrame:
        return frame[frame["candidate"] == name].drop(columns="candidate")

    candidates = [
        CandidateReport(name, entry, _history(name), mine(predictions, name), mine(labels, name))
        for name, entry in entries.items()
    ]
    validation = json.loads(VALIDATION_RESULT.read_text(encoding="utf-8"))
    accepted = pd.read_parquet(ACCEPTED, columns=["id", "label", "speaker", "split"])
    data = {
        "source": params.dataset.source,
        "labels": str(accepted["label"].nunique()),
        "speakers": str(accepted["speaker"].nunique()),
        **{f"{split} clips": f"{count:,}" for split, count in accepted["split"].value_counts().items()},
        "quarantined clips": str(validation["quarantined"]),
        "refused files": str(validation["refused_files"]),
        "split by": params.split.method,
    }
    origin = provenance.git_state() | provenance.dvc_hashes()
    return render("earmark", best, reporting, candidates, data, validation["quarantine"], origin)
