"""Detects words and their times from the probabilities of overlapping windows. Pure.

The posterior handling of Chen, Parada and Heigold 2014, "Small-footprint keyword spotting using deep neural networks",
section 2.3, where each word has one label of its own.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from earmark.params import NOT_WORDS

HOP_SECONDS = 0.1
"""From the start of one window to the start of the next."""
SMOOTHED_WINDOWS = 5
"""Windows that are averaged. With fewer, parts of a word pass for another word; with more, words are missed."""
REFRACTORY_SECONDS = 1.0
"""Minimum time between detections: a word stays in windows of one second for about that long."""

_REFRACTORY_WINDOWS = round(REFRACTORY_SECONDS / HOP_SECONDS)


@dataclass(frozen=True)
class Detection:
    """A detected word.

    Attributes:
        seconds: from the start of the recording to the start of the first window that reached the threshold.
        label: the word.
        probability: mean over the last SMOOTHED_WINDOWS windows, in [0, 1].
    """

    seconds: float
    label: str
    probability: float


class Detector:
    """Detects the words of one recording, whose windows come in blocks of any size.

    A word is detected when its smoothed probability is the largest of all labels and at least `threshold`. Nothing is
    detected in the next REFRACTORY_SECONDS, and the same word not again before a window without it. Labels in NOT_WORDS
    are never detected.
    """

    def __init__(self, labels: Sequence[str], threshold: float):
        self._labels, self._threshold = tuple(labels), threshold
        self._is_word = np.array([label not in NOT_WORDS for label in labels])
        self._last = np.empty((0, len(self._labels)))
        self._windows = 0
        self._refractory_until = 0
        self._sounding = -1  # the label detected last, while every window since has it

    def detect(self, probabilities: np.ndarray) -> list[Detection]:
        """Returns the detections in the next windows; `probabilities` are (windows, labels), HOP_SECONDS apart."""
        smoothed = self._smoothed(probabilities)
        best = smoothed.argmax(axis=1)
        probability = smoothed.max(axis=1)
        reached = (probability >= self._threshold) & self._is_word[best]
        detections = []
        for window, (label, mean, is_word) in enumerate(
            zip(best.tolist(), probability, reached.tolist(), strict=True), start=self._windows
        ):
            if not is_word or label != self._sounding:
                self._sounding = -1
            if is_word and self._sounding < 0 and window >= self._refractory_until:
                detections.append(Detection(window * HOP_SECONDS, self._labels[label], float(mean)))
                self._refractory_until, self._sounding = window + _REFRACTORY_WINDOWS, label
        self._windows += len(probabilities)
        return detections

    def _smoothed(self, probabilities: np.ndarray) -> np.ndarray:
        """Averages each window with up to SMOOTHED_WINDOWS - 1 before it.

        The order of additions is fixed, so that the size of blocks does not change a single bit.
        """
        windows = np.concatenate([self._last, probabilities])
        total = np.zeros_like(windows)
        for age in range(min(SMOOTHED_WINDOWS, len(windows))):
            total[age:] += windows[: len(windows) - age]
        means = total / np.minimum(np.arange(1, len(windows) + 1), SMOOTHED_WINDOWS)[:, None]
        before, self._last = len(self._last), windows[-(SMOOTHED_WINDOWS - 1) :]
        return means[before:]
