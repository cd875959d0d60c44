"""`earmark export`: a model as a file for another runtime, measured there before it is given out."""

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from earmark.dataset import shards
from earmark.errors import UserError
from earmark.evaluation import metrics, test_set
from earmark.evaluation.test_set import TestSet
from earmark.io import hashing
from earmark.io.files import require_writable, whole_folder, write_json
from earmark.params import Params
from earmark.paths import ACCEPTED, RAW
from earmark.registry import resolve

if TYPE_CHECKING:
    from earmark.models.model_folder import Classifier

CALIBRATION_CLIPS = 512
"""Training clips from which 8-bit ranges are taken."""
_ROUNDING = 1e-9


@dataclass(frozen=True)
class Comparison:
    """The exported file against the model that it was made from: the share of the clips of `split` that each gets
    right, and its bytes."""

    split: str
    clips: int
    accuracy: float
    original_accuracy: float
    file_bytes: int
    original_bytes: int

    @property
    def loss(self) -> float:
        """How much of the accuracy is lost, below 0 where some is gained."""
        return self.original_accuracy - self.accuracy


def export(params: Params, source: str, format: str, folder: Path) -> str:
    """Writes the model of a version, an alias or a folder into the new folder `folder`, in one of conversion.FORMATS,
    with its labels and what its input and output are; returns a sentence.

    The file itself answers first for every clip of the reporting split whose label the model knows. UserError, and
    nothing written, where it loses more than export.max_accuracy_loss against the original.
    """
    if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
        raise UserError(f"{folder} is there already; allowed is a new or an empty folder")
    require_writable(folder)
    from earmark.models import conversion, model_folder, runtimes

    with tempfile.TemporaryDirectory(prefix="earmark-") as temporary:
        model = resolve.folder_of(source, Path(temporary))
        classifier, original_bytes = model_folder.load(model), (model / model_folder.MODEL).stat().st_size
        original = hashing.content_sha256(model)
    clips = _test_clips(params, classifier)
    content = conversion.convert(classifier, format, lambda: _training_clips(classifier, params.seed))
    exported = replace(classifier, model=runtimes.open_runtime(content, format))
    found = _compared(clips, classifier, exported, len(content), original_bytes)
    if found.loss > params.export.max_accuracy_loss + _ROUNDING:
        raise UserError(
            f"{format} gets {found.accuracy:.2%} of {found.clips} {found.split} clips right and the original"
            f" {found.original_accuracy:.2%}; allowed is a loss of {params.export.max_accuracy_loss:.2%},"
            " export.max_accuracy_loss in params.yaml"
        )
    with whole_folder(folder) as partial:
        (partial / conversion.FORMATS[format]).write_bytes(content)
        write_json(partial / "labels.json", list(classifier.labels))
        write_json(partial / "settings.json", {"content_sha256": original, **_settings(classifier, format, found)})
    return _sentence(folder / conversion.FORMATS[format], classifier, format, found)


def _training_clips(classifier: "Classifier", seed: int) -> Iterator[np.ndarray]:
    from earmark.models import inference

    accepted = shards.read_accepted(ACCEPTED)
    training = accepted[accepted["split"] == "training"]
    drawn = training.sample(min(CALIBRATION_CLIPS, len(training)), random_state=seed).sort_values(["shard", "offset"])
    for block in inference.waveforms(classifier.front_end, shards.read_recordings(RAW, drawn)):
        yield from block


def _test_clips(params: Params, classifier: "Classifier") -> TestSet:
    """The clips of the reporting split whose labels the model knows; on others it has no accuracy to lose."""
    clips = test_set.read(params)
    known = clips.restricted_to(clips.reporting_split, classifier.labels)
    if known.rows.empty:
        labels = ", ".join(classifier.labels[:5])
        raise UserError(f"the {clips.reporting_split} clips have none of the model's labels, {labels} …")
    return known


def _compared(
    clips: TestSet, classifier: "Classifier", exported: "Classifier", file_bytes: int, original_bytes: int
) -> Comparison:
    return Comparison(
        clips.rows["split"].iloc[0],
        len(clips.rows),
        metrics.accuracy(clips.predictions(exported)),
        metrics.accuracy(clips.predictions(classifier)),
        file_bytes,
        original_bytes,
    )


def _settings(classifier: "Classifier", format: str, found: Comparison) -> dict:
    from earmark.models import conversion

    front_end = classifier.front_end
    clips = "any" if format == "onnx" else 1
    return {
        "candidate": classifier.candidate,
        "format": format,
        "input": {
            "name": conversion.INPUT,
            "type": "float32",
            "shape": [clips, front_end.clip_samples],
            "range": [-1.0, 1.0],
            "channels": 1,
            "sample_rate_hz": front_end.sample_rate_hz,
            "padding": front_end.padding,
        },
        "output": {
            "values": "probabilities, in the order of labels.json",
            "type": "float32",
            "shape": [clips, len(classifier.labels)],
            "rejection_threshold": classifier.rejection_threshold,
        },
        "measured": {
            "clips": found.clips,
            "split": found.split,
            "accuracy": found.accuracy,
            "original_accuracy": found.original_accuracy,
        },
    }


def _sentence(path: Path, classifier: "Classifier", format: str, found: Comparison) -> str:
    return (
        f"{classifier.candidate} as {format}, {path}: {found.file_bytes / 1000:,.0f} kB, {found.accuracy:.2%} of"
        f" {found.clips} {found.split} clips right; the original: {found.original_bytes / 1000:,.0f} kB,"
        f" {found.original_accuracy:.2%}"
    )
