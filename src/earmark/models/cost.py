"""What a classifier costs where it is used: multiply-adds and time."""

import math
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from earmark.models.model_folder import Classifier

ROUNDS = 5
CALLS_A_ROUND = 60
WARM_UP_CALLS = 10


@dataclass(frozen=True)
class Latency:
    """Milliseconds for one clip, from waveform to probabilities: the median of each round, the median of all calls, and
    what 99 of 100 stay below."""

    rounds_ms: tuple[float, ...]
    p50_ms: float
    p99_ms: float


def latency(classifier: Classifier) -> Latency:
    """Measured on this machine, on one core."""
    (found,) = latencies([classifier])
    return found


def latencies(classifiers: Sequence[Classifier]) -> list[Latency]:
    """The same of several, which take turns, so that what else the machine does slows all of them."""
    durations = np.empty((len(classifiers), ROUNDS, CALLS_A_ROUND))
    with one_core():
        for at_round in range(ROUNDS):
            for classifier, found in zip(classifiers, durations, strict=True):
                found[at_round] = _durations_ms(classifier)
    return [
        Latency(tuple(np.median(each, axis=1).tolist()), *np.quantile(each, [0.5, 0.99]).tolist()) for each in durations
    ]


def _durations_ms(classifier: Classifier) -> list[float]:
    waveform = np.zeros((1, classifier.front_end.clip_samples), dtype=np.float32)
    found = []
    for _ in range(WARM_UP_CALLS + CALLS_A_ROUND):
        started = time.perf_counter()
        classifier.model.predict_on_batch(waveform)
        found.append(1000 * (time.perf_counter() - started))
    return found[WARM_UP_CALLS:]


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
    it too.

    Mel bands count as the matrix that they are in the graph, most of which is zero; the FFT, about half a million
    more at 98 frames of 512 samples, normalisations and activations are not counted.
    """
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
