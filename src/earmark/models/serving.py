"""The script that MLflow runs to load and serve a registered model.

It needs only the requirements that the model declares. Earmark's code that decodes recordings travels with the model.
"""

import base64
import binascii
import hashlib
import importlib
import json
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import mlflow
import numpy as np
import pandas as pd
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE
from mlflow.pyfunc.model import PythonModel, PythonModelContext

BLOCK_CLIPS = 256
"""Clips that are classified at a time; this bounds memory."""
MAX_SAMPLE = 2.0
"""Largest absolute value of a raw sample. Full scale is 1, which resampling can exceed a little. Integers that were not
scaled exceed it by far."""
NOT_BASE64 = "wav: not in base64; expected a recording's bytes in base64"
FORMS = 'expected {"wav": a recording\'s bytes in base64} or {"samples": a list of numbers in [-1, 1]}'


class InvalidClipError(Exception):
    """A clip that cannot be classified; the text says why."""


class WaveformClassifier(PythonModel):
    """Classifies recordings or raw samples.

    The answer has one row a clip: `label`, its `probability`, `accepted` (the probability reaches the model's
    threshold), and `probabilities` by label. Clips come as rows of `wav` or `samples`, or as an array (clips, samples).
    Samples are exactly one clip, in [-1, 1], at the model's sample rate. A recording is decoded, mixed, resampled and
    padded as in training. If one clip cannot be read, the whole request is refused with the clip's number and the
    reason; MLflow's server then answers with status 400.
    """

    def load_context(self, context: PythonModelContext) -> None:
        """Loads the settings, the decoder that travels with the model, and the model in Keras' safe mode."""
        import keras

        folder = Path(context.artifacts["model"])
        settings = json.loads((folder / "settings.json").read_text(encoding="utf-8"))
        front_end, saved = settings["front_end"], settings.pop("sha256")
        if _sha256(settings, folder / "model.keras") != saved:
            raise ValueError("settings.json and model.keras are not as they were saved together")
        self._clip = front_end["sample_rate_hz"], front_end["clip_samples"], front_end["padding"]
        self._labels, self._threshold = settings["labels"], settings["rejection_threshold"]
        self._decode = import_carried(context.artifacts["code"], "earmark.audio.decode")
        self._model = keras.saving.load_model(folder / "model.keras", compile=False, safe_mode=True)
        # The first call traces the network; no request has to wait for it.
        self._model.predict_on_batch(np.zeros((1, front_end["clip_samples"]), np.float32))

    # MLflow checks requests against a type hint of `model_input`, so it has none.
    def predict(self, context, model_input, params=None) -> pd.DataFrame:  # type: ignore[no-untyped-def]  # see above
        """Returns one row a clip.

        Raises:
            MlflowException: a clip cannot be classified.
        """
        rows = list(_rows(model_input))
        if not rows:
            raise _refusal(f"no clips; {FORMS}")
        blocks = []
        for first in range(0, len(rows), BLOCK_CLIPS):
            clips = [self._waveform(place, rows[place]) for place in range(first, min(first + BLOCK_CLIPS, len(rows)))]
            blocks.append(self._model.predict_on_batch(np.stack(clips)))
        return self._answers(np.concatenate(blocks))

    def _answers(self, probabilities: np.ndarray) -> pd.DataFrame:
        best = probabilities.max(axis=1).astype(float)
        return pd.DataFrame(
            {
                "label": [self._labels[place] for place in probabilities.argmax(axis=1)],
                "probability": best,
                "accepted": best >= self._threshold,
                "probabilities": [dict(zip(self._labels, row, strict=True)) for row in probabilities.tolist()],
            }
        )

    def _waveform(self, place: int, row: object) -> np.ndarray:
        try:
            form, value = _form(row)
            return self._decoded(value) if form == "wav" else self._checked(value)
        except InvalidClipError as error:
            raise _refusal(f"clip {place + 1}: {error}") from None

    def _decoded(self, value: object) -> np.ndarray:
        try:
            samples: np.ndarray = self._decode.clip(_content(value), *self._clip)
            return samples
        except self._decode.DecodeError as error:
            raise InvalidClipError(str(error)) from None

    def _checked(self, value: object) -> np.ndarray:
        sample_rate_hz, length, _ = self._clip
        try:
            samples = np.asarray(value, dtype=np.float64)
        except OverflowError:
            raise InvalidClipError("a sample is too large for a float; expected -1 to 1") from None
        except (TypeError, ValueError):
            raise InvalidClipError(f"samples: not a list of numbers; expected {length} numbers in [-1, 1]") from None
        if samples.shape != (length,):
            shape = " x ".join(map(str, samples.shape)) or "1"
            raise InvalidClipError(f"samples: {shape}; expected {length} at {sample_rate_hz} Hz, or wav of any length")
        if not np.isfinite(samples).all():
            raise InvalidClipError("NaN or infinite samples")
        if (peak := np.abs(samples).max()) > MAX_SAMPLE:
            raise InvalidClipError(f"a sample of {peak:.6g}; expected -1 to 1")
        return samples.astype(np.float32)


