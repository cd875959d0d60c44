"""evaluate: every candidate, as it would be registered, on the recordings of validation and testing."""

import hashlib
import json
import math
from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from earmark.errors import UserError
from earmark.evaluation import test_set
from earmark.evaluation.candidate import Judgement, judge, worst_mistakes
from earmark.io.files import whole_file, whole_folder, write_json, write_text
from earmark.params import PATH, SILENCE, SPLITS, UNKNOWN, Params
from earmark.paths import (
    ACCEPTED,
    CALIBRATION,
    CALIBRATION_OF_VALIDATION,
    CONFUSION,
    LABELS,
    LABELS_OF_EACH,
    METRICS,
    MODELS,
    NOISE,
    PREDICTIONS,
    REPORT,
    SLICES,
    SLICES_OF_EACH,
    VALIDATION_RESULT,
)
from earmark.provenance import environment
from earmark.reporting.records import METRICS_OF_SPLIT
from earmark.versioning import dvc_lock, git


def evaluate(params: Params) -> str:
    """Writes metrics, every prediction, scores by label and slice, curves and the report; returns a sentence."""
    clips = test_set.judged_clips(params)
    reporting = test_set.reporting_split(clips)
    found = {name: judge(name, clips, params) for name in params.train.candidates}
    best = max(found, key=lambda name: found[name].entry["validation"]["accuracy"])
    report = _report(params, best, reporting, found, clips)
    _write_tables(found, best, reporting)
    _write_plots(found, reporting)
    write_text(REPORT, report)
    # Last, since it is what registration goes by.
    write_json(METRICS, {"best": best, "candidates": {name: with_bounds(each.entry) for name, each in found.items()}})
    figures = found[best].entry[METRICS_OF_SPLIT[reporting]]
    return f"{best} is best on validation; {figures['accuracy']:.2%} of {figures['clips']} {reporting} clips right"


def with_bounds(entry: Mapping) -> dict:
    """`entry` and what lies in it, each interval `<key>`, [low, high], with `<key>_low` and `<key>_high` beside it:
    `dvc metrics show` leaves lists out."""
    bounds = {
        f"{key}_{side}": bound
        for key, value in entry.items()
        if isinstance(value, list)
        for side, bound in zip(("low", "high"), value, strict=True)
    }
    return {key: with_bounds(each) if isinstance(each, Mapping) else each for key, each in entry.items()} | bounds


def _write_tables(found: Mapping[str, Judgement], best: str, reporting: str) -> None:
    for path, table in ((PREDICTIONS, "predictions"), (LABELS, "labels"), (SLICES, "slices")):
        frames = [getattr(each, table).assign(candidate=name) for name, each in found.items()]
        _write_csv(path, pd.concat(frames))
    _write_csv(CONFUSION, _of(found[best].predictions, reporting)[["label", "predicted"]])


def _write_plots(found: Mapping[str, Judgement], reporting: str) -> None:
    """A file a candidate, since DVC draws all rows of a file together: of the reporting split, and validation's
    calibration too."""
    for path, frames in {
        CALIBRATION: {name: _of(each.calibration, reporting) for name, each in found.items()},
        # Within the folder before it, which is written anew.
        CALIBRATION_OF_VALIDATION: {name: _of(each.calibration, "validation") for name, each in found.items()},
        LABELS_OF_EACH: {name: _of(each.labels, reporting) for name, each in found.items()},
        SLICES_OF_EACH: {name: _of(each.slices, reporting) for name, each in found.items()},
        NOISE: {name: _in_noise(each.entry[METRICS_OF_SPLIT[reporting]]) for name, each in found.items()},
    }.items():
        with whole_folder(path) as folder:
            for name, frame in frames.items():
                frame.to_csv(folder / f"{name}.csv", index=False)


def _in_noise(scores: Mapping) -> pd.DataFrame:
    """A row a level of noise, clean clips first: snr_db, noise_level, accuracy; none where noise was not measured.

    `noise_level`, the noise's RMS over the clip's, is 0 for clean clips, which have no place on an axis of decibels.
    """
    measured = scores.get("accuracy_in_noise", {})
    clean = [(math.inf, scores["accuracy"])] if measured else []
    rows = [*clean, *((float(key.removesuffix("_db")), accuracy) for key, accuracy in measured.items())]
    return pd.DataFrame(
        [(snr_db, 10 ** (-snr_db / 20), accuracy) for snr_db, accuracy in rows],
        columns=["snr_db", "noise_level", "accuracy"],
    )


def _of(frame: pd.DataFrame, split: str) -> pd.DataFrame:
    return frame[frame["split"] == split]


def _write_csv(path: Path, frame: pd.DataFrame) -> None:
    with whole_file(path) as temporary:
        frame.to_csv(temporary, index=False)


def _report(params: Params, best: str, reporting: str, found: Mapping[str, Judgement], clips: pd.DataFrame) -> str:
    from earmark.reporting.html.page import CandidateReport, render

    candidates = [
        CandidateReport(name, each.entry, each.history, each.predictions, each.labels, each.calibration, each.slices)
        for name, each in found.items()
    ]
    mistakes = worst_mistakes(_of(found[best].predictions, reporting), clips, found[best].front_end.stored)
    validation = _validation()
    facts = _data(params, validation)
    return render("earmark", best, reporting, candidates, mistakes, facts, validation, _origin(params))


def _validation() -> dict:
    try:
        return json.loads(VALIDATION_RESULT.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        raise UserError(f"{VALIDATION_RESULT} is missing or damaged; run 'dvc repro validate' first") from None


def _data(params: Params, validation: dict) -> dict[str, str]:
    """What the report says of the data set."""
    accepted = pd.read_parquet(ACCEPTED, columns=["id", "label", "speaker", "split"])
    unknown, silence = ", ".join(params.dataset.unknown_labels), params.dataset.silence_fraction
    return {
        "source": params.dataset.source,
        "labels": f"{accepted['label'].nunique()}{f' and {SILENCE}' if silence else ''}",
        "speakers": str(accepted["speaker"].nunique()),
        **{f"{split} clips": f"{(accepted['split'] == split).sum():,}" for split in SPLITS},
        "quarantined clips": str(validation["quarantined"]),
        "refused files": str(validation["refused_files"]),
        "split by": params.split.method,
        **({f"learnt as {UNKNOWN}": unknown} if unknown else {}),
        **({f"{SILENCE}, of the clips of a split": f"{silence:.1%}"} if silence else {}),
    }


def _origin(params: Params) -> dict[str, str]:
    """What the report says of where the figures come from: code, libraries, parameters, and DVC's hashes of what was
    read; reports that DVC knows are still the previous ones."""
    mine = {f"dvc:{(MODELS / name).as_posix()}" for name in params.train.candidates}
    hashes = {
        key: each
        for key, each in dvc_lock.dvc_hashes().items()
        if key in mine or not key.startswith(("dvc:reports/", "dvc:models/"))
    }
    files = [path for path in (environment.LOCK, PATH) if path.exists()]
    sums = {f"sha256:{path.name}": hashlib.sha256(path.read_bytes()).hexdigest() for path in files}
    return git.git_state() | {"seed": str(params.seed)} | sums | hashes
