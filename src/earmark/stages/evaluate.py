"""evaluate: scores every candidate, as it would be registered, on the clips of validation and test."""

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from earmark.dataset import shards
from earmark.errors import UserError
from earmark.evaluation import candidate, noise, test_set
from earmark.evaluation.candidate import TrainedCandidate
from earmark.evaluation.test_set import TestSet
from earmark.io.files import whole_file, whole_folder, write_json, write_text
from earmark.params import PATH, SILENCE, SPLITS, UNKNOWN, Params
from earmark.paths import (
    ACCEPTED,
    CALIBRATION,
    CANDIDATE_LABELS,
    CANDIDATE_SLICES,
    CONFUSION,
    LABELS,
    METRICS,
    MODELS,
    NOISE,
    PREDICTIONS,
    REPORT,
    REPORTS,
    SLICES,
    VALIDATION_CALIBRATION,
    VALIDATION_RESULT,
)
from earmark.provenance import environment
from earmark.reporting import formats
from earmark.reporting.records import CandidateScores
from earmark.versioning import dvc_lock, git


def evaluate(params: Params) -> str:
    """Writes metrics, every prediction, scores by label and slice, curves and the report; returns one sentence."""
    validation = _validation_result()
    clips = test_set.read(params)
    clips_per_epoch = _clips_per_epoch(params)
    trained = [candidate.read(name) for name in params.train.candidates]
    scores = [candidate.score(model, clips, clips_per_epoch, params) for model in trained]
    best = max(range(len(scores)), key=lambda at: scores[at].metrics["validation"]["accuracy"])
    split = clips.reporting_split
    report = _report(params, trained[best], scores, clips, validation)
    _write_tables(scores, scores[best], split)
    _write_plots(scores, split)
    write_text(REPORT, report)
    # Last, because `register` takes it as the sign that all is written.
    by_name = {scored.name: for_json(scored.metrics) for scored in scores}
    write_json(METRICS, {"best": scores[best].name, "candidates": by_name})
    figures = scores[best].metrics[split]
    return (
        f"{scores[best].name} is best on validation;"
        f" {formats.percent(figures['accuracy'], 2)} of {figures['clips']} {split} clips right"
    )


def for_json(metrics: Mapping[str, Any]) -> dict[str, Any]:
    """Returns a candidate's metrics in the form of reports/metrics.json.

    Signal-to-noise ratios become `<n>_db`. Beside each interval `<key>`, [low, high], stand `<key>_low` and
    `<key>_high`, because `dvc metrics show` leaves lists out.
    """
    bounds = {
        f"{key}_{side}": bound
        for key, value in metrics.items()
        if isinstance(value, list)
        for side, bound in zip(("low", "high"), value, strict=True)
    }
    named = {noise.key(key) if isinstance(key, int) else key: value for key, value in metrics.items()}
    return {key: for_json(value) if isinstance(value, Mapping) else value for key, value in named.items()} | bounds


def _clips_per_epoch(params: Params) -> int:
    clips = int((shards.read_accepted(ACCEPTED)["split"] == "training").sum())
    return clips + round(params.dataset.silence_fraction * clips)


def _write_tables(scores: Sequence[CandidateScores], best: CandidateScores, split: str) -> None:
    for path, table in ((PREDICTIONS, "predictions"), (LABELS, "labels"), (SLICES, "slices")):
        _write_csv(path, pd.concat([getattr(scored, table).assign(candidate=scored.name) for scored in scores]))
    _write_csv(CONFUSION, _of(best.predictions, split)[["label", "predicted"]])


def _write_plots(scores: Sequence[CandidateScores], split: str) -> None:
    """Writes one file a candidate, because DVC draws all rows of a file as one plot.

    The files are of the reporting split; calibration is written for validation too.
    """
    for path, frames in {
        CALIBRATION: {scored.name: _of(scored.calibration, split) for scored in scores},
        # Inside the folder before it, which is written anew.
        VALIDATION_CALIBRATION: {scored.name: _of(scored.calibration, "validation") for scored in scores},
        CANDIDATE_LABELS: {scored.name: _of(scored.labels, split) for scored in scores},
        CANDIDATE_SLICES: {scored.name: _of(scored.slices, split) for scored in scores},
        NOISE: {scored.name: _noise_curve(scored.metrics[split]) for scored in scores},
    }.items():
        with whole_folder(path) as folder:
            for name, frame in frames.items():
                frame.to_csv(folder / f"{name}.csv", index=False)


