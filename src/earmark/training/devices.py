"""Trains on all devices of this machine, with each of Keras' backends."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING

import numpy as np

from earmark.models import backend
from earmark.training.batches import Batch, Inputs, TrainingBatches

if TYPE_CHECKING:
    import tensorflow as tf


def all_devices() -> AbstractContextManager[object]:
    """Makes models that are created in this context train on all devices, each batch divided among them."""
    import keras

    names = backend.devices()
    scope: AbstractContextManager[object] = nullcontext()
    if len(names) < 2:
        return scope
    if keras.backend.backend() == "jax":
        scope = keras.distribution.DataParallel(devices=names).scope()
        return scope
    import tensorflow as tf

    scope = tf.distribute.MirroredStrategy(names).scope()
    return scope


def distribute_inputs(inputs: Inputs) -> object:
    """Divides a model's inputs among `all_devices`. Call it in the context in which the model was created."""
    import keras

    if keras.backend.backend() != "tensorflow":
        return inputs  # Keras divides them itself
    import tensorflow as tf

    strategy = tf.distribute.get_strategy()
    count = strategy.num_replicas_in_sync
    if count < 2:
        return inputs

    def shares(whole: np.ndarray) -> object:
        parts = np.split(whole, count)
        return strategy.experimental_distribute_values_from_function(
            lambda context: tf.constant(parts[context.replica_id_in_sync_group])
        )

    return keras.tree.map_structure(shares, inputs)


def feed(batches: TrainingBatches) -> "TrainingBatches | tf.data.Dataset":
    """Returns `batches` in the form that Keras' `fit` reads fastest.

    For TensorFlow, Keras would leave the batch size open, so that half of a step's shapes are computed again in each
    step. It would also let tf.data tune itself, which stalls whole epochs on machines with few cores.
    """
    import keras

    if keras.backend.backend() != "tensorflow":
        return batches
    import tensorflow as tf

    def epoch() -> Iterator[Batch]:
        batch_of_epoch = batches.batch_of_epoch  # a pass that Keras has abandoned stays in its own epoch
        yield from (batch_of_epoch(at) for at in range(len(batches)))

    signature = keras.tree.map_structure(lambda array: tf.TensorSpec(array.shape, array.dtype), batches[0])
    options = tf.data.Options()
    options.autotune.enabled = False
    stream = tf.data.Dataset.from_generator(epoch, output_signature=signature).prefetch(1).with_options(options)
    return stream.apply(tf.data.experimental.assert_cardinality(len(batches)))
