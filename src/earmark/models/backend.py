"""Starts Keras and its backend: seeded, deterministic, and without start-up messages on the terminal."""

import importlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from earmark.errors import UserError
from earmark.io.quiet_stderr import quiet_stderr
from earmark.params import environment
from earmark.params.environment import REQUIRE_GPU


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


def require_gpu() -> None:
    """Checks that there is a GPU to train on, if EARMARK_REQUIRE_GPU is 1.

    Raises:
        UserError: there is none, and the text says why; or the variable is neither 0 nor 1.
    """
    names = devices()
    if not environment.requires_gpu() or any("GPU" in name.upper() or "CUDA" in name.upper() for name in names):
        return
    raise UserError(
        f"{REQUIRE_GPU}=1, but {version()} finds no GPU: {_missing_gpu()}; expected a GPU, or {REQUIRE_GPU}=0 to train"
        f" on {', '.join(names)}"
    )


def _missing_gpu() -> str:
    import keras

    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        if not tf.test.is_built_with_cuda():
            return "this TensorFlow is made for processors only; 'make setup EARMARK_DEVICE=gpu' installs the other one"
    elif platforms := os.environ.get("JAX_PLATFORMS"):
        return f"JAX_PLATFORMS is {platforms!r}"
    if not Path("/proc/driver/nvidia/version").exists():
        return "NVIDIA's driver is not loaded on this machine"
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return f"CUDA_VISIBLE_DEVICES is {visible!r}"
    return "its libraries for CUDA do not load"


def description() -> str:
    """Keras' backend, its version and the devices, in text for people."""
    return f"{version()} on {', '.join(devices())}"


def version() -> str:
    """Keras' backend and the version of its module; TensorFlow's package has several names."""
    import keras

    name = keras.backend.backend()
    return f"{name} {importlib.import_module(name).__version__}"
