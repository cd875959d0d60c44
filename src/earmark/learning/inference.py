"""Recordings' bytes to probabilities, through a loaded classifier."""

from collections.abc import Iterable, Iterator
from itertools import islice

import numpy as np

from earmark.audio import decode
from earmark.learning.export import Classifier

BLOCK_CLIPS = 256
"""Clips decoded and classified at a time, which bounds memory."""


def probabilities(classifier: Classifier, recordings: Iterable[bytes]) -> np.ndarray:
    """Float32 (recordings, labels), in the order given; UndecodableAudio where one cannot be read."""
    blocks = [np.empty((0, len(classifier.labels)), dtype=np.float32)]
    blocks += [classifier.model.predict_on_batch(waveforms) for waveforms in _waveforms(classifier, recordings)]
    return np.concatenate(blocks)


def _waveforms(classifier: Classifier, recordings: Iterable[bytes]) -> Iterator[np.ndarray]:
    heard = classifier.front_end
    clip = heard.sample_rate_hz, heard.clip_samples, heard.padding
    remaining = iter(recordings)
    while block := list(islice(remaining, BLOCK_CLIPS)):
        yield np.stack([decode.clip(content, *clip) for content in block])
