"""Starts Keras and its backend: seeded, deterministic, and without start-up messages on the terminal."""

import importlib
from collections.abc import Iterator
from contextlib import contextmanager

from earmark.io.quiet_stderr import quiet_stderr


def start(seed: int = 0) -> None:
    """Imports Keras, seeds all random generators and, for TensorFlow, enables deterministic operations."""
    with quiet_stderr():
        import keras

        if keras.backend.backend() == "tensorflow":
            import tensorflow as tf

            tf.config.experimental.enable_op_determinism()
            tf.config.list_physical_devices()
    keras.utils.set_random_seed(seed)


@contextmanager
def precision(policy: str) -> Iterator[None]:
    """Makes layers that are created in this context use Keras' dtype policy `policy`."""
    import keras

    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(policy)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


def devices() -> list[str]:
    """The names of the devices to train on: all GPUs of this machine, else its processor."""
    import keras

    if keras.backend.backend() == "jax":
        return list(keras.distribution.list_devices())
    import tensorflow as tf

    logical_devices = tf.config.list_logical_devices("GPU") or tf.config.list_logical_devices("CPU")
    return [device.name for device in logical_devices]


def description() -> str:
    """Keras' backend, its version and the devices, in text for people."""
    return f"{version()} on {', '.join(devices())}"


def version() -> str:
    """Keras' backend and the version of its module; TensorFlow's package has several names."""
    import keras

    name = keras.backend.backend()
    return f"{name} {importlib.import_module(name).__version__}"
