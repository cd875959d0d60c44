"""What tests of training stand on: clips in memory, a network of a few weights, and nobody who watches."""

from types import SimpleNamespace

import numpy as np

from earmark.learning.batches import Examples


class _InMemory:
    """Clips that are an array, in an order drawn as the feature reader's is."""

    def __init__(self, features: np.ndarray):
        self._features = features

    def epoch(self, generator=None, repeats=None):
        order = np.repeat(np.arange(len(self._features)), 1 if repeats is None else repeats)
        order = order if generator is None else generator.permutation(order)
        return SimpleNamespace(order=order, rows=lambda start, stop: self._features[order[start:stop]])


def in_memory(features: np.ndarray, labels: np.ndarray) -> Examples:
    """Examples that are arrays."""
    return Examples(_InMemory(features), labels)


class Unwatched:
    """Watches nothing."""

    def batch(self, clips, loss):
        pass

    def epoch(self, state):
        pass
