"""One training on all devices of this machine, under each of Keras' backends."""

from contextlib import AbstractContextManager, nullcontext

import numpy as np

from earmark.models import backend
from earmark.training.batches import TrainingBatches


def all_devices() -> AbstractContextManager:
    """A model made in here is trained on all of this machine's devices, each batch divided among them."""
    import keras

    found = backend.devices()
    if len(found) < 2:
        return nullcontext()
    if keras.backend.backend() == "jax":
        return keras.distribution.DataParallel(devices=found).scope()
    import tensorflow as tf

    return tf.distribute.MirroredStrategy(found).scope()


def distribute_inputs(inputs):
    """`inputs` of a model, of which each of `all_devices` gets its share; called where the model was made."""
    import keras

    if keras.backend.backend() != "tensorflow":
        return inputs  # Keras does so itself
    import tensorflow as tf

    strategy = tf.distribute.get_strategy()
    count = strategy.num_replicas_in_sync
    if count < 2:
        return inputs

    def shares(whole):
        parts = np.split(whole, count)
        return strategy.experimental_distribute_values_from_function(
            lambda context: tf.constant(parts[context.replica_id_in_sync_group])
        )

    return keras.tree.map_structure(shares, inputs)


def feed(batches: TrainingBatches):
    """`batches`, all of one size, as Keras' `fit` takes them fastest.

    Under TensorFlow, Keras would leave the batch size open, with which half of the step's shapes are computed anew in
    each, and have tf.data tune itself, which on few cores stalls whole epochs.
    """
    import keras

    if keras.backend.backend() != "tensorflow":
        return batches
    import tensorflow as tf

    def epoch():
        batch_of_epoch = batches.batch_of_epoch  # a pass that Keras gave up keeps to its own epoch
        yield from (batch_of_epoch(at) for at in range(len(batches)))

    signature = keras.tree.map_structure(lambda each: tf.TensorSpec(each.shape, each.dtype), batches[0])
    options = tf.data.Options()
    options.autotune.enabled = False
    stream = tf.data.Dataset.from_generator(epoch, output_signature=signature).prefetch(1).with_options(options)
    return stream.apply(tf.data.experimental.assert_cardinality(len(batches)))
