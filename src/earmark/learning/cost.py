"""What a classifier costs where it is used: multiply-adds and time."""

import math
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from earmark.learning.model_folder import Classifier

LATENCY_CALLS = 300
WARM_UP_CALLS = 10


@dataclass(frozen=True)
class Latency:
    """Milliseconds for one clip, from waveform to probabilities: the median, and what 99 of 100 calls stay below."""

    p50_ms: float
    p99_ms: float


def latency(classifier: Classifier) -> Latency:
    """Measured on this machine, on one core."""
    waveform = np.zeros((1, classifier.front_end.clip_samples), dtype=np.float32)
    durations = []
    with one_core():
        for _ in range(WARM_UP_CALLS + LATENCY_CALLS):
            started = time.perf_counter()
            classifier.model.predict_on_batch(waveform)
            durations.append(1000 * (time.perf_counter() - started))
    p50, p99 = np.quantile(durations[WARM_UP_CALLS:], [0.5, 0.99])
    return Latency(float(p50), float(p99))


@contextmanager
def one_core() -> Iterator[None]:
    """Keeps every thread of this process on one core; Linux only, elsewhere nothing happens."""
    before = _affinities()
    if not before:
        yield
        return
    everywhere = os.sched_getaffinity(0)
    _set_affinities({thread: {min(everywhere)} for thread in before})
    try:
        yield
    finally:
        # A thread that was born meanwhile was born onto the one core.
        _set_affinities({thread: before.get(thread, everywhere) for thread in _affinities()})


def _affinities() -> dict[int, set[int]]:
    tasks, found = Path("/proc/self/task"), {}
    for thread in [int(each.name) for each in tasks.iterdir()] if tasks.exists() else []:
        with suppress(ProcessLookupError):  # it has ended meanwhile
            found[thread] = os.sched_getaffinity(thread)
    return found


def _set_affinities(of_threads: dict[int, set[int]]) -> None:
    for thread, cores in of_threads.items():
        with suppress(ProcessLookupError):  # it has ended meanwhile
            os.sched_setaffinity(thread, cores)


def multiply_adds(model) -> int:
    """Multiply-adds of one clip in the convolutions, products and recurrences of a Keras model, those of models inside
    it too; the FFT, normalisations and activations, which are few beside them, are not counted."""
    total = 0
    for layer in model.layers:
        if hasattr(layer, "layers"):
            total += multiply_adds(layer)
        else:
            kernels = [each for each in layer.weights if len(each.shape) > 1 and each.name != "bias"]
            total += sum(math.prod(each.shape) for each in kernels) * _positions(layer) if kernels else 0
    return total


def _positions(layer) -> int:
    """How often a layer's kernels are applied to one clip: once for each step of a recurrence, or each place of its
    output."""
    import keras

    is_recurrence = isinstance(layer, keras.layers.RNN | keras.layers.Bidirectional)
    shape = layer.input.shape if is_recurrence else layer.output.shape
    return math.prod(shape[1:-1])
