"""Starts Keras and its backend: seeded, deterministic, and without their start-up remarks on the terminal."""

import importlib
from collections.abc import Iterator
from contextlib import contextmanager

from earmark.io.quiet_stderr import quiet_stderr


def start(seed: int = 0) -> None:
    """Imports Keras, seeds every generator and, under TensorFlow, turns deterministic operations on."""
    with quiet_stderr():
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


def description() -> str:
    """Keras' backend, its version, and the devices, as people read it."""
    return f"{version()} on {', '.join(devices())}"


def version() -> str:
    """Keras' backend and its version; TensorFlow's package has several names."""
    import keras

    name = keras.backend.backend()
    return f"{name} {importlib.import_module(name).__version__}"
