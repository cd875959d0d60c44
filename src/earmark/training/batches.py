"""Examples as batches: drawn anew for each epoch from (seed, epoch) in training, always the same in validation."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Protocol

import keras
import numpy as np

from earmark.params.training import Candidate


class Epoch(Protocol):
    """One pass over clips: their numbers in `order`, and the features of order[start:stop], float16 (clips, frames,
    bins)."""

    order: np.ndarray

    def rows(self, start: int, stop: int) -> np.ndarray: ...


class Features(Protocol):
    """Clips to pass over: in an order drawn by a generator, each as often as `repeats` says; or once, in an order that
    is always the same."""

    def epoch(self, generator: np.random.Generator | None = None, repeats: np.ndarray | None = None) -> Epoch: ...


@dataclass(frozen=True)
class Examples:
    """Clips, and the index of each one's label, int32 (clips,)."""

    features: Features
    labels: np.ndarray


class TrainingBatches(keras.utils.PyDataset):
    """Batches of features and one-hot labels, all of one size, of the epoch that was begun last.

    Clips that fill no whole batch are left out, others in each epoch; where there are fewer clips than a batch wants,
    one batch holds all. A batch can be divided among `devices`; it has no `clips` where that leaves none. The features
    have their share for `Mixup` beside them where that is on, and labels are mixed: two neighbours in a batch are each
    other's partners, so that partners come to one device; the last of an odd number is its own. Where features could
    not be read, `failure` is why: Keras' backends wrap what is raised beyond recognition.
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

    def __getitem__(self, index: int) -> tuple:
        return self.batch_of_epoch(index)

    def begin(self, epoch: int) -> None:
        """Draws an epoch, which depends on the seed and its number only."""
        generator = np.random.default_rng([self._seed, epoch])
        labels, alpha = self._examples.labels, self._settings.augmentation.mixup_alpha
        repeats = balancing_repeats(labels, generator) if self._settings.balanced_sampling else None
        drawn = self._examples.features.epoch(generator, repeats)
        shares = generator.beta(alpha, alpha, len(labels)).astype(np.float32) if alpha else None
        self.batch_of_epoch = partial(self._batch, drawn, shares)

    def _batch(self, drawn: Epoch, shares: np.ndarray | None, index: int) -> tuple:
        rows = slice(index * self.clips, (index + 1) * self.clips)
        try:
            features = drawn.rows(rows.start, rows.stop)
        except Exception as error:
            self.failure = error
            raise
        one_hot = _one_hot(self._examples.labels[drawn.order[rows]], self._labels)
        if shares is None:
            return features, one_hot
        share = shares[rows, None]
        partners = np.minimum(np.arange(self.clips) ^ 1, self.clips - 1)
        return (features, share[:, None]), share * one_hot + (1 - share) * one_hot[partners]


def validation_batches(examples: Examples, labels: int, mixup: bool, clips: int) -> Iterator[tuple]:
    """Every example once: batches of `clips` features, the last one filled up with silence, and the one-hot labels of
    those that are examples; with a share of 1 where `mixup` is on."""
    epoch = examples.features.epoch()
    for start in range(0, len(examples.labels), clips):
        features = epoch.rows(start, start + clips)
        one_hot = _one_hot(examples.labels[epoch.order[start : start + clips]], labels)
        filled = np.zeros((clips, *features.shape[1:]), features.dtype)
        filled[: len(features)] = features
        yield ((filled, np.ones((clips, 1, 1), np.float32)) if mixup else filled), one_hot


def balancing_repeats(labels: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """How often each clip comes in an epoch in which every label is heard equally often: int (clips,), as many in all
    as there are clips.

    A clip comes 1 / (its label's share x labels) times on average; the fractions are drawn systematically.
    """
    present, label, counts = np.unique(labels, return_inverse=True, return_counts=True)
    wanted = np.cumsum(len(labels) / len(present) / counts[label])
    wanted[-1] = len(labels)
    return np.diff(np.floor(wanted + generator.uniform()), prepend=0).astype(int)


def _one_hot(labels: np.ndarray, count: int) -> np.ndarray:
    return np.eye(count, dtype=np.float32)[labels]
