"""The script that MLflow runs to load a registered model. It needs the model's declared requirements only; what of
earmark decodes recordings travels inside the model."""

import base64
import binascii
import hashlib
import importlib
import json
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import ModuleType

import mlflow
import numpy as np
import pandas as pd
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE

BLOCK_CLIPS = 256
"""Clips classified at a time, which bounds memory."""
MAX_SAMPLE = 2.0
"""Largest absolute value of a raw sample. Full scale is 1, and resampling can go a little beyond it; integers that were
not divided by theirs are far beyond."""
FORMS = 'allowed are {"wav": a recording\'s bytes in base64} and {"samples": a list of numbers in [-1, 1]}'


class InvalidClipError(Exception):
    """A clip that has no answer; the text says why."""


class WaveformClassifier(mlflow.pyfunc.PythonModel):
    """Recordings, or raw samples, to one row a clip: `label`, its `probability`, whether that is high enough to be an
    answer, `accepted`, and `probabilities` by label.

    Clips come as rows of `wav` or `samples`, or as an array (clips, samples). Samples are exactly one clip, in
    [-1, 1], at the model's sample rate; a recording is decoded, mixed, resampled and padded as for training. Where one
    clip cannot be read, the request is refused whole, with the clip's place and the reason: MLflow's server answers
    with 400.
    """

    def load_context(self, context) -> None:
        """Loads the model in Keras' safe mode, its settings, and the decoder that it carries."""
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
        # A network is traced when it is first asked.
        self._model.predict_on_batch(np.zeros((1, front_end["clip_samples"]), np.float32))

    def predict(self, context, model_input, params=None) -> pd.DataFrame:
        """One row a clip; MlflowException where one has no answer."""
        rows = list(_rows(model_input))
        if not rows:
            raise _refusal(f"no clips; {FORMS}")
        found = []
        for first in range(0, len(rows), BLOCK_CLIPS):
            clips = [self._waveform(place, rows[place]) for place in range(first, min(first + BLOCK_CLIPS, len(rows)))]
            found.append(self._model.predict_on_batch(np.stack(clips)))
        return self._answers(np.concatenate(found))

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
            return self._decode.clip(_content(value), *self._clip)
        except self._decode.DecodeError as error:
            raise InvalidClipError(str(error)) from None

    def _checked(self, value: object) -> np.ndarray:
        sample_rate_hz, length, _ = self._clip
        try:
            samples = np.asarray(value, dtype=np.float64)
        except OverflowError:
            raise InvalidClipError("a sample beyond any float; allowed are -1 to 1") from None
        except (TypeError, ValueError):
            raise InvalidClipError("samples that are no list of numbers") from None
        if samples.shape != (length,):
            shape = " x ".join(map(str, samples.shape)) or "1"
            raise InvalidClipError(
                f"samples: {shape}; allowed are {length} at {sample_rate_hz} Hz, or wav of any length"
            )
        if not np.isfinite(samples).all():
            raise InvalidClipError("NaN or infinite samples")
        if (peak := np.abs(samples).max()) > MAX_SAMPLE:
            raise InvalidClipError(f"a sample of {peak:.6g}; allowed are -1 to 1")
        return samples.astype(np.float32)


def import_carried(folder: str, name: str) -> ModuleType:
    """The module `name` of earmark as it lies in `folder`, whatever version of earmark there may be otherwise, and
    without a trace: an import of earmark elsewhere finds what it would have found."""
    before = _forget_earmark()
    sys.path.insert(0, folder)
    importlib.invalidate_caches()
    try:
        return importlib.import_module(name)
    finally:
        sys.path.remove(folder)
        _forget_earmark()
        sys.modules.update(before)


def _forget_earmark() -> dict[str, ModuleType]:
    names = [name for name in sys.modules if name.partition(".")[0] == "earmark"]
    return {name: sys.modules.pop(name) for name in names}


def _rows(given: object) -> Iterable:
    """Clips one by one, of whatever MLflow makes of a request."""
    if isinstance(given, Mapping):
        try:
            given = pd.DataFrame({name: list(values) for name, values in given.items()})
        except (TypeError, ValueError):
            raise _refusal(f"columns of different lengths, or none; {FORMS}") from None
    if isinstance(given, pd.DataFrame):
        return given.to_dict("records")
    if isinstance(given, list) or (isinstance(given, np.ndarray) and given.ndim):
        return given
    raise _refusal(f"no clips; {FORMS}")


def _form(row: object) -> tuple[str, object]:
    """What a row has, "wav" or "samples", and the value."""
    if not isinstance(row, Mapping):
        return "samples", row
    given = {name: value for name, value in row.items() if not _missing(value)}
    if set(given) not in ({"wav"}, {"samples"}):
        raise InvalidClipError(f"it has {', '.join(map(str, list(given)[:5])) or 'nothing'}; {FORMS}")
    return next(iter(given.items()))


def _missing(value: object) -> bool:
    # A table has NaN where another row has a value and this one has none.
    return value is None or (isinstance(value, float) and np.isnan(value))


def _content(value: object) -> bytes:
    if isinstance(value, np.ndarray) and value.ndim == 0:
        value = value.item()
    if isinstance(value, bytes):
        return value
    try:
        return base64.b64decode("".join(value.split()), validate=True)
    except (AttributeError, ValueError, binascii.Error):
        raise InvalidClipError("wav that is not in base64") from None


def _sha256(settings: dict, model: Path) -> str:
    """As earmark, of which nothing is here, computes it where a model is saved."""
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode() + model.read_bytes()).hexdigest()


def _refusal(text: str) -> MlflowException:
    return MlflowException(text, error_code=INVALID_PARAMETER_VALUE)


mlflow.models.set_model(WaveformClassifier())
