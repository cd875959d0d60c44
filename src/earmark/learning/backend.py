"""Starts Keras and its backend: seeded, deterministic, and without their start-up remarks on the terminal."""

import importlib
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TYPE_CHECKING

import numpy as np

from earmark.remarks import remarks_aside

if TYPE_CHECKING:
    from earmark.learning.batches import TrainingBatches


def start(seed: int = 0) -> None:
    """Imports Keras, seeds every generator and, under TensorFlow, turns deterministic operations on."""
    with remarks_aside():
        import keras

        if keras.backend.backend() == "tensorflow":
            import tensorflow as tf

            tf.config.experimental.enable_op_determinism()
            tf.config.list_physical_devices()
    keras.utils.set_random_seed(seed)


@contextmanager
def precision(policy: str) -> Iterator[None]:
    """Layers made in here compute in Keras' dtype policy `policy`."""
    import keras

    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(policy)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


def devices() -> list[str]:
    """Names of what this machine trains on: all of its GPUs, else its processor."""
    import keras

    if keras.backend.backend() == "jax":
        return keras.distribution.list_devices()
    import tensorflow as tf

    found = tf.config.list_logical_devices("GPU") or tf.config.list_logical_devices("CPU")
    return [each.name for each in found]


def described() -> str:
    """Keras' backend, its version, and the devices, as people read it."""
    return f"{version()} on {', '.join(devices())}"


def version() -> str:
    """Keras' backend and its version; TensorFlow's package has several names."""
    import keras

    name = keras.backend.backend()
    return f"{name} {importlib.import_module(name).__version__}"


def all_devices() -> AbstractContextManager:
    """A model made in here is trained on all of `devices`, each batch divided among them."""
    import keras

    found = devices()
    if len(found) < 2:
        return nullcontext()
    if keras.backend.backend() == "jax":
        return keras.distribution.DataParallel(devices=found).scope()
    import tensorflow as tf

    return tf.distribute.MirroredStrategy(found).scope()


def divided(inputs):
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


def feed(batches: "TrainingBatches"):
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
