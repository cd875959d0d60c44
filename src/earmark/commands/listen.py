"""`earmark listen`: the words in a long recording, or in what a microphone hears, as they are heard."""

import json
import os
import sys
from collections.abc import Iterator
from io import FileIO

import numpy as np

from earmark.audio import decode, stream
from earmark.errors import UserError
from earmark.models import detector
from earmark.models.detection import Detection
from earmark.registry import resolve

STANDARD_INPUT = "-"


def listen(source: str, model: str | None, threshold: float | None, as_json: bool) -> None:
    """Prints one line a detection, as soon as it is made.

    `source` is a recording's path, or STANDARD_INPUT for raw PCM; `threshold`, in [0, 1], is by default the model's
    own. Raises UserError where the audio is unsound, after the detections before that.
    """
    if threshold is not None and not 0 <= threshold <= 1:
        raise UserError(f"--threshold {threshold:g}; allowed are 0 to 1")
    with _opened(source) as file:
        classifier = resolve.load_classifier(model)
        _warm_up(classifier)
        if source == STANDARD_INPUT:
            print("listen: ready", file=sys.stderr, flush=True)
        blocks = _blocks(source, file, classifier.front_end.sample_rate_hz)
        least = classifier.rejection_threshold if threshold is None else threshold
        for each in detector.detections(classifier, blocks, least):
            print(_line(each, classifier.front_end, as_json), flush=True)


def _opened(source: str) -> FileIO:
    try:
        if source == STANDARD_INPUT:
            os.set_blocking(0, True)  # whoever shares the pipe may have it otherwise
        file = FileIO(0, closefd=False) if source == STANDARD_INPUT else FileIO(source)
    except OSError as error:
        raise _unreadable(source, error.strerror) from None
    if source != STANDARD_INPUT and not file.seekable():
        raise _unreadable(source, f"no file on disk; allowed are one, and {STANDARD_INPUT} for raw PCM from a pipe")
    return file


def _unreadable(source: str, reason: str) -> UserError:
    name = "standard input" if source == STANDARD_INPUT else os.fsencode(source).decode(errors="replace")
    return UserError(f"{name}: {reason}")


def _warm_up(classifier) -> None:
    """A network is traced when it first hears one window, and when it first hears another number; then no more."""
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


def _line(heard: Detection, front_end, as_json: bool) -> str:
    """The detection with the time of its window's middle."""
    seconds = heard.seconds + front_end.clip_samples / front_end.sample_rate_hz / 2
    if as_json:
        values = {"seconds": round(seconds, 3), "label": heard.label, "probability": round(heard.probability, 6)}
        return json.dumps(values, ensure_ascii=False)
    return f"{seconds:7.1f} s  {heard.label}  {100 * heard.probability:.1f} %"
