"""Fits one network to features with Keras. The same arguments give the same weights, even after resuming."""

import math
import time
from collections.abc import Callable, Mapping
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
"""Clips in a validation batch for each device."""


Row = dict[str, float]
"""The figures of one epoch."""


@dataclass(frozen=True)
class Recipe:
    """What is trained, and how.

    Attributes:
        build: returns the untrained network from features of `front_end` to probabilities of `labels` labels.
        noise: background noise, (frames, bins), in the stored form of `front_end`.
    """

    build: Callable[[], keras.Model]
    front_end: FrontEnd
    noise: np.ndarray
    labels: int
    settings: Candidate
    seed: int


@dataclass(frozen=True)
class State:
    """A training after an epoch.

    Attributes:
        rows: one row an epoch: epoch (from 1), loss, accuracy, validation_loss, validation_accuracy, learning_rate,
            seconds.
        weights: the result if the training ended now: averaged weights, of the best epoch if early stopping is on.
        variables: everything that the next epoch starts from: weights, optimiser, averages, schedule, random
            generators.
    """

    rows: tuple[Row, ...]
    weights: list[np.ndarray]
    variables: list[np.ndarray]

    @property
    def best(self) -> Row:
        """The row with the lowest validation loss, the first of equal ones."""
        return min(self.rows, key=lambda row: row["validation_loss"])

    def selected_row(self, settings: Candidate) -> Row:
        """The row of the epoch that `weights` are from."""
        return self.best if settings.early_stopping_epochs else self.rows[-1]


class Watch(Protocol):
    """Receives the progress of a training."""

    def batch(self, clips: int, loss: float) -> None:
        """Called after a batch of so many clips; `loss` is the mean of the epoch so far."""

    def epoch(self, state: State) -> None:
        """Called after an epoch."""


def fit(recipe: Recipe, training: Examples, validation: Examples, watch: Watch, state: State | None = None) -> State:
    """Trains from the beginning, or from `state`, to the end, and returns the last state.

    Raises:
        TrainingError: the loss is not finite, or a batch cannot be divided among the devices.
    """
    keras.utils.set_random_seed(recipe.seed)
    settings = recipe.settings
    epochs = epoch_count(settings)
    device_count = len(backend.devices())
    if state and is_over(state, settings):
        return state
    batches = _training_batches(recipe, training, device_count)
    with devices.all_devices(), backend.precision(settings.precision):
        network = recipe.build()
        model = _compiled(network, recipe, steps=epochs * len(batches))
        if state:
            _assign(_variables(model), state.variables)
        callback = _Epochs(
            network,
            lambda: _validated(model, recipe, validation, VALIDATION_CLIPS * device_count),
            batches,
            settings,
            watch,
            state,
        )
        feed = devices.feed(batches)
        done = len(state.rows) if state else 0
        try:
            model.fit(feed, epochs=epochs, initial_epoch=done, shuffle=False, verbose=0, callbacks=[callback])
        except Exception:
            if batches.failure:
                raise batches.failure from None
            raise
    if callback.state is None:
        raise RuntimeError("Keras ended the training before its first epoch")
    return callback.state


def epoch_count(settings: Candidate) -> int:
    """The number of epochs of settings in which `Train.candidate` has filled it in."""
    if settings.epochs is None:
        raise ValueError("epochs: None is not filled in; expected settings from Train.candidate")
    return settings.epochs


def _training_batches(recipe: Recipe, training: Examples, device_count: int) -> TrainingBatches:
    batches = TrainingBatches(training, recipe.labels, recipe.settings, recipe.seed, device_count)
    if not batches.clips:
        clips = min(recipe.settings.batch_size, len(training.labels))
        raise TrainingError(
            f"batch_size: a batch of {clips} clips cannot be divided among {device_count} devices; expected a"
            f" batch_size of at least {batches.least_clips}, and as many training clips"
        )
    return batches


def _compiled(network: keras.Model, recipe: Recipe, steps: int) -> keras.Model:
    """The model that is trained, with an optimiser for a training of `steps` steps."""
    settings = recipe.settings
    model = _model(network, recipe)
    model.compile(
        optimizer=optimizer(settings.optimizer, steps, settings.average_momentum),
        loss=keras.losses.CategoricalCrossentropy(label_smoothing=settings.label_smoothing),
        metrics=["accuracy"],
    )
    model.optimizer.build(model.trainable_variables)
    return model


def is_over(state: State, settings: Candidate) -> bool:
    """Whether a training has finished its epochs, or has not improved for `early_stopping_epochs`."""
    waited = len(state.rows) - state.best["epoch"]
    return len(state.rows) >= epoch_count(settings) or 0 < settings.early_stopping_epochs <= waited


def optimizer(settings: Optimizer, steps: int, average_momentum: float) -> keras.optimizers.Optimizer:
    """Returns the optimiser of `settings` for a training of `steps` steps."""
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
    # AdamW does not accept None; for the others, None means no decay.
    decay = settings.weight_decay if settings.name == "adamw" else settings.weight_decay or None
    return (with_growing_average(kind) if average_momentum else kind)(rate, weight_decay=decay, **extra, **averaging)


