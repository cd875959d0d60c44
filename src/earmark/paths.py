"""Paths of all files that stages and commands share, relative to the root of the checkout; dvc.yaml uses the same."""

from pathlib import Path

from upath import UPath

from earmark.params import Params

DVC_LOCK = Path("dvc.lock")
DVC_SETTINGS = Path(".dvc")
MLFLOW_DATABASE = Path("mlflow.db")
"""Holds runs and registry unless MLFLOW_TRACKING_URI names a server."""
DOWNLOADS = Path("downloads")
LOCAL_CACHE = DOWNLOADS / "local_cache.parquet"
FINGERPRINT = DOWNLOADS / "fingerprint.json"
DATA = Path("data")
RAW = DATA / "raw"
ACCEPTED = DATA / "accepted.parquet"
QUARANTINE = DATA / "quarantine"
QUARANTINED = QUARANTINE / "quarantined.csv"
FEATURES = DATA / "features"
MODELS = Path("models")
CHECKPOINTS = Path("checkpoints")
CHECKOUT_ID = CHECKPOINTS / "checkout_id"
LOGS = Path("logs")
RUN = LOGS / "run.json"
"""What runs in this checkout now: the command, its process, and since when."""
TUNING = Path("tuning")
REPORTS = Path("reports")
VALIDATION = REPORTS / "validation"
VALIDATION_RESULT = VALIDATION / "result.json"
VALIDATION_PAGE = VALIDATION / "index.html"
HISTORIES = REPORTS / "training"
METRICS = REPORTS / "metrics.json"
PREDICTIONS = REPORTS / "predictions.csv"
LABELS = REPORTS / "labels.csv"
SLICES = REPORTS / "slices.csv"
CANDIDATE_LABELS = REPORTS / "labels"
CANDIDATE_SLICES = REPORTS / "slices"
CALIBRATION = REPORTS / "calibration"
VALIDATION_CALIBRATION = CALIBRATION / "validation"
NOISE = REPORTS / "noise"
CONFUSION = REPORTS / "confusion.csv"
REPORT = REPORTS / "report.html"
REGISTERED = REPORTS / "registered.html"
VERDICT = REPORTS / "verdict.json"


def history_of(candidate: str) -> Path:
    """The file with one row for each epoch in which the candidate was trained."""
    return HISTORIES / f"{candidate}.csv"


def raw_folder(params: Params) -> UPath:
    """The folder or address from which extraction reads raw shards; by default data/raw."""
    return UPath(params.extract.raw)


def is_raw_copied(params: Params) -> bool:
    """Whether extraction reads a copy of data/raw, such as one in a bucket."""
    folder = raw_folder(params)
    return folder.protocol not in ("", "file") or Path(folder.path).resolve() != RAW.resolve()


def features_folder(params: Params) -> UPath:
    """The folder or address for feature shards; by default data/features."""
    return UPath(params.extract.features)
