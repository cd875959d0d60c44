"""Recordings' bytes to probabilities, through a loaded classifier; and features, through a network."""

from collections.abc import Iterable, Iterator
from itertools import islice

import numpy as np

from earmark.audio import decode
from earmark.features.front_ends import FrontEnd
from earmark.models.model_folder import Classifier

BLOCK_CLIPS = 256
"""Clips decoded and classified at a time, which bounds memory."""


def probabilities(classifier: Classifier, recordings: Iterable[bytes]) -> np.ndarray:
    """Float32 (recordings, labels), in the order given; DecodeError where one cannot be read."""
    blocks = [np.empty((0, len(classifier.labels)), dtype=np.float32)]
    blocks += [classifier.model.predict_on_batch(block) for block in waveforms(classifier.front_end, recordings)]
    return np.concatenate(blocks)


def probabilities_of_features(network, front_end: FrontEnd, batches: Iterable[np.ndarray]) -> np.ndarray:
    """Probabilities, float32 (clips, labels), of batches of what shards hold for `front_end`, (clips, frames, bins)."""
    import keras

    from earmark.features.keras_backend import from_stored

    stored = keras.Input((front_end.stored.frames, front_end.stored.bins))
    model = keras.Model(stored, network(from_stored(stored, front_end)))
    blocks = [np.empty((0, *model.output_shape[1:]), dtype=np.float32)]
    return np.concatenate(blocks + [np.asarray(model.predict_on_batch(batch)) for batch in batches])


def waveforms(front_end: FrontEnd, recordings: Iterable[bytes]) -> Iterator[np.ndarray]:
    """Recordings as clips, float32 (clips, samples), BLOCK_CLIPS at a time."""
    clip = front_end.sample_rate_hz, front_end.clip_samples, front_end.padding
    remaining = iter(recordings)
    while block := list(islice(remaining, BLOCK_CLIPS)):
        yield np.stack([decode.clip(content, *clip) for content in block])