def with_growing_average(kind: type[keras.optimizers.Optimizer]) -> type[keras.optimizers.Optimizer]:
    """Returns a subclass of the optimiser `kind` whose moving average of weights forgets the first steps quickly.

    After `step` updates, the momentum is the smaller of `ema_momentum` and (1 + step) / (10 + step), so that about the
    last tenth of the steps is averaged: the schedule of TensorFlow's `tf.train.ExponentialMovingAverage(num_updates)`.
    """

    class Averaged(kind):  # type: ignore[misc]  # Keras has no types
        @property
        def ema_momentum(self) -> keras.KerasTensor:
            step = keras.ops.cast(self.iterations, "float32")
            return keras.ops.minimum(self._highest_momentum, (1 + step) / (10 + step))

        @ema_momentum.setter
        def ema_momentum(self, highest: float) -> None:
            self._highest_momentum = highest

    return Averaged


def _model(network: keras.Model, recipe: Recipe) -> keras.Model:
    """Puts augmentation, mixup and the rest of the front end before `network`; takes stored features (and shares)."""
    stored = recipe.front_end.stored
    inputs = features = keras.Input((stored.frames, stored.bins), dtype="float16")
    settings = recipe.settings.augmentation
    features = Augmentation(settings, stored, recipe.noise, recipe.seed)(features)
    if settings.mixup_alpha:
        share = keras.Input((1, 1))
        inputs, features = [inputs, share], Mixup(dtype="float32")(features, share)
    return keras.Model(inputs, network(from_stored(features, recipe.front_end)))


def _validated(model: keras.Model, recipe: Recipe, validation: Examples, clips: int) -> tuple[float, float]:
    """Returns mean loss and accuracy on the validation clips."""
    smoothing = recipe.settings.label_smoothing
    losses, hits = [], []
    mixup = bool(recipe.settings.augmentation.mixup_alpha)
    for inputs, one_hot in validation_batches(validation, recipe.labels, mixup, clips):
        probabilities = np.asarray(model.predict_on_batch(devices.distribute_inputs(inputs)), np.float64)[
            : len(one_hot)
        ]
        target = one_hot * (1 - smoothing) + smoothing / recipe.labels
        losses.append(-(target * np.log(np.maximum(probabilities, keras.config.epsilon()))).sum(axis=1))
        hits.append(probabilities.argmax(axis=1) == one_hot.argmax(axis=1))
    return float(np.concatenate(losses).mean()), float(np.concatenate(hits).mean())


def _require_finite(value: float, name: str) -> None:
    if not math.isfinite(value):
        raise TrainingError(f"{name} is {value}; expected a finite number: lower optimizer.learning_rate")


def _variables(model: keras.Model) -> list[keras.Variable]:
    return [*model.variables, *model.optimizer.variables]


def _values(variables: list[keras.Variable]) -> list[np.ndarray]:
    return [np.array(keras.ops.convert_to_numpy(variable)) for variable in variables]


def _assign(variables: list[keras.Variable], values: list[np.ndarray]) -> None:
    for variable, value in zip(variables, values, strict=True):
        variable.assign(value)


class _Epochs(keras.callbacks.Callback):  # type: ignore[misc]  # Keras has no types
    """After each epoch: averages the weights, validates, keeps the best, reports the state, and stops early."""

    def __init__(
        self,
        network: keras.Model,
        validate: Callable[[], tuple[float, float]],
        batches: TrainingBatches,
        settings: Candidate,
        watch: Watch,
        state: State | None,
    ):
        super().__init__()
        self.state = state
        self._network, self._validate, self._batches = network, validate, batches
        self._settings, self._watch = settings, watch

    def on_epoch_begin(self, epoch: int, logs: object = None) -> None:
        """Draws the epoch's batches."""
        self._began = time.perf_counter()
        self._batches.begin(epoch)

    def on_train_batch_end(self, batch: int, logs: Mapping[str, float]) -> None:
        """Reports the batch."""
        self._watch.batch(self._batches.clips, logs["loss"])

    def on_epoch_end(self, epoch: int, logs: Mapping[str, float]) -> None:
        """Validates and keeps the averaged weights, and leaves the model with those that the next epoch needs."""
        _require_finite(logs["loss"], f"the loss of epoch {epoch + 1}")
        rate = float(keras.ops.convert_to_numpy(self.model.optimizer.learning_rate))
        variables = _values(_variables(self.model))
        self.model.optimizer.finalize_variable_values(self.model.trainable_variables)
        validation_loss, validation_accuracy = self._validate()
        _require_finite(validation_loss, f"the validation loss of epoch {epoch + 1}")
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

    def _end(self, row: Row, averaged: list[np.ndarray], variables: list[np.ndarray]) -> None:
        previous = self.state
        state = State((*(previous.rows if previous else ()), row), averaged, variables)
        if previous and self._settings.early_stopping_epochs and state.best is not row:
            state = State(state.rows, previous.weights, variables)
        self.state = state
        self.model.stop_training = is_over(state, self._settings)
        self._watch.epoch(state)
