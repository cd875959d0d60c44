"""The cost of a classifier in use: multiply-adds and latency."""

import math
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from earmark.models.model_folder import Classifier

if TYPE_CHECKING:
    import keras

ROUNDS = 5
CALLS_A_ROUND = 60
WARM_UP_CALLS = 10


@dataclass(frozen=True)
class Latency:
    """Milliseconds for one clip, from waveform to probabilities.

    Attributes:
        rounds_ms: median of each round.
        p50_ms, p99_ms: median and 99th percentile of all calls.
    """

    rounds_ms: tuple[float, ...]
    p50_ms: float
    p99_ms: float


def latency(classifier: Classifier) -> Latency:
    """Measures the latency on this machine, on one core."""
    (measured,) = latencies([classifier])
    return measured


def latencies(classifiers: Sequence[Classifier]) -> list[Latency]:
    """Measures several classifiers in turn, so that other work on the machine slows all of them alike."""
    durations = np.empty((len(classifiers), ROUNDS, CALLS_A_ROUND))
    with one_core():
        for at_round in range(ROUNDS):
            for classifier, rounds in zip(classifiers, durations, strict=True):
                rounds[at_round] = _durations_ms(classifier)
    return [
        Latency(tuple(np.median(rounds, axis=1).tolist()), *np.quantile(rounds, [0.5, 0.99]).tolist())
        for rounds in durations
    ]


def _durations_ms(classifier: Classifier) -> list[float]:
    waveform = np.zeros((1, classifier.front_end.clip_samples), dtype=np.float32)
    durations_ms = []
    for _ in range(WARM_UP_CALLS + CALLS_A_ROUND):
        started = time.perf_counter()
        classifier.model.predict_on_batch(waveform)
        durations_ms.append(1000 * (time.perf_counter() - started))
    return durations_ms[WARM_UP_CALLS:]


@contextmanager
def one_core() -> Iterator[None]:
    """Pins every thread of this process to one core. Does nothing on systems other than Linux."""
    before = _affinities()
    if not before:
        yield
        return
    everywhere = os.sched_getaffinity(0)
    _set_affinities({thread: {min(everywhere)} for thread in before})
    try:
        yield
    finally:
        # Threads that have started since inherited the one core.
        _set_affinities({thread: before.get(thread, everywhere) for thread in _affinities()})


def _affinities() -> dict[int, set[int]]:
    tasks, cores_of = Path("/proc/self/task"), {}
    for thread in [int(path.name) for path in tasks.iterdir()] if tasks.exists() else []:
        with suppress(ProcessLookupError):  # the thread has ended
            cores_of[thread] = os.sched_getaffinity(thread)
    return cores_of


def _set_affinities(cores_of: dict[int, set[int]]) -> None:
    for thread, cores in cores_of.items():
        with suppress(ProcessLookupError):  # the thread has ended
            os.sched_setaffinity(thread, cores)


def multiply_adds(model: "keras.Model") -> int:
    """Counts multiply-adds for one clip in the convolutions, matrix products and recurrences of a Keras model.

    Nested models are included. Mel bands count as the dense matrix that they are in the graph. Normalisations,
    activations and the FFT (about half a million at 98 frames of 512 samples) are not counted.
    """
    total = 0
    for layer in model.layers:
        if hasattr(layer, "layers"):
            total += multiply_adds(layer)
        else:
            kernels = [weight for weight in layer.weights if len(weight.shape) > 1 and weight.name != "bias"]
            total += sum(math.prod(kernel.shape) for kernel in kernels) * _positions(layer) if kernels else 0
    return total


def _positions(layer: "keras.layers.Layer") -> int:
    """How often a layer's kernels are applied to one clip: once per step of a recurrence, or per position of the
    output."""
    import keras

    is_recurrence = isinstance(layer, keras.layers.RNN | keras.layers.Bidirectional)
    shape = layer.input.shape if is_recurrence else layer.output.shape
    return math.prod(shape[1:-1])
