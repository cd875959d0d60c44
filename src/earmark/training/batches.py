"""Batches of examples: drawn for each epoch from (seed, epoch) in training, always the same in validation."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Protocol

import keras
import numpy as np

from earmark.params.training import Candidate

Inputs = np.ndarray | tuple[np.ndarray, np.ndarray]
"""Features (clips, frames, bins), with their shares (clips, 1, 1) if mixup is on."""
Batch = tuple[Inputs, np.ndarray]
"""Inputs and one-hot labels, float32 (clips, labels)."""


class Epoch(Protocol):
    """One pass over the clips."""

    @property
    def order(self) -> np.ndarray:
        """The clips' numbers, int (clips,)."""

    @property
    def rows(self) -> Callable[[int, int], np.ndarray]:
        """Reads the features of order[start:stop], float16 (clips, frames, bins)."""


class Features(Protocol):
    """The features of a set of clips."""

    def epoch(self, generator: np.random.Generator | None = None, repeats: np.ndarray | None = None) -> Epoch:
        """Returns an epoch in an order drawn by `generator`, or without one always in the same order.

        Each clip comes once, or as often as `repeats`, int (clips,), says.
        """


@dataclass(frozen=True)
class Examples:
    """Clips and the indices of their labels, int32 (clips,)."""

    features: Features
    labels: np.ndarray


class TrainingBatches(keras.utils.PyDataset):  # type: ignore[misc]  # Keras has no types
    """Batches of features and one-hot labels, all of one size, of the epoch that was begun last.

    Clips that fill no whole batch are left out, different ones in each epoch. If there are fewer clips than
    `batch_size`, one batch holds all. With mixup, the features come with their shares for `Mixup`, and labels are
    mixed: neighbours in a batch are partners, so that both are on one device; the last clip of an odd number is its own
    partner.

    Attributes:
        clips: size of a batch, a multiple of `least_clips`; 0 if there are too few clips to divide among `devices`.
        failure: why features could not be read; Keras' backends wrap exceptions beyond recognition.
    """

    def __init__(self, examples: Examples, labels: int, settings: Candidate, seed: int, devices: int = 1):
        super().__init__()
        self._examples, self._labels, self._settings, self._seed = examples, labels, settings, seed
        self.failure: BaseException | None = None
        paired = settings.augmentation.mixup_alpha > 0 and devices > 1
        self.least_clips = 2 * devices if paired else devices
        self.clips = min(settings.batch_size, len(examples.labels)) // self.least_clips * self.least_clips
        self.begin(0)

    def __len__(self) -> int:
        return len(self._examples.labels) // self.clips

    def __getitem__(self, index: int) -> Batch:
        return self.batch_of_epoch(index)

    def begin(self, epoch: int) -> None:
        """Draws an epoch, which depends on the seed and the epoch's number only."""
        generator = np.random.default_rng([self._seed, epoch])
        labels, alpha = self._examples.labels, self._settings.augmentation.mixup_alpha
        repeats = balancing_repeats(labels, generator) if self._settings.balanced_sampling else None
        features = self._examples.features.epoch(generator, repeats)
        shares = generator.beta(alpha, alpha, len(labels)).astype(np.float32) if alpha else None
        self.batch_of_epoch = partial(self._batch, features, shares)

    def _batch(self, epoch: Epoch, shares: np.ndarray | None, index: int) -> Batch:
        rows = slice(index * self.clips, (index + 1) * self.clips)
        try:
            features = epoch.rows(rows.start, rows.stop)
        except Exception as error:
            self.failure = error
            raise
        one_hot = _one_hot(self._examples.labels[epoch.order[rows]], self._labels)
        if shares is None:
            return features, one_hot
        share = shares[rows, None]
        partners = np.minimum(np.arange(self.clips) ^ 1, self.clips - 1)
        return (features, share[:, None]), share * one_hot + (1 - share) * one_hot[partners]


def validation_batches(examples: Examples, labels: int, mixup: bool, clips: int) -> Iterator[Batch]:
    """Yields every example once, in batches of `clips` features with the one-hot labels of the examples among them.

    The last batch is padded with zero features. With `mixup`, each clip has a share of 1.
    """
    epoch = examples.features.epoch()
    for start in range(0, len(examples.labels), clips):
        features = epoch.rows(start, start + clips)
        one_hot = _one_hot(examples.labels[epoch.order[start : start + clips]], labels)
        filled = np.zeros((clips, *features.shape[1:]), features.dtype)
        filled[: len(features)] = features
        yield ((filled, np.ones((clips, 1, 1), np.float32)) if mixup else filled), one_hot


def balancing_repeats(labels: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Returns how often each clip comes in an epoch in which all labels are equally frequent.

    The result is int (clips,), and sums to the number of clips. A clip comes 1 / (its label's share x labels) times on
    average; fractions are resolved by systematic sampling.
    """
    present, label, counts = np.unique(labels, return_inverse=True, return_counts=True)
    cumulated = np.cumsum(len(labels) / len(present) / counts[label])
    cumulated[-1] = len(labels)
    return np.diff(np.floor(cumulated + generator.uniform()), prepend=0).astype(int)


def _one_hot(labels: np.ndarray, count: int) -> np.ndarray:
    one_hot: np.ndarray = np.eye(count, dtype=np.float32)[labels]
    return one_hot
