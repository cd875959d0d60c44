"""earmark's training loop against the bare compiled step, in turns: batches of the loop, then as many bare steps."""

import contextlib
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from tests.benchmarks.figures import Figure

if TYPE_CHECKING:
    from earmark.training.batches import Examples

WARM_UP = 5
"""Batches that count for nothing, since the first compiles."""


class EnoughError(Exception):
    """What was to be seen is seen: ends the training."""


class Turns:
    """Watches a training: times `batches` batches, then as many bare steps, `turns` times."""

    def __init__(self, step: Callable[[], object], batch_size: int, batches: int, turns: int):
        self.step, self.batch_size, self.batches, self.turns = step, batch_size, batches, turns
        self.pairs: list[tuple[float, float]] = []
        self.count, self.began = -WARM_UP, 0.0

    def batch(self, clips: int, loss: float) -> None:
        self.count += 1
        if self.count == self.batches:
            loop = time.perf_counter() - self.began
            began = time.perf_counter()
            for _ in range(self.batches):
                result = self.step()
            np.asarray(result)
            bare = time.perf_counter() - began
            clips_of_turn = self.batches * self.batch_size
            self.pairs.append((clips_of_turn / loop, clips_of_turn / bare))
            if len(self.pairs) == self.turns:
                raise EnoughError
            self.count = -1  # the batch that was prefetched meanwhile would count as too fast
        if self.count == 0:
            self.began = time.perf_counter()

    def epoch(self, state) -> None:
        self.count = -1  # validation is no part of a turn


@dataclass(frozen=True)
class Rates:
    """Medians over all turns: rates of the loop and of the bare step in clips/s, and of the ratio within a turn."""

    loop: float
    bare: float
    ratio: float


def rates(recipe, training: "Examples", validation: "Examples", batches: int, turns: int) -> Rates:
    """Trains until the turns are done.

    Raises:
        ValueError: no epoch is long enough for a turn, or the training ends before all turns are done.
    """
    from earmark.training import fitting

    clips = recipe.settings.batch_size
    watch = Turns(bare_step(recipe, training.features.epoch().rows(0, clips)), clips, batches, turns)
    with contextlib.suppress(EnoughError):
        fitting.fit(recipe, training, validation, watch)
    if len(watch.pairs) < turns:
        raise ValueError(f"turns: {len(watch.pairs)} were done; expected {turns}: more clips or epochs are needed")
    loop, bare = (statistics.median(kind) for kind in zip(*watch.pairs, strict=True))
    return Rates(loop, bare, statistics.median(loop / bare for loop, bare in watch.pairs))


def figure(name: str, loop: float, bare: float, ratio: float) -> Figure:
    """The whole training loop, with augmentation, batches and metrics, against the bare step."""
    return Figure(f"training loop of {name}", loop, "clips/s", f"bare step: {bare:,.0f} clips/s", ratio, ">= 0.9")


def bare_step(recipe, features: np.ndarray) -> Callable[[], object]:
    """The step alone, compiled: network, loss, gradient and optimiser on one batch that is on the device; run twice.

    It returns the loss.
    """
    import keras

    from earmark.training import fitting

    settings = recipe.settings
    network = recipe.build()
    optimizer = fitting.optimizer(settings.optimizer, 1000, settings.average_momentum)
    optimizer.build(network.trainable_variables)
    loss = keras.losses.CategoricalCrossentropy(label_smoothing=settings.label_smoothing)
    one_hot = np.eye(recipe.labels, dtype=np.float32)[np.arange(len(features)) % recipe.labels]
    compiled = {"tensorflow": _in_tensorflow, "jax": _in_jax}[keras.backend.backend()]
    step = compiled(network, optimizer, loss, features.astype(np.float32), one_hot)
    step(), step()
    return step


def _in_tensorflow(network, optimizer, loss, features: np.ndarray, one_hot: np.ndarray) -> Callable[[], object]:
    import tensorflow as tf

    features, one_hot = tf.constant(features), tf.constant(one_hot)

    @tf.function
    def step():
        with tf.GradientTape() as tape:
            value = loss(one_hot, network(features, training=True))
        optimizer.apply(tape.gradient(value, network.trainable_variables), network.trainable_variables)
        return value

    return step


def _in_jax(network, optimizer, loss, features: np.ndarray, one_hot: np.ndarray) -> Callable[[], object]:
    import jax

    def value_of(trained, others, features, one_hot):
        probabilities, others = network.stateless_call(trained, others, features, training=True)
        return loss(one_hot, probabilities), others

    @partial(jax.jit, donate_argnums=0)
    def step(variables, features, one_hot):
        trained, others, slots = variables
        gradient = jax.value_and_grad(value_of, has_aux=True)
        (value, others), gradients = gradient(trained, others, features, one_hot)
        trained, slots = optimizer.stateless_apply(slots, gradients, trained)
        return [list(trained), list(others), list(slots)], value  # as they came, or it is compiled again

    kinds = network.trainable_variables, network.non_trainable_variables, optimizer.variables
    values = [[variable.value for variable in kind] for kind in kinds]
    variables, batch = jax.device_put((values, (features, one_hot)), jax.devices()[0])

    def run():
        nonlocal variables
        variables, value = step(variables, *batch)
        return value

    return run
