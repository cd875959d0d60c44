"""A trained network as what is registered: one Keras model from waveform to probabilities, and its labels beside it."""

import hashlib
import io
import json
import re
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from pydantic import Field, ValidationError, model_validator

from earmark.errors import UserError
from earmark.features.front_ends import FrontEnd
from earmark.params.fields import Closed, Count, Fraction

MODEL = "model.keras"
SETTINGS = "settings.json"


@dataclass(frozen=True)
class Classifier:
    """A loaded model: `model` takes float32 (clips, clip_samples) in [-1, 1] and gives probabilities (clips,
    labels). An answer whose probability is below `rejection_threshold` is none."""

    model: object
    candidate: str
    labels: tuple[str, ...]
    front_end: FrontEnd
    parameters: int
    rejection_threshold: float


class _Settings(Closed):
    """What stands beside a model."""

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


def with_front_end(network, front_end: FrontEnd):
    """`network` behind its front end: a Keras model from waveforms to probabilities, of Keras' own layers only."""
    import keras

    from earmark.features.keras_backend import from_waveforms

    waveforms = keras.Input((front_end.clip_samples,), name="waveform")
    return keras.Model(waveforms, network(from_waveforms(waveforms, front_end)), name=f"{network.name}_on_waveforms")


def save(folder: Path, network, front_end: FrontEnd, labels: tuple[str, ...], rejection_threshold: float) -> None:
    """Writes the model and its settings into `folder`; the same weights give the same bytes."""
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


def read_settings(folder: Path) -> dict:
    """What a saved model is: candidate, labels, front_end, parameters, rejection_threshold; UserError where `folder`
    does not say."""
    try:
        return json.loads((folder / SETTINGS).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        raise UserError(f"{folder} holds no model: {SETTINGS} is missing or damaged") from None


def load(folder: Path) -> Classifier:
    """Reads what `save` wrote, in Keras' safe mode; UserError where `folder` holds no whole model."""
    from earmark.models import backend

    settings = _checked_settings(folder)
    if not zipfile.is_zipfile(folder / MODEL):
        raise UserError(f"{folder} holds no model that can be read: {MODEL} is missing or cut short")
    _require_same(folder)
    backend.start()
    import keras

    try:
        model = keras.saving.load_model(folder / MODEL, compile=False, safe_mode=True)
    except Exception as error:  # whatever Keras raises for what is no model of its own
        raise UserError(f"{folder} holds no model that can be read: {' '.join(str(error).split())[:200]}") from None
    facts = dict(settings)
    facts.pop("sha256")
    return Classifier(model, **facts)


def _checked_settings(folder: Path) -> _Settings:
    try:
        return _Settings.model_validate(read_settings(folder))
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"])) or "the file"
        raise UserError(f"{folder / SETTINGS}: {place}: {first['msg'].removeprefix('Value error, ')}") from None


def _require_same(folder: Path) -> None:
    """UserError where the settings are those of another model, or were changed since."""
    written = read_settings(folder)
    if written.pop("sha256") != _sha256(written, folder / MODEL):
        raise UserError(f"{folder}: {SETTINGS} and {MODEL} are not as they were saved together")


def _sha256(settings: dict, model: Path) -> str:
    """Of what a saved model is and of its bytes: labels and front end of another model are found by it."""
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode() + model.read_bytes()).hexdigest()


def _canonical(archive: bytes) -> bytes:
    """The .keras archive without what differs each time it is saved: the moment, and objects' addresses in memory."""
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
    """`config` with the identities of shared objects counted from 0 in the order in which they come."""
    numbers: dict[str, int] = {}
    return re.sub(
        r'"shared_object_id": (\d+)',
        lambda found: f'"shared_object_id": {numbers.setdefault(found[1], len(numbers))}',
        config,
    )
