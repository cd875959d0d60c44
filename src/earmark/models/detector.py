"""The words that a classifier hears in sound of any length: what `earmark listen` says, and is judged by."""

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

import numpy as np

from earmark.audio import stream
from earmark.models.detection import HOP_SECONDS, Detection, Detector

if TYPE_CHECKING:
    from earmark.models.model_folder import Classifier


def detections(classifier: "Classifier", blocks: Iterable[np.ndarray], threshold: float) -> Iterator[Detection]:
    """Every word in one recording, each as soon as it is heard with at least the probability `threshold`.

    `blocks` are the recording in order, mono float32 (samples,) in [-1, 1] at the rate of the classifier's front end.
    What they raise comes after the words before it.
    """
    heard = classifier.front_end
    detector = Detector(classifier.labels, threshold)
    for windows in stream.windows(blocks, heard.clip_samples, HOP_SECONDS * heard.sample_rate_hz, heard.padding):
        yield from detector.detect(classifier.model.predict_on_batch(windows))
