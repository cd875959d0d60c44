"""How fast a candidate trains, against its bare compiled step, and how fast its model answers; printed as JSON.

Run as `python -m tests.benchmarks.speed <candidate> <model folder>` in a project with features. Batches of the training
loop and bare steps on one batch held in memory take turns, and each pair of turns gives one ratio.
"""

import contextlib
import json
import statistics
import sys
import time
from pathlib import Path

import numpy as np

from earmark import params
from earmark.models import backend, cost, model_folder
from earmark.training import job

WARM_UP, TURN, TURNS = 5, 20, 4
"""Batches that count for nothing, since the first compiles; batches in a turn; turns of each kind."""


class EnoughError(Exception):
    """All turns are done: ends the training."""


class Turns:
    """Watches a training: times TURN batches, then as many bare steps, TURNS times."""

    def __init__(self, step, batch_size: int):
        self.step, self.batch_size = step, batch_size
        self.pairs: list[tuple[float, float]] = []
        self.count, self.began = -WARM_UP, 0.0

    def batch(self, clips: int, loss: float) -> None:
        self.count += 1
        if self.count == TURN:
            loop = time.perf_counter() - self.began
            began = time.perf_counter()
            for _ in range(TURN):
                result = self.step()
            np.asarray(result)
            bare = time.perf_counter() - began
            self.pairs.append((TURN * self.batch_size / loop, TURN * self.batch_size / bare))
            if len(self.pairs) == TURNS:
                raise EnoughError
            self.count = -1  # the batch that was prefetched meanwhile would count as too fast
        if self.count == 0:
            self.began = time.perf_counter()

    def epoch(self, state) -> None:
        self.count = -1  # validation is no part of a turn


def main(candidate: str, model: Path) -> None:
    """Prints the medians of both rates in clips per second and of their ratio, and the latency of the saved model."""
    loaded = params.load()
    backend.start(loaded.seed)
    from earmark.training import fitting

    data = job.read_data(loaded, candidate)
    recipe = job.recipe(data, candidate, loaded.train.candidate(candidate), loaded.seed)
    turns = Turns(bare_step(recipe, data), recipe.settings.batch_size)
    with contextlib.suppress(EnoughError):
        fitting.fit(recipe, data.training, data.validation, turns)
    loop, bare = (statistics.median(rates) for rates in zip(*turns.pairs, strict=True))
    ratio = statistics.median(loop / bare for loop, bare in turns.pairs)
    latency_ms = cost.latency(model_folder.load(model)).p50_ms
    print(json.dumps({"loop": loop, "bare": bare, "ratio": ratio, "latency_ms": latency_ms}))


def bare_step(recipe, data):
    """The step alone: network, loss, gradient and optimiser on constants, compiled by TensorFlow; run twice."""
    import keras
    import tensorflow as tf

    from earmark.training import fitting

    settings, clips = recipe.settings, recipe.settings.batch_size
    network = recipe.build()
    optimizer = fitting.optimizer(settings.optimizer, 1000, settings.average_momentum)
    optimizer.build(network.trainable_variables)
    loss = keras.losses.CategoricalCrossentropy(label_smoothing=settings.label_smoothing)
    features = tf.constant(data.training.features.epoch().rows(0, clips).astype(np.float32))
    one_hot = tf.one_hot(np.arange(clips) % recipe.labels, recipe.labels)

    @tf.function
    def step():
        with tf.GradientTape() as tape:
            value = loss(one_hot, network(features, training=True))
        optimizer.apply(tape.gradient(value, network.trainable_variables), network.trainable_variables)
        return value

    step(), step()
    return step


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
