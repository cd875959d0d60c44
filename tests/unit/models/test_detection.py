"""Words are detected once, at the right time, in blocks of windows of any size."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from earmark.models import detection
from earmark.models.detection import HOP_SECONDS, REFRACTORY_SECONDS, SMOOTHED_WINDOWS, Detection, Detector

LABELS = ("yes", "no", "_unknown_", "_silence_")
REFRACTORY_WINDOWS = round(REFRACTORY_SECONDS / HOP_SECONDS)


def one_window(label: str, probability: float = 1.0) -> np.ndarray:
    """One window, (labels,), in which `label` has this probability, and the others have equal shares of the rest."""
    row = np.full(len(LABELS), (1 - probability) / (len(LABELS) - 1), np.float32)
    row[LABELS.index(label)] = probability
    return row


def windows(*stretches: tuple[str, int]) -> np.ndarray:
    """So many windows of each label in turn."""
    return np.concatenate([np.tile(one_window(label), (count, 1)) for label, count in stretches])


def drawn(seed: int, count: int) -> np.ndarray:
    """Probabilities that wander as those of overlapping windows do, so that each label is the likeliest at times."""
    steps = np.random.default_rng(seed).normal(0, 1.5, (count, len(LABELS))).cumsum(axis=0)
    shares = np.exp(steps - steps.max(axis=1, keepdims=True))
    return (shares / shares.sum(axis=1, keepdims=True)).astype(np.float32)


def as_the_paper_has_it(probabilities: np.ndarray, threshold: float) -> list[tuple[int, str]]:
    """Windows and words, by section 2.3's formula for one frame after the other; a run of one word is one word."""
    detections, deaf_until, run = [], 0, ""
    for j in range(len(probabilities)):
        first = max(0, j - SMOOTHED_WINDOWS + 1)
        smoothed = [float(np.mean(probabilities[first : j + 1, i], dtype=np.float64)) for i in range(len(LABELS))]
        best = int(np.argmax(smoothed))
        word = LABELS[best] if smoothed[best] >= threshold and LABELS[best] in ("yes", "no") else ""
        if word != run:
            run = ""
        if word and not run and j >= deaf_until:
            detections.append((j, word))
            deaf_until, run = j + REFRACTORY_WINDOWS, word
    return detections


@pytest.mark.parametrize("threshold", [0.0, 0.5, 0.8])
def test_detections_are_those_of_the_papers_formula(threshold):
    probabilities = drawn(1, 1500)
    detections = Detector(LABELS, threshold).detect(probabilities)
    expected = as_the_paper_has_it(probabilities, threshold)
    assert len(expected) > 10
    assert [(round(detection.seconds / HOP_SECONDS), detection.label) for detection in detections] == expected


@given(st.integers(0, 2**32 - 1), st.lists(st.integers(0, 12), max_size=30))
def test_windows_in_blocks_of_any_size_give_the_same_detections(seed, sizes):
    probabilities = drawn(seed, sum(sizes) + 5)
    detector, detections, at = Detector(LABELS, 0.6), [], 0
    for size in [*sizes, 5]:
        detections += detector.detect(probabilities[at : at + size])
        at += size
    assert detections == Detector(LABELS, 0.6).detect(probabilities)


def test_a_word_is_heard_at_its_window_with_its_mean_probability():
    silence = np.tile(one_window("_silence_"), (20, 1))
    word = np.stack([one_window("yes", 0.9)] * SMOOTHED_WINDOWS)
    [detection] = Detector(LABELS, 0.85).detect(np.concatenate([silence, word, silence]))
    assert detection == Detection(pytest.approx((19 + SMOOTHED_WINDOWS) * HOP_SECONDS), "yes", pytest.approx(0.9))


def test_one_window_alone_is_no_word_but_at_the_beginning_of_a_recording():
    lonely = windows(("_silence_", 5), ("yes", 1), ("_silence_", 5))
    assert Detector(LABELS, 0.5).detect(lonely) == []
    assert [detection.label for detection in Detector(LABELS, 0.5).detect(windows(("yes", 1)))] == ["yes"]


@pytest.mark.parametrize("label", detection.NOT_WORDS)
def test_what_is_no_word_is_never_heard(label):
    assert Detector(LABELS, 0.0).detect(windows((label, 100))) == []


def test_a_word_less_probable_than_an_unknown_one_is_not_heard():
    row = np.array([[0.4, 0.0, 0.6, 0.0]], np.float32)
    assert Detector(LABELS, 0.3).detect(np.tile(row, (20, 1))) == []


def test_after_a_word_nothing_is_heard_for_the_refractory_time_and_then_something_is():
    sound = windows(("yes", SMOOTHED_WINDOWS), ("no", 2 * REFRACTORY_WINDOWS))
    detections = Detector(LABELS, 0.9).detect(sound)
    assert [detection.label for detection in detections] == ["yes", "no"]
    assert detections[1].seconds - detections[0].seconds == pytest.approx(REFRACTORY_SECONDS)


def test_a_long_word_is_heard_once_and_again_after_a_pause():
    long = ("yes", 3 * REFRACTORY_WINDOWS)
    detections = Detector(LABELS, 0.9).detect(windows(long, ("_silence_", 1), long))
    assert [detection.label for detection in detections] == ["yes", "yes"]


def test_no_windows_are_no_detections():
    detector = Detector(LABELS, 0.5)
    assert detector.detect(np.empty((0, len(LABELS)), np.float32)) == []
    assert len(detector.detect(windows(("yes", 1)))) == 1
