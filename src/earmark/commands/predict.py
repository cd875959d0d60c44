"""`earmark predict`: predicts the labels of WAV files."""

import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from earmark.registry import resolve
from earmark.reporting import formats

TOP = 5
"""How many labels are listed for each file, the most probable first."""


def predict_paths(paths: Sequence[Path], model: str | None, as_json: bool) -> int:
    """Prints one line a file; returns the exit code: 0, 1 if a file could not be read, 2 if none could."""
    from earmark.audio.decode import DecodeError
    from earmark.models import inference

    files = list(_files(paths))
    classifier = resolve.load_classifier(model)
    failed = 0
    for path in files:
        name = os.fsencode(path).decode(errors="replace")
        try:
            probabilities = inference.probabilities(classifier, [path.read_bytes()])[0]
            line = _prediction(name, classifier.labels, probabilities, classifier.rejection_threshold)
        except (OSError, DecodeError) as error:
            failed += 1
            line = {"file": name, "error": _reason(path, error)}
        print(json.dumps(line, ensure_ascii=False) if as_json else _text(line), flush=True)
    return 0 if not failed else 1 if failed < len(files) else 2


def _files(paths: Sequence[Path]) -> Iterator[Path]:
    for path in paths:
        if not path.is_dir():
            yield path
            continue
        recordings = sorted(file for file in path.rglob("*") if file.suffix.lower() == ".wav" and file.is_file())
        yield from recordings or [path]


def _reason(path: Path, error: Exception) -> str:
    if isinstance(error, IsADirectoryError):
        return "no .wav file in this folder"
    return getattr(error, "strerror", None) or str(error)


def _prediction(
    name: str, labels: Sequence[str], probabilities: np.ndarray, rejection_threshold: float
) -> dict[str, Any]:
    order = probabilities.argsort()[::-1][:TOP]
    top = [{"label": labels[i], "probability": round(float(probabilities[i]), 6)} for i in order]
    return {"file": name, **top[0], "accepted": bool(probabilities.max() >= rejection_threshold), "top": top}


def _text(line: dict[str, Any]) -> str:
    if "error" in line:
        return f"{line['file']}: error: {line['error']}"
    note = "" if line["accepted"] else ", below the rejection threshold"
    return f"{line['file']}: {line['label']} {formats.percent(line['probability'])}{note}"
