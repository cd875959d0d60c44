"""Computes probabilities: of recordings with a classifier, and of stored features with a network."""

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import TYPE_CHECKING

import numpy as np

from earmark.audio import decode
from earmark.features.front_ends import FrontEnd
from earmark.models.model_folder import Classifier

if TYPE_CHECKING:
    import keras

BLOCK_CLIPS = 256
"""Clips that are decoded and classified at a time; this bounds memory."""


def probabilities(classifier: Classifier, recordings: Iterable[bytes]) -> np.ndarray:
    """Returns probabilities, float32 (recordings, labels), in the order of the recordings.

    Raises:
        DecodeError: a recording cannot be read.
    """
    blocks = [np.empty((0, len(classifier.labels)), dtype=np.float32)]
    blocks += [classifier.model.predict_on_batch(block) for block in waveforms(classifier.front_end, recordings)]
    return np.concatenate(blocks)


def probabilities_of_features(network: "keras.Model", front_end: FrontEnd, batches: Iterable[np.ndarray]) -> np.ndarray:
    """Returns probabilities, float32 (clips, labels), of batches of stored features, (clips, frames, bins)."""
    import keras

    from earmark.features.keras_backend import from_stored

    stored = keras.Input((front_end.stored.frames, front_end.stored.bins))
    model = keras.Model(stored, network(from_stored(stored, front_end)))
    blocks = [np.empty((0, *model.output_shape[1:]), dtype=np.float32)]
    return np.concatenate(blocks + [np.asarray(model.predict_on_batch(batch)) for batch in batches])


def waveforms(front_end: FrontEnd, recordings: Iterable[bytes]) -> Iterator[np.ndarray]:
    """Decodes recordings to clips and yields up to BLOCK_CLIPS at a time, float32 (clips, samples)."""
    clip = front_end.sample_rate_hz, front_end.clip_samples, front_end.padding
    remaining = iter(recordings)
    while block := list(islice(remaining, BLOCK_CLIPS)):
        yield np.stack([decode.clip(content, *clip) for content in block])
