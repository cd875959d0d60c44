"""Starts Keras and its backend: seeded, deterministic, and without their start-up remarks on the terminal."""

import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager


def start(seed: int = 0) -> None:
    """Imports Keras, seeds every generator and, under TensorFlow, turns deterministic operations on."""
    with _remarks_aside():
        import keras

        if keras.backend.backend() == "tensorflow":
            import tensorflow as tf

            tf.config.experimental.enable_op_determinism()
            tf.config.list_physical_devices()
    keras.utils.set_random_seed(seed)


@contextmanager
def _remarks_aside() -> Iterator[None]:
    """Keeps what native code writes to standard error, and shows it only where something fails.

    TensorFlow's first remarks come before any log level counts.
    """
    sys.stderr.flush()
    kept = os.dup(2)
    with tempfile.TemporaryFile() as remarks:
        os.dup2(remarks.fileno(), 2)
        try:
            yield
        except BaseException:
            remarks.seek(0)
            os.write(kept, remarks.read())
            raise
        finally:
            os.dup2(kept, 2)
            os.close(kept)
