"""Fits one network to features. Keras speaks for the backend; the same arguments give the same weights, also where a
training goes on from a state that it was in."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import keras
import numpy as np

from earmark.errors import TrainingError
from earmark.features.front_ends import FrontEnd
from earmark.features.keras_backend import from_stored
from earmark.models import backend
from earmark.params.training import Candidate, Optimizer
from earmark.training import devices
from earmark.training.augmentation import Augmentation, Mixup
from earmark.training.batches import Examples, TrainingBatches, validation_batches

VALIDATION_CLIPS = 256
"""Clips of one validation batch, for each device that it may be divided among."""


@dataclass(frozen=True)
class Recipe:
    """What is trained and how: `build` gives the untrained network from features of `front_end` to probabilities of
    `labels` labels; `noise` is background noise, (frames, bins), as shards hold it for that front end."""

    build: Callable[[], keras.Model]
    front_end: FrontEnd
    noise: np.ndarray
    labels: int
    settings: Candidate
    seed: int


@dataclass(frozen=True)
class State:
    """Where a training stands after an epoch.

    Attributes:
        rows: one an epoch: epoch (from 1), loss, accuracy, validation_loss, validation_accuracy, learning_rate,
            seconds.
        weights: those of the network that the training would end with now: averaged, and of the best epoch where it
            stops early.
        variables: all that the next epoch begins with: weights, optimiser, averages, schedule, random generators.
    """

    rows: tuple[dict, ...]
    weights: list[np.ndarray]
    variables: list[np.ndarray]

    @property
    def best(self) -> dict:
        """The row with the lowest validation loss, the first of equals."""
        return min(self.rows, key=lambda row: row["validation_loss"])

    def selected_row(self, settings: Candidate) -> dict:
        """The row that `weights` are of."""
        return self.best if settings.early_stopping_epochs else self.rows[-1]


class Watch(Protocol):
    """Is told how a training goes on."""

    def batch(self, clips: int, loss: float) -> None:
        """So many more clips were trained on; `loss` is the epoch's until now."""

    def epoch(self, state: State) -> None:
        """An epoch has ended."""


def fit(recipe: Recipe, training: Examples, validation: Examples, watch: Watch, state: State | None = None) -> State:
    """Trains from the beginning, or on from `state`, to the end; TrainingError where the loss stops being a number, or
    a batch cannot be divided among the devices."""
    keras.utils.set_random_seed(recipe.seed)
    settings = recipe.settings
    done = len(state.rows) if state else 0
    device_count = len(backend.devices())
    if state and is_over(state, settings):
        return state
    batches = TrainingBatches(training, recipe.labels, settings, recipe.seed, device_count)
    if not batches.clips:
        raise TrainingError(
            f"a batch of {min(settings.batch_size, len(training.labels))} clips cannot be divided among {device_count}"
            f" devices; allowed are at least {batches.least_clips} clips, and a batch_size of as many"
        )
    with devices.all_devices(), backend.precision(settings.precision):
        network = recipe.build()
        model = _model(network, recipe)
        model.compile(
            optimizer=optimizer(settings.optimizer, settings.epochs * len(batches), settings.average_momentum),
            loss=keras.losses.CategoricalCrossentropy(label_smoothing=settings.label_smoothing),
            metrics=["accuracy"],
        )
        model.optimizer.build(model.trainable_variables)
        if state:
            _assign(_variables(model), state.variables)
        epochs = _Epochs(
            network,
            lambda: _validated(model, recipe, validation, VALIDATION_CLIPS * device_count),
            batches,
            settings,
            watch,
            state,
        )
        feed = devices.feed(batches)
        try:
            model.fit(feed, epochs=settings.epochs, initial_epoch=done, shuffle=False, verbose=0, callbacks=[epochs])
        except Exception:
            if batches.failure:
                raise batches.failure from None
            raise
    return epochs.state


def is_over(state: State, settings: Candidate) -> bool:
    """Whether a training has had all its epochs, or has not got better for as many as its settings allow."""
    waited = len(state.rows) - state.best["epoch"]
    return len(state.rows) >= settings.epochs or 0 < settings.early_stopping_epochs <= waited


def optimizer(settings: Optimizer, steps: int, average_momentum: float) -> keras.optimizers.Optimizer:
    """The optimiser of `settings` for a training of `steps` steps."""
    rate: float | keras.optimizers.schedules.LearningRateSchedule = settings.learning_rate
    warmup = round(settings.warmup_fraction * steps)
    if settings.decay == "cosine":
        rate = keras.optimizers.schedules.CosineDecay(
            0.0 if warmup else rate, max(1, steps - warmup), warmup_target=rate if warmup else None, warmup_steps=warmup
        )
    averaging = {"use_ema": True, "ema_momentum": average_momentum} if average_momentum else {}
    kind = {"adadelta": keras.optimizers.Adadelta, "adamw": keras.optimizers.AdamW, "sgd": keras.optimizers.SGD}[
        settings.name
    ]
    extra = {"momentum": 0.9, "nesterov": True} if settings.name == "sgd" else {}
    # AdamW takes no None; the others take None for none.
    decay = settings.weight_decay if settings.name == "adamw" else settings.weight_decay or None
    return (with_growing_average(kind) if average_momentum else kind)(rate, weight_decay=decay, **extra, **averaging)


