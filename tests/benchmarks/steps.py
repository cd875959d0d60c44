"""How fast a candidate is trained, against its bare compiled step on one batch held in memory; printed as JSON.

Run as `python -m tests.benchmarks.steps <candidate>` in a project with features. Epochs and bare steps take turns, and
each pair gives one ratio; the first epoch, which compiles, counts for nothing.
"""

import json
import statistics
import sys
import time

import numpy as np

from earmark import params
from earmark.models import backend
from earmark.training import job

EPOCHS = 12


def main(candidate: str) -> None:
    """Prints the medians of both rates, in clips per second, and of their ratio."""
    loaded = params.load()
    backend.start(loaded.seed)
    from earmark.training import fitting

    settings = loaded.train.candidate(candidate).model_copy(update={"epochs": EPOCHS, "early_stopping_epochs": 0})
    data = job.read_data(loaded, candidate)
    recipe = job.recipe(data, candidate, settings, loaded.seed)
    step = bare_step(recipe, data)

    class Turns:
        """Times the batches of an epoch, its drawing included, and runs as many bare steps after it."""

        def __init__(self):
            self.began, self.ended, self.count = time.perf_counter(), 0.0, 0
            self.rates: list[tuple[float, float]] = []

        def batch(self, clips: int, loss: float) -> None:
            self.ended, self.count = time.perf_counter(), self.count + 1

        def epoch(self, state: fitting.State) -> None:
            loop = self.count * settings.batch_size / (self.ended - self.began)
            began = time.perf_counter()
            for _ in range(self.count):
                result = step()
            np.asarray(result)
            self.rates.append((loop, self.count * settings.batch_size / (time.perf_counter() - began)))
            self.began, self.count = time.perf_counter(), 0

    turns = Turns()
    fitting.fit(recipe, data.training, data.validation, turns)
    loop, bare = (statistics.median(rates) for rates in zip(*turns.rates[1:], strict=True))
    print(json.dumps({"loop": loop, "bare": bare, "ratio": statistics.median(a / b for a, b in turns.rates[1:])}))


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
    main(sys.argv[1])
