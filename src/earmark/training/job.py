"""Prepares the training of one candidate: data, network, and the identity that a checkpoint is matched by."""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from earmark.audio import background_noise
from earmark.dataset import shards
from earmark.errors import TrainingError, UserError
from earmark.features import feature_shards, front_ends
from earmark.features.front_ends import FrontEnd
from earmark.features.reader import FeatureReader
from earmark.io import hashing
from earmark.io.files import AnyPath
from earmark.models.candidates import module_of
from earmark.params import SILENCE, Params
from earmark.params.training import Candidate
from earmark.paths import ACCEPTED, features_folder
from earmark.training.checkpoints import Checkpoint

if TYPE_CHECKING:
    import keras

    from earmark.training.batches import Examples
    from earmark.training.fitting import Recipe, State

PACKAGE = Path(__file__).parents[1]
ROOMS = ("audio", "features", "models", "training")
"""The packages whose code affects the weights."""


@dataclass(frozen=True)
class TrainingData:
    """What one candidate is trained and validated on.

    Attributes:
        clips: the accepted clips of all splits.
        labels: sorted; the network's outputs are in this order.
        noise: background noise of training, (frames, bins), in the stored form of `front_end`.
        validation_noise: the same of validation.
        silence_fraction: clips of silence as a share of the recorded clips.
    """

    clips: pd.DataFrame
    labels: tuple[str, ...]
    front_end: FrontEnd
    training: "Examples"
    validation: "Examples"
    noise: np.ndarray
    validation_noise: np.ndarray
    silence_fraction: float


def read_data(params: Params, candidate: str) -> TrainingData:
    """Reads what `candidate` is trained on.

    Raises:
        UserError: features are missing, damaged or of other settings, or a label or a split has no clips.
    """
    front_end = front_ends.front_end(module_of(candidate).FRONT_END, params)
    stored = front_end.stored
    folder = features_folder(params) / stored.name
    feature_shards.require_settings(folder, stored.settings())
    accepted = shards.read_accepted(ACCEPTED)
    _require_clips(accepted, set(accepted["label"]))
    silence = params.dataset.silence_fraction
    labels = tuple(sorted({*accepted["label"], *([SILENCE] if silence else [])}))
    noise = {split: feature_shards.read_noise(folder, split) for split in ("training", "validation")}

    def examples(split: str) -> "Examples":
        return _examples(folder, accepted[accepted["split"] == split], labels, silence, noise[split], stored)

    training, validation = examples("training"), examples("validation")
    return TrainingData(
        accepted, labels, front_end, training, validation, noise["training"], noise["validation"], silence
    )


def _examples(
    folder: AnyPath,
    clips: pd.DataFrame,
    labels: tuple[str, ...],
    silence: float,
    noise: np.ndarray,
    front_end: FrontEnd,
) -> "Examples":
    from earmark.training.batches import Examples
    from earmark.training.silence import WithSilence

    codes = pd.Series(range(len(labels)), index=labels)
    clip_codes = codes[clips["label"]].to_numpy()
    reader = FeatureReader(folder, clips)
    silences = round(silence * len(clips))
    if not silences:
        return Examples(reader, clip_codes)
    if len(noise) <= front_end.frames:
        raise UserError(
            f"params.yaml: dataset.silence_fraction {silence} needs background noise; expected 0.0, or recordings of"
            f" noise at least {round(1 / min(background_noise.SHARES.values()))} times as long as a clip"
        )
    all_codes = np.r_[clip_codes, np.full(silences, codes[SILENCE])]
    return Examples(WithSilence(reader, len(clips), silences, noise, front_end), all_codes)


def recipe(data: TrainingData, candidate: str, settings: Candidate, seed: int) -> "Recipe":
    """Returns how `candidate` is trained on `data`.

    Its `build` raises TrainingError if the network does not fit the clips.
    """
    from earmark.training.fitting import Recipe

    front_end = data.front_end

    def build() -> "keras.Model":
        try:
            shape = front_end.frames, front_end.bins
            return module_of(candidate).build(shape, len(data.labels), **settings.network)
        except (TypeError, ValueError) as error:
            reason = " ".join(str(error).split())[:300]
            raise TrainingError(
                f"params.yaml: train.candidates.{candidate}.network does not fit clips of {front_end.frames} frames:"
                f" {reason}"
            ) from None

    return Recipe(build, front_end, data.noise, len(data.labels), settings, seed)


def notes(data: TrainingData, settings: Candidate) -> list[str]:
    """Where `data` lacks what `settings` ask for: what is done instead, a line each."""
    lines = []
    if settings.augmentation.noise_probability and len(data.noise) <= data.front_end.frames:
        lines.append("the data set has no background noise as long as a clip: none is mixed in")
    if settings.batch_size > len(data.training.labels):
        lines.append(f"batch_size {settings.batch_size}: one batch holds all {len(data.training.labels)} clips")
    return lines


def identity(data: TrainingData, settings: Candidate, seed: int) -> str:
    """SHA-256 over everything that determines the weights: data, settings, seed, code, libraries and devices."""
    import keras

    from earmark.models import backend

    clips = data.clips[["id", "label", "split", "shard", "member"]]
    return hashlib.sha256(
        json.dumps(
            [
                hashlib.sha256(clips.to_csv(index=False).encode()).hexdigest(),
                [hashlib.sha256(noise.tobytes()).hexdigest() for noise in (data.noise, data.validation_noise)],
                data.silence_fraction,
                data.front_end.settings(),
                settings.model_dump(mode="json"),
                seed,
                [hashing.content_sha256(PACKAGE / room, "*.py") for room in ROOMS],
                backend.devices(),
                [keras.__version__, np.__version__, backend.version()],
            ]
        ).encode()
    ).hexdigest()


def state_in(checkpoint: Checkpoint | None) -> "State | None":
    """The state that `checkpoint_of` saved."""
    from earmark.training.fitting import State

    if checkpoint is None:
        return None
    return State(checkpoint.rows, checkpoint.lists["weights"], checkpoint.lists["variables"])


def checkpoint_of(state: "State", identity: str, run_id: str) -> Checkpoint:
    """A checkpoint from which the training resumes at `state`."""
    return Checkpoint(identity, run_id, state.rows, {"weights": state.weights, "variables": state.variables})


def _require_clips(accepted: pd.DataFrame, labels: set[str]) -> None:
    if len(labels) < 2:
        raise UserError(f"{ACCEPTED} has clips of {len(labels)} label; expected at least two labels")
    for split in ("training", "validation"):
        clips = accepted[accepted["split"] == split]
        if clips.empty:
            speakers = accepted["speaker"].nunique()
            raise UserError(
                f"{ACCEPTED} has no {split} clips, with {speakers} speakers in all;"
                " expected more speakers, or split.method random in params.yaml"
            )
        if split == "training" and (absent := labels - set(clips["label"])):
            raise UserError(
                f"the label {min(absent)!r} has no training clips; expected recordings of it by more speakers,"
                " or dataset.labels without it"
            )