def with_growing_average(kind: type[keras.optimizers.Optimizer]) -> type[keras.optimizers.Optimizer]:
    """The optimiser `kind`, whose moving average of the weights does not hold the first ones for long.

    After `step` updates its momentum is the lesser of `ema_momentum` and (1 + step) / (10 + step), which averages about
    the last tenth of the steps so far: the schedule of TensorFlow's `tf.train.ExponentialMovingAverage(num_updates)`.
    """

    class Averaged(kind):
        @property
        def ema_momentum(self):
            step = keras.ops.cast(self.iterations, "float32")
            return keras.ops.minimum(self._highest_momentum, (1 + step) / (10 + step))

        @ema_momentum.setter
        def ema_momentum(self, highest: float):
            self._highest_momentum = highest

    return Averaged


def _model(network: keras.Model, recipe: Recipe) -> keras.Model:
    """`network` behind what training puts in front of it: from what shards hold, and shares for mixup."""
    stored = recipe.front_end.stored
    inputs = features = keras.Input((stored.frames, stored.bins), dtype="float16")
    settings = recipe.settings.augmentation
    features = Augmentation(settings, stored, recipe.noise, recipe.seed)(features)
    if settings.mixup_alpha:
        share = keras.Input((1, 1))
        inputs, features = [inputs, share], Mixup(dtype="float32")(features, share)
    return keras.Model(inputs, network(from_stored(features, recipe.front_end)))


def _validated(model: keras.Model, recipe: Recipe, validation: Examples, clips: int) -> tuple[float, float]:
    """Mean loss and accuracy."""
    smoothing = recipe.settings.label_smoothing
    losses, hits = [], []
    mixup = bool(recipe.settings.augmentation.mixup_alpha)
    for inputs, one_hot in validation_batches(validation, recipe.labels, mixup, clips):
        probabilities = np.asarray(model.predict_on_batch(devices.distribute_inputs(inputs)), np.float64)[
            : len(one_hot)
        ]
        wanted = one_hot * (1 - smoothing) + smoothing / recipe.labels
        losses.append(-(wanted * np.log(np.maximum(probabilities, keras.config.epsilon()))).sum(axis=1))
        hits.append(probabilities.argmax(axis=1) == one_hot.argmax(axis=1))
    return float(np.concatenate(losses).mean()), float(np.concatenate(hits).mean())


def _require_number(value: float, what: str) -> None:
    if not math.isfinite(value):
        raise TrainingError(f"{what} is {value}; allowed is a number: lower optimizer.learning_rate")


def _variables(model: keras.Model) -> list:
    return [*model.variables, *model.optimizer.variables]


def _values(variables: list) -> list[np.ndarray]:
    return [np.array(keras.ops.convert_to_numpy(variable)) for variable in variables]


def _assign(variables: list, values: list[np.ndarray]) -> None:
    for variable, value in zip(variables, values, strict=True):
        variable.assign(value)


class _Epochs(keras.callbacks.Callback):
    """Ends each epoch: averages the weights, validates, keeps the best, hands on the state, and stops early."""

    def __init__(
        self, network, validate, batches: TrainingBatches, settings: Candidate, watch: Watch, state: State | None
    ):
        super().__init__()
        self.state = state
        self._network, self._validate, self._batches = network, validate, batches
        self._settings, self._watch = settings, watch

    def on_epoch_begin(self, epoch, logs=None):
        self._began = time.perf_counter()
        self._batches.begin(epoch)

    def on_train_batch_end(self, batch, logs=None):
        """Tells of the batch."""
        self._watch.batch(self._batches.clips, logs["loss"])

    def on_epoch_end(self, epoch, logs=None):
        """Leaves the model as the next epoch needs it: what is validated and kept are the averages."""
        _require_number(logs["loss"], f"the loss of epoch {epoch + 1}")
        rate = float(keras.ops.convert_to_numpy(self.model.optimizer.learning_rate))
        variables = _values(_variables(self.model))
        self.model.optimizer.finalize_variable_values(self.model.trainable_variables)
        validation_loss, validation_accuracy = self._validate()
        _require_number(validation_loss, f"the validation loss of epoch {epoch + 1}")
        averaged = self._network.get_weights()
        _assign(_variables(self.model), variables)
        row = {
            "epoch": epoch + 1,
            "loss": float(logs["loss"]),
            "accuracy": float(logs["accuracy"]),
            "validation_loss": validation_loss,
            "validation_accuracy": validation_accuracy,
            "learning_rate": rate,
            "seconds": time.perf_counter() - self._began,
        }
        self._end(row, averaged, variables)

    def _end(self, row: dict, averaged: list[np.ndarray], variables: list[np.ndarray]) -> None:
        before = self.state
        state = State((*(before.rows if before else ()), row), averaged, variables)
        if self._settings.early_stopping_epochs and state.best is not row:
            state = State(state.rows, before.weights, variables)
        self.state = state
        self.model.stop_training = is_over(state, self._settings)
        self._watch.epoch(state)
