"""Fits one network to features. Keras speaks for the backend; the same arguments give the same weights."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import keras
import numpy as np
import pandas as pd

from earmark.audio.front_ends import FrontEnd
from earmark.audio.graph_front_end import of_stored
from earmark.errors import UserError
from earmark.params import Candidate, Optimizer


class Epoch(Protocol):
    """One pass over clips: their numbers in `order`, and the features of order[start:stop], float16 (clips, frames,
    bins)."""

    order: np.ndarray

    def rows(self, start: int, stop: int) -> np.ndarray: ...


class Features(Protocol):
    """Clips to pass over: in an order drawn by a generator, or in one that is always the same."""

    def epoch(self, generator: np.random.Generator | None = None) -> Epoch: ...


@dataclass(frozen=True)
class Examples:
    """Clips, and the index of each one's label, int32 (clips,)."""

    features: Features
    labels: np.ndarray


class Batches(keras.utils.PyDataset):
    """Batches of examples; shuffled anew each epoch from `seed`, or always the same where `seed` is None."""

    def __init__(self, examples: Examples, labels: int, batch_size: int, seed: int | None):
        super().__init__()
        self._examples, self._labels, self._size = examples, labels, batch_size
        self._generator = None if seed is None else np.random.default_rng(seed)
        self.on_epoch_end()

    def __len__(self) -> int:
        return -(-len(self._examples.labels) // self._size)

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        start, stop = index * self._size, (index + 1) * self._size
        one_hot = np.eye(self._labels, dtype=np.float32)[self._examples.labels[self._epoch.order[start:stop]]]
        return self._epoch.rows(start, stop).astype(np.float32), one_hot

    def on_epoch_end(self) -> None:
        """Draws the next epoch's order."""
        self._epoch = self._examples.features.epoch(self._generator)


def fit(
    network: keras.Model,
    front_end: FrontEnd,
    augmentation: keras.layers.Layer,
    training: Examples,
    validation: Examples,
    labels: int,
    settings: Candidate,
    seed: int,
    on_epoch: Callable[[dict], None],
) -> pd.DataFrame:
    """Trains `network` in place; returns one row an epoch, which `on_epoch` is given as each ends.

    The examples are what shards hold for `front_end`, through which `network` listens. Columns: epoch (from 1), loss,
    accuracy, validation_loss, validation_accuracy, learning_rate, seconds. UserError where the
    loss stops being a number.
    """
    stored = keras.Input((front_end.stored.frames, front_end.stored.bins))
    model = keras.Model(stored, network(of_stored(augmentation(stored), front_end)))
    batches = Batches(training, labels, settings.batch_size, seed)
    model.compile(
        optimizer=optimizer(settings.optimizer, settings.epochs * len(batches), settings.average_momentum),
        loss=keras.losses.CategoricalCrossentropy(label_smoothing=settings.label_smoothing),
        metrics=["accuracy"],
        jit_compile=False,
    )
    history = _History(on_epoch)
    averaging = [keras.callbacks.SwapEMAWeights(swap_on_epoch=True)] if settings.average_momentum else []
    model.fit(
        batches,
        validation_data=Batches(validation, labels, 256, None),
        epochs=settings.epochs,
        shuffle=False,
        verbose=0,
        callbacks=[*averaging, history],
    )
    return pd.DataFrame(history.rows)


def optimizer(settings: Optimizer, steps: int, average_momentum: float) -> keras.optimizers.Optimizer:
    """The optimiser of `settings` for a training of `steps` steps."""
    rate: float | keras.optimizers.schedules.LearningRateSchedule = settings.learning_rate
    warmup = round(settings.warmup_fraction * steps)
    if settings.decay == "cosine":
        rate = keras.optimizers.schedules.CosineDecay(
            0.0 if warmup else rate, max(1, steps - warmup), warmup_target=rate if warmup else None, warmup_steps=warmup
        )
    averaging = {"use_ema": True, "ema_momentum": average_momentum} if average_momentum else {}
    kinds = {"adadelta": keras.optimizers.Adadelta, "adamw": keras.optimizers.AdamW, "sgd": keras.optimizers.SGD}
    extra = {"momentum": 0.9, "nesterov": True} if settings.name == "sgd" else {}
    # AdamW takes no None; the others take None for none.
    decay = settings.weight_decay if settings.name == "adamw" else settings.weight_decay or None
    return kinds[settings.name](rate, weight_decay=decay, **extra, **averaging)


class _History(keras.callbacks.Callback):
    def __init__(self, on_epoch: Callable[[dict], None]):
        super().__init__()
        self.rows: list[dict] = []
        self._on_epoch = on_epoch

    def on_epoch_begin(self, epoch, logs=None):
        self._started = time.perf_counter()

    def on_epoch_end(self, epoch, logs=None):
        """Keeps and reports the epoch's figures."""
        row = {
            "epoch": epoch + 1,
            "loss": float(logs["loss"]),
            "accuracy": float(logs["accuracy"]),
            "validation_loss": float(logs["val_loss"]),
            "validation_accuracy": float(logs["val_accuracy"]),
            "learning_rate": float(keras.ops.convert_to_numpy(self.model.optimizer.learning_rate)),
            "seconds": time.perf_counter() - self._started,
        }
        if not np.isfinite(row["loss"]):
            raise UserError(
                f"the loss of epoch {row['epoch']} is {row['loss']}; allowed is a number: lower optimizer.learning_rate"
            )
        self.rows.append(row)
        self._on_epoch(row)
