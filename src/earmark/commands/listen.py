"""`earmark listen`: detects words in a long recording or a live stream, and prints each at once."""

import json
import os
import sys
from collections.abc import Iterator
from io import FileIO
from typing import TYPE_CHECKING

import numpy as np

from earmark.audio import decode, stream
from earmark.errors import UserError
from earmark.models import detector
from earmark.models.detection import Detection
from earmark.registry import resolve
from earmark.reporting import formats
from earmark.reporting.terminal import detections

if TYPE_CHECKING:
    from earmark.features.front_ends import FrontEnd
    from earmark.models.model_folder import Classifier

STANDARD_INPUT = "-"


def listen(source: str, model: str | None, threshold: float | None, as_json: bool) -> None:
    """Prints one line for each detection, as soon as it is made.

    `source` is a recording's path, or STANDARD_INPUT for raw PCM. `threshold` is the lowest probability of a detection,
    from 0 to 1; by default the model's rejection threshold.

    Raises:
        UserError: the audio cannot be decoded. Detections before that are printed.
    """
    if threshold is not None and not 0 <= threshold <= 1:
        raise UserError(f"--threshold: {formats.significant(threshold)} is out of range; expected 0 to 1")
    with _open(source) as file:
        classifier = resolve.load_classifier(model)
        _warm_up(classifier)
        if source == STANDARD_INPUT:
            print("listen: ready", file=sys.stderr, flush=True)
        blocks = _blocks(source, file, classifier.front_end.sample_rate_hz)
        least = classifier.rejection_threshold if threshold is None else threshold
        for detection in detector.detections(classifier, blocks, least):
            print(_line(detection, classifier.front_end, as_json), flush=True)


def _open(source: str) -> FileIO:
    try:
        if source == STANDARD_INPUT:
            os.set_blocking(0, True)  # another process on the same pipe may have set it otherwise
        file = FileIO(0, closefd=False) if source == STANDARD_INPUT else FileIO(source)
    except OSError as error:
        raise _unreadable(source, error.strerror) from None
    if source != STANDARD_INPUT and not file.seekable():
        raise _unreadable(source, f"not a regular file; expected one, or {STANDARD_INPUT} for raw PCM from a pipe")
    return file


def _unreadable(source: str, reason: str | None) -> UserError:
    name = "standard input" if source == STANDARD_INPUT else os.fsencode(source).decode(errors="replace")
    return UserError(f"{name}: {reason}")


def _warm_up(classifier: "Classifier") -> None:
    """Makes Keras trace the network, which it does for the first input of one window and for the first of several."""
    for windows in (1, 2):
        classifier.model.predict_on_batch(np.zeros((windows, classifier.front_end.clip_samples), np.float32))


def _blocks(source: str, file: FileIO, sample_rate_hz: int) -> Iterator[np.ndarray]:
    try:
        if source == STANDARD_INPUT:
            yield from stream.raw_pcm16(file.read)
        else:
            yield from stream.recording(file, sample_rate_hz)
    except decode.DecodeError as error:
        raise _unreadable(source, str(error)) from None
    except OSError as error:
        raise _unreadable(source, error.strerror) from None


def _line(detection: Detection, front_end: "FrontEnd", as_json: bool) -> str:
    """Returns a detection as text, with the time of the middle of its window."""
    seconds = detection.seconds + front_end.clip_samples / front_end.sample_rate_hz / 2
    if as_json:
        values = {
            "seconds": round(seconds, 3),
            "label": detection.label,
            "probability": round(detection.probability, 6),
        }
        return json.dumps(values, ensure_ascii=False)
    return detections.line(seconds, detection.label, detection.probability)
