"""Detects words in sound of any length with a classifier; `earmark listen` and the evaluation use it."""

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

import numpy as np

from earmark.audio import stream
from earmark.models.detection import HOP_SECONDS, Detection, Detector

if TYPE_CHECKING:
    from earmark.models.model_folder import Classifier


def detections(classifier: "Classifier", blocks: Iterable[np.ndarray], threshold: float) -> Iterator[Detection]:
    """Yields the words of one recording, each as soon as its probability reaches `threshold`.

    `blocks` are the recording in order, mono float32 (samples,) in [-1, 1] at the sample rate of the classifier's front
    end. If reading them fails, the words before that point are yielded first.
    """
    front_end = classifier.front_end
    detector = Detector(classifier.labels, threshold)
    hop_samples = HOP_SECONDS * front_end.sample_rate_hz
    for windows in stream.windows(blocks, front_end.clip_samples, hop_samples, front_end.padding):
        yield from detector.detect(classifier.model.predict_on_batch(windows))
