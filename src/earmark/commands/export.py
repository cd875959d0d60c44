"""`earmark export`: converts a model for another runtime, and scores the converted model before writing it."""

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

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
from earmark.reporting.terminal import export as report

if TYPE_CHECKING:
    from earmark.models.model_folder import Classifier

CALIBRATION_CLIPS = 512
"""Training clips that the ranges of 8-bit values are taken from."""
_ROUNDING = 1e-9


@dataclass(frozen=True)
class Comparison:
    """The converted model beside the original: accuracy on the clips of `split`, from 0 to 1, and size."""

    split: str
    clips: int
    accuracy: float
    original_accuracy: float
    file_bytes: int
    original_bytes: int

    @property
    def test_clips(self) -> str:
        """How many clips were scored, such as "30 test clips"."""
        return f"{self.clips} {self.split} clips"

    @property
    def loss(self) -> float:
        """The accuracy lost by the conversion; negative if accuracy was gained."""
        return self.original_accuracy - self.accuracy


def export(params: Params, source: str, format: str, folder: Path) -> str:
    """Converts a model into the new folder `folder`, with its labels and settings; returns one sentence.

    `source` is a version, an alias or a folder; `format` is one of conversion.FORMATS. The converted model is scored
    first, on every clip of the reporting split whose label it knows.

    Raises:
        UserError: it loses more accuracy than export.max_accuracy_loss, or the folder is not empty. Nothing is written.
    """
    if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
        raise UserError(f"{folder} exists already; expected a new or an empty folder")
    require_writable(folder)
    from earmark.models import conversion, model_folder, runtimes

    with tempfile.TemporaryDirectory(prefix="earmark-") as temporary:
        model = resolve.folder_of(source, Path(temporary))
        classifier, original_bytes = model_folder.load(model), (model / model_folder.MODEL).stat().st_size
        original = hashing.content_sha256(model)
    clips = _test_clips(params, classifier)
    content = conversion.convert(classifier, format, lambda: _training_clips(classifier, params.seed))
    exported = replace(classifier, model=runtimes.open_runtime(content, format))
    comparison = _compare(clips, classifier, exported, len(content), original_bytes)
    if comparison.loss > params.export.max_accuracy_loss + _ROUNDING:
        raise UserError(
            report.refusal(
                format,
                comparison.test_clips,
                comparison.accuracy,
                comparison.original_accuracy,
                params.export.max_accuracy_loss,
            )
        )
    with whole_folder(folder) as partial:
        (partial / conversion.FORMATS[format]).write_bytes(content)
        write_json(partial / "labels.json", list(classifier.labels))
        write_json(partial / "settings.json", {"content_sha256": original, **_settings(classifier, format, comparison)})
    return _sentence(folder / conversion.FORMATS[format], classifier, format, comparison)


def _training_clips(classifier: "Classifier", seed: int) -> Iterator[np.ndarray]:
    from earmark.models import inference

    accepted = shards.read_accepted(ACCEPTED)
    training = accepted[accepted["split"] == "training"]
    drawn = training.sample(min(CALIBRATION_CLIPS, len(training)), random_state=seed).sort_values(["shard", "offset"])
    for block in inference.waveforms(classifier.front_end, shards.read_recordings(RAW, drawn)):
        yield from block


def _test_clips(params: Params, classifier: "Classifier") -> TestSet:
    """The clips of the reporting split whose labels the model knows."""
    clips = test_set.read(params)
    usable = clips.restricted_to(clips.reporting_split, classifier.labels)
    if usable.rows.empty:
        labels = ", ".join(classifier.labels[:5])
        raise UserError(f"the {clips.reporting_split} clips have none of the model's labels, {labels} …")
    return usable


def _compare(
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


def _settings(classifier: "Classifier", format: str, comparison: Comparison) -> dict[str, Any]:
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
            "clips": comparison.clips,
            "split": comparison.split,
            "accuracy": comparison.accuracy,
            "original_accuracy": comparison.original_accuracy,
        },
    }


def _sentence(path: Path, classifier: "Classifier", format: str, comparison: Comparison) -> str:
    return report.sentence(
        f"{classifier.candidate} as {format}, {path}",
        comparison.test_clips,
        comparison.accuracy,
        comparison.original_accuracy,
        comparison.file_bytes,
        comparison.original_bytes,
    )
