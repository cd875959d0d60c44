"""Probabilities of overlapping windows to the words that were heard, and when. Pure.

The posterior handling of Chen, Parada and Heigold 2014, "Small-footprint keyword spotting using deep neural networks",
section 2.3, where each word has one label of its own.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from earmark.params import NOT_WORDS

HOP_SECONDS = 0.1
"""From the beginning of one window to that of the next."""
SMOOTHED_WINDOWS = 5
"""Windows whose mean counts. Fewer take more parts of a word for another word, more miss more words."""
REFRACTORY_SECONDS = 1.0
"""From one detection to the next: a word stays in windows of one second for about that long."""

_REFRACTORY_WINDOWS = round(REFRACTORY_SECONDS / HOP_SECONDS)


@dataclass(frozen=True)
class Detection:
    """A word that was heard.

    Attributes:
        seconds: from the beginning of the recording to that of the first window with which the threshold was reached.
        label: the word.
        probability: its mean over the last SMOOTHED_WINDOWS windows, in [0, 1].
    """

    seconds: float
    label: str
    probability: float


class Detector:
    """Listens to one recording, of which it is told window by window, as many at a time as there are.

    A word is heard when its smoothed probability is the largest of all labels' and at least `threshold`; then nothing
    is for REFRACTORY_SECONDS, nor that word before a window without it. What NOT_WORDS names is never heard.
    """

    def __init__(self, labels: Sequence[str], threshold: float):
        self._labels, self._threshold = tuple(labels), threshold
        self._is_word = np.array([label not in NOT_WORDS for label in labels])
        self._last = np.empty((0, len(self._labels)))
        self._windows = 0
        self._deaf_until = 0
        self._sounding = -1  # the label heard last, as long as every window since has it

    def detect(self, probabilities: np.ndarray) -> list[Detection]:
        """Detections in the next windows, HOP_SECONDS apart, of which `probabilities` are (windows, labels)."""
        smoothed = self._smoothed(probabilities)
        best = smoothed.argmax(axis=1)
        probability = smoothed.max(axis=1)
        reached = (probability >= self._threshold) & self._is_word[best]
        found = []
        for window, label, here, is_word in zip(
            self._windows + np.arange(len(best)), best, probability, reached, strict=True
        ):
            if not is_word or label != self._sounding:
                self._sounding = -1
            if is_word and self._sounding < 0 and window >= self._deaf_until:
                found.append(Detection(float(window) * HOP_SECONDS, self._labels[label], float(here)))
                self._deaf_until, self._sounding = window + _REFRACTORY_WINDOWS, label
        self._windows += len(probabilities)
        return found

    def _smoothed(self, probabilities: np.ndarray) -> np.ndarray:
        """Each window's mean with those before it, of which there are fewer at the beginning of a recording. Always
        added in the same order, so that the blocks in which windows come change no digit."""
        known = np.concatenate([self._last, probabilities])
        total = np.zeros_like(known)
        for age in range(min(SMOOTHED_WINDOWS, len(known))):
            total[age:] += known[: len(known) - age]
        means = total / np.minimum(np.arange(1, len(known) + 1), SMOOTHED_WINDOWS)[:, None]
        before, self._last = len(self._last), known[-(SMOOTHED_WINDOWS - 1) :]
        return means[before:]