def import_carried(folder: str, name: str) -> ModuleType:
    """Imports the module `name` of the copy of earmark in `folder`, and leaves no trace.

    Another installed version of earmark is not used, and later imports find it as if nothing had happened.
    """
    installed = _forget_earmark()
    sys.path.insert(0, folder)
    importlib.invalidate_caches()
    try:
        return importlib.import_module(name)
    finally:
        sys.path.remove(folder)
        _forget_earmark()
        sys.modules.update(installed)


def _forget_earmark() -> dict[str, ModuleType]:
    names = [name for name in sys.modules if name.partition(".")[0] == "earmark"]
    return {name: sys.modules.pop(name) for name in names}


def _rows(request: object) -> Iterable[object]:
    """The clips of a request, in any of the forms that MLflow turns it into."""
    if isinstance(request, Mapping):
        try:
            request = pd.DataFrame({name: list(column) for name, column in request.items()})
        except (TypeError, ValueError):
            raise _refusal(f"columns of different lengths, or none; {FORMS}") from None
    if isinstance(request, pd.DataFrame):
        records: list[object] = request.to_dict("records")
        return records
    if isinstance(request, list) or (isinstance(request, np.ndarray) and request.ndim):
        return request
    raise _refusal(f"no clips; {FORMS}")


def _form(row: object) -> tuple[str, object]:
    """The key of a row, "wav" or "samples", and its value."""
    if not isinstance(row, Mapping):
        return "samples", row
    values = {name: value for name, value in row.items() if not _missing(value)}
    if set(values) not in ({"wav"}, {"samples"}):
        raise InvalidClipError(f"it has {', '.join(map(str, list(values)[:5])) or 'nothing'}; {FORMS}")
    return next(iter(values.items()))


def _missing(value: object) -> bool:
    # In a table, NaN stands for a value that only other rows have.
    return value is None or (isinstance(value, float) and np.isnan(value))


def _content(value: object) -> bytes:
    if isinstance(value, np.ndarray) and value.ndim == 0:
        value = value.item()
    if isinstance(value, bytes):
        return value
    if not isinstance(value, str):
        raise InvalidClipError(NOT_BASE64)
    try:
        return base64.b64decode("".join(value.split()), validate=True)
    except (ValueError, binascii.Error):
        raise InvalidClipError(NOT_BASE64) from None


def _sha256(settings: dict[str, Any], model: Path) -> str:
    """The same hash as in models.model_folder, which cannot be imported here."""
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode() + model.read_bytes()).hexdigest()


def _refusal(text: str) -> MlflowException:
    return MlflowException(text, error_code=INVALID_PARAMETER_VALUE)


mlflow.models.set_model(WaveformClassifier())
