"""Saves and loads a classifier: one Keras model from waveform to probabilities, and a file with its labels."""

import hashlib
import io
import json
import re
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Protocol

import numpy as np
from pydantic import Field, ValidationError, create_model, model_validator

from earmark.errors import UserError
from earmark.features.front_ends import FrontEnd, class_of
from earmark.params.fields import Closed, Count, Fraction

if TYPE_CHECKING:
    import keras

MODEL = "model.keras"
SETTINGS = "settings.json"


class Runnable(Protocol):
    """A model of Keras or of another runtime."""

    def predict_on_batch(self, waveforms: np.ndarray, /) -> np.ndarray:
        """Returns probabilities, float32 (clips, labels), of waveforms, float32 (clips, samples) in [-1, 1]."""


@dataclass(frozen=True)
class Classifier:
    """A loaded model with its labels and front end.

    Attributes:
        model: takes float32 (clips, front_end.clip_samples) in [-1, 1].
        rejection_threshold: answers with a lower probability are rejected.
    """

    model: Runnable
    candidate: str
    labels: tuple[str, ...]
    front_end: FrontEnd
    parameters: int
    rejection_threshold: float


class _Settings(Closed):
    """The settings file beside a model."""

    candidate: Annotated[str, Field(min_length=1)]
    labels: Annotated[tuple[str, ...], Field(min_length=2)]
    front_end: FrontEnd
    parameters: Count
    rejection_threshold: Fraction
    sha256: str

    @model_validator(mode="after")
    def _distinct(self) -> "_Settings":
        if len(set(self.labels)) != len(self.labels):
            raise ValueError("a label is listed twice")
        return self


def with_front_end(network: "keras.Model", front_end: FrontEnd) -> "keras.Model":
    """Puts the front end before `network`: a model from waveforms to probabilities, with Keras' own layers only."""
    import keras

    from earmark.features.keras_backend import from_waveforms

    waveforms = keras.Input((front_end.clip_samples,), name="waveform")
    return keras.Model(waveforms, network(from_waveforms(waveforms, front_end)), name=f"{network.name}_on_waveforms")


def save(
    folder: Path, network: "keras.Model", front_end: FrontEnd, labels: tuple[str, ...], rejection_threshold: float
) -> None:
    """Writes the model and its settings into `folder`. Equal weights give equal bytes."""
    path = folder / MODEL
    with_front_end(network, front_end).save(path)
    path.write_bytes(_canonical(path.read_bytes()))
    settings = {
        "candidate": network.name,
        "labels": list(labels),
        "front_end": front_end.settings(),
        "parameters": network.count_params(),
        "rejection_threshold": rejection_threshold,
    }
    settings["sha256"] = _sha256(settings, path)
    (folder / SETTINGS).write_text(json.dumps(settings, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def read_settings(folder: Path) -> dict[str, Any]:
    """Reads the settings of a saved model: candidate, labels, front_end, parameters, rejection_threshold, sha256.

    Raises:
        UserError: the settings file is missing or damaged.
    """
    try:
        settings: dict[str, Any] = json.loads((folder / SETTINGS).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        raise UserError(f"{folder} holds no model: {SETTINGS} is missing or damaged") from None
    return settings


def load(folder: Path) -> Classifier:
    """Loads a model that `save` wrote, in Keras' safe mode.

    Raises:
        UserError: the model is missing or damaged, or was not saved with these settings.
    """
    from earmark.models import backend

    settings = _checked_settings(folder)
    if not zipfile.is_zipfile(folder / MODEL):
        raise UserError(f"{folder} holds no model that can be read: {MODEL} is missing or cut short")
    _require_saved_together(folder)
    backend.start()
    import keras

    try:
        model = keras.saving.load_model(folder / MODEL, compile=False, safe_mode=True)
    except Exception as error:  # Keras raises anything for a file that it has not written
        raise UserError(f"{folder} holds no model that can be read: {' '.join(str(error).split())[:200]}") from None
    facts = dict(settings)
    facts.pop("sha256")
    return Classifier(model, **facts)


def _checked_settings(folder: Path) -> _Settings:
    settings = read_settings(folder)
    try:
        return _settings_type(settings).model_validate(settings)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"])) or "the file"
        raise UserError(f"{folder / SETTINGS}: {place}: {first['msg'].removeprefix('Value error, ')}") from None


def _settings_type(settings: object) -> type[_Settings]:
    """_Settings with the class of the front end that these settings name."""
    match settings:
        case {"front_end": {"name": str(name)}}:
            return create_model("_Settings", __base__=_Settings, front_end=(class_of(name), ...))
    return _Settings


def _require_saved_together(folder: Path) -> None:
    settings = read_settings(folder)
    if settings.pop("sha256") != _sha256(settings, folder / MODEL):
        raise UserError(f"{folder}: {SETTINGS} and {MODEL} are not as they were saved together")


def _sha256(settings: dict[str, Any], model: Path) -> str:
    """The hash of settings and model, which shows if either was changed or exchanged."""
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode() + model.read_bytes()).hexdigest()


def _canonical(archive: bytes) -> bytes:
    """The .keras archive without what differs from save to save: the date, and addresses of objects in memory."""
    result = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(archive)) as source, zipfile.ZipFile(result, "w", zipfile.ZIP_STORED) as target:
        for name in sorted(source.namelist()):
            content = source.read(name)
            if name == "metadata.json":
                content = json.dumps(json.loads(content) | {"date_saved": "1980-01-01@00:00:00"}).encode()
            elif name == "config.json":
                content = _renumbered(content.decode()).encode()
            target.writestr(zipfile.ZipInfo(name), content)
    return result.getvalue()


def _renumbered(config: str) -> str:
    """`config` with the ids of shared objects replaced by 0, 1, … in the order of their first occurrence."""
    numbers: dict[str, int] = {}
    return re.sub(
        r'"shared_object_id": (\d+)',
        lambda match: f'"shared_object_id": {numbers.setdefault(match[1], len(numbers))}',
        config,
    )