def _noise_curve(scores: Mapping[str, Any]) -> pd.DataFrame:
    """Returns one row for each noise level, clean clips first: snr_db, noise_level, accuracy.

    Without a measurement in noise there are no rows.
    `noise_level` is the RMS of the noise over that of the clip: 0 for clean clips, whose SNR is infinite.
    """
    in_noise = scores.get("accuracy_in_noise", {})
    clean = [(math.inf, scores["accuracy"])] if in_noise else []
    rows = [*clean, *((float(snr_db), accuracy) for snr_db, accuracy in in_noise.items())]
    return pd.DataFrame(
        [(snr_db, 10 ** (-snr_db / 20), accuracy) for snr_db, accuracy in rows],
        columns=["snr_db", "noise_level", "accuracy"],
    )


def _of(frame: pd.DataFrame, split: str) -> pd.DataFrame:
    return frame[frame["split"] == split]


def _write_csv(path: Path, frame: pd.DataFrame) -> None:
    with whole_file(path) as temporary:
        frame.to_csv(temporary, index=False)


def _report(
    params: Params,
    best: TrainedCandidate,
    scores: Sequence[CandidateScores],
    clips: TestSet,
    validation: Mapping[str, Any],
) -> str:
    from earmark.reporting.html.page import render

    split = clips.reporting_split
    predictions = next(scored.predictions for scored in scores if scored.name == best.name)
    mistakes = candidate.worst_mistakes(_of(predictions, split), clips, best.classifier.front_end.stored)
    facts = _data_set_facts(params, validation)
    return render("earmark", best.name, split, scores, mistakes, facts, validation, _provenance_facts(params))


def _validation_result() -> dict[str, Any]:
    try:
        result: dict[str, Any] = json.loads(VALIDATION_RESULT.read_text(encoding="utf-8"))
        result["quarantined"], result["refused_files"], result["rules"], result["sentence"]
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        raise UserError(f"{VALIDATION_RESULT} is missing or damaged; run 'dvc repro validate' first") from None
    return result


def _data_set_facts(params: Params, validation: Mapping[str, Any]) -> dict[str, str]:
    """What the report says about the data set."""
    accepted = pd.read_parquet(ACCEPTED, columns=["id", "label", "speaker", "split"])
    unknown, silence = ", ".join(params.dataset.unknown_labels), params.dataset.silence_fraction
    return {
        "source": params.dataset.source,
        "labels": f"{accepted['label'].nunique()}{f' and {SILENCE}' if silence else ''}",
        "speakers": str(accepted["speaker"].nunique()),
        **{f"{split} clips": formats.count((accepted["split"] == split).sum()) for split in SPLITS},
        "quarantined clips": str(validation["quarantined"]),
        "refused files": str(validation["refused_files"]),
        "split by": params.split.method,
        **({f"trained on as {UNKNOWN}": unknown} if unknown else {}),
        **({f"{SILENCE}, as a share of a split's clips": formats.percent(silence)} if silence else {}),
    }


def _provenance_facts(params: Params) -> dict[str, str]:
    """What the report says about its provenance: code, libraries, parameters, and DVC's hashes of the inputs.

    Hashes of reports are left out, because dvc.lock still has those of the previous run.
    """
    models = {MODELS / name for name in params.train.candidates}
    hashes = {
        f"dvc:{path}": md5
        for path, md5 in dvc_lock.output_hashes().items()
        if Path(path) in models or not {REPORTS, MODELS} & {*Path(path).parents}
    }
    files = [path for path in (environment.LOCK, PATH) if path.exists()]
    checksums = {f"sha256:{path.name}": hashlib.sha256(path.read_bytes()).hexdigest() for path in files}
    return git.git_state() | {"seed": str(params.seed)} | checksums | hashes
