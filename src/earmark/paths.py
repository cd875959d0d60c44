"""Paths of all files that stages and commands share, relative to the root of the checkout; dvc.yaml uses the same."""

from pathlib import Path

from upath import UPath

from earmark.params import Params

DOWNLOADS = Path("downloads")
LOCAL_CACHE = DOWNLOADS / "local_cache.parquet"
FINGERPRINT = DOWNLOADS / "fingerprint.json"
RAW = Path("data/raw")
ACCEPTED = Path("data/accepted.parquet")
QUARANTINE = Path("data/quarantine")
QUARANTINED = QUARANTINE / "quarantined.csv"
FEATURES = Path("data/features")
MODELS = Path("models")
CHECKPOINTS = Path("checkpoints")
LOGS = Path("logs")
TUNING = Path("tuning")
VALIDATION = Path("reports/validation")
VALIDATION_RESULT = VALIDATION / "result.json"
HISTORIES = Path("reports/training")
METRICS = Path("reports/metrics.json")
PREDICTIONS = Path("reports/predictions.csv")
LABELS = Path("reports/labels.csv")
SLICES = Path("reports/slices.csv")
CANDIDATE_LABELS = Path("reports/labels")
CANDIDATE_SLICES = Path("reports/slices")
CALIBRATION = Path("reports/calibration")
VALIDATION_CALIBRATION = Path("reports/calibration/validation")
NOISE = Path("reports/noise")
CONFUSION = Path("reports/confusion.csv")
REPORT = Path("reports/report.html")
REGISTERED = Path("reports/registered.html")
VERDICT = Path("reports/verdict.json")


def raw_folder(params: Params) -> UPath:
    """The folder or address from which extraction reads raw shards; by default data/raw."""
    return UPath(params.extract.raw)


def features_folder(params: Params) -> UPath:
    """The folder or address for feature shards; by default data/features."""
    return UPath(params.extract.features)
