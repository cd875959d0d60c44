"""Where the stages' files lie, relative to the root of the checkout; dvc.yaml names the same."""

from pathlib import Path

from upath import UPath

from earmark.params import Params

DOWNLOADS = Path("downloads")
SEEN = DOWNLOADS / "seen.parquet"
GLANCE = DOWNLOADS / "glance.json"
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
LABELS_OF_EACH = Path("reports/labels")
SLICES_OF_EACH = Path("reports/slices")
CALIBRATION = Path("reports/calibration")
CALIBRATION_OF_VALIDATION = Path("reports/calibration/validation")
NOISE = Path("reports/noise")
CONFUSION = Path("reports/confusion.csv")
REPORT = Path("reports/report.html")
REGISTERED = Path("reports/registered.html")
VERDICT = Path("reports/verdict.json")


def raw_folder(params: Params) -> UPath:
    """Where extraction reads raw shards: data/raw, or an address."""
    return UPath(params.extract.raw)


def features_folder(params: Params) -> UPath:
    """Where extraction writes feature shards and training reads them: data/features, or an address."""
    return UPath(params.extract.features)
