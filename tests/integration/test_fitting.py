"""Fitting a network: what its settings do, each alone, and that the same arguments give the same weights."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from conftest import ROOT
from support.training import EVERYTHING, Unwatched, in_memory

from earmark import params
from earmark.errors import UserError
from earmark.features import front_ends
from earmark.models import backend
from earmark.models.candidates import batch_normalisation
from earmark.params.training import Candidate
from earmark.training import fitting
from earmark.training.batches import Examples

LOADED = params.load(ROOT / "params.yaml")
FRONT_END = front_ends.front_end("log_mel", LOADED)
RNG = np.random.default_rng(5)
LABELS = np.arange(72) % 3
FEATURES = RNG.uniform(0, 0.5, (72, 98, 40)).astype(np.float16)
FEATURES[np.arange(72), :, LABELS * 10] += 0.4
EXAMPLES = in_memory(FEATURES, LABELS)


def build():
    from keras import Sequential, layers

    dense = layers.Dense(3, activation="softmax")
    return Sequential(
        [
            layers.Input((98, 40)),
            layers.GlobalAveragePooling1D(),
            batch_normalisation(),
            layers.Dropout(0.2),
            dense,
        ]
    )


def recipe(**settings) -> fitting.Recipe:
    """A small training; `rate` is its learning rate."""
    rate = settings.pop("rate", 0.01)
    values = {"epochs": 4, "batch_size": 16, "optimizer": {"name": "adamw", "learning_rate": rate}} | settings
    chosen = Candidate.model_validate(values)
    backend.start(1)
    noise = np.random.default_rng(6).uniform(0, 0.3, (500, 40))
    return fitting.Recipe(build, FRONT_END, noise, 3, chosen, 1)


class Kept(Unwatched):
    """Keeps every state."""

    def __init__(self):
        self.states = []

    def epoch(self, state):
        self.states.append(state)


def fit(state=None, watch=None, **settings) -> fitting.State:
    return fitting.fit(recipe(**settings), EXAMPLES, EXAMPLES, watch or Unwatched(), state)


def assert_same(first: list, second: list) -> None:
    for one, other in zip(first, second, strict=True):
        np.testing.assert_array_equal(one, other)


def without_times(state: fitting.State) -> list[dict]:
    return [row | {"seconds": None} for row in state.rows]


FULL = {
    "augmentation": EVERYTHING,
    "average_momentum": 0.9,
    "label_smoothing": 0.1,
    "balanced_sampling": True,
    "optimizer": {
        "name": "adamw",
        "learning_rate": 0.01,
        "weight_decay": 0.01,
        "warmup_fraction": 0.3,
        "decay": "cosine",
    },
}


@pytest.mark.parametrize("settings", [{}, FULL], ids=["plain", "everything"])
def test_a_training_that_goes_on_from_any_epoch_ends_as_if_it_had_not_been_stopped(settings):
    watch = Kept()
    whole = fit(watch=watch, **settings)
    assert [len(state.rows) for state in watch.states] == [1, 2, 3, 4]
    for state in (None, watch.states[0], watch.states[2], watch.states[3]):
        again = fit(state=state, **settings)
        assert_same(again.weights, whole.weights)
        assert_same(again.variables, whole.variables)
        assert without_times(again) == without_times(whole)


def test_other_seeds_give_other_weights():
    first, second = (fitting.fit(replace(recipe(), seed=seed), EXAMPLES, EXAMPLES, Unwatched()) for seed in (1, 2))
    assert not np.array_equal(first.weights[-1], second.weights[-1])


def test_the_kept_weights_are_the_moving_average_of_those_after_each_step():
    """Against an average computed here, of a training whose epochs are one step each."""
    settings = {"batch_size": 72, "optimizer": {"name": "sgd", "learning_rate": 0.1}, "epochs": 26}
    plain = Kept()
    fit(watch=plain, **settings)
    averaged = fit(**settings, average_momentum=0.7)
    bias = [state.weights[-1].astype(np.float64) for state in plain.states]
    expected = bias[0]
    for step, value in enumerate(bias[1:], 1):
        momentum = min(0.7, (1 + step) / (10 + step))  # the lesser until the twentieth step, then the other
        expected = momentum * expected + (1 - momentum) * value
    np.testing.assert_allclose(averaged.weights[-1], expected, atol=1e-6)


def test_what_is_validated_does_not_lag_behind_what_was_learnt():
    """A long average of a short training: a hundred steps of twenty."""
    watch = Kept()
    fit(watch=watch, epochs=5, rate=0.05, average_momentum=0.99)
    assert watch.states[-1].rows[-1]["validation_accuracy"] > 0.9
    assert watch.states[-1].rows[-1]["accuracy"] > 0.9


def test_early_stopping_ends_after_so_many_epochs_without_a_lower_loss_and_keeps_the_best():
    watch = Kept()
    ended = fit(watch=watch, rate=1.5, epochs=40, early_stopping_epochs=3)
    losses = [row["validation_loss"] for row in ended.rows]
    best = int(np.argmin(losses))
    assert len(losses) == best + 1 + 3 < 40
    assert_same(ended.weights, fit(rate=1.5, epochs=40, early_stopping_epochs=3, watch=Unwatched()).weights)
    unstopped = Kept()
    fit(watch=unstopped, rate=1.5, epochs=40)
    assert_same(ended.weights, unstopped.states[best].weights)
    assert_same(fit(state=watch.states[-1], rate=1.5, epochs=40, early_stopping_epochs=3).weights, ended.weights)


def test_the_learning_rate_warms_up_and_decays_as_a_cosine():
    ended = fit(epochs=10, optimizer=FULL["optimizer"] | {"warmup_fraction": 0.2})
    rates = [row["learning_rate"] for row in ended.rows]
    steps = np.arange(1, 11) * 4 - 8
    expected = np.where(steps < 0, 0.01 * (steps + 8) / 8, 0.005 * (1 + np.cos(np.pi * steps / 32)))
    np.testing.assert_allclose(rates, expected, atol=1e-6)


def test_label_smoothing_is_in_the_loss():
    smooth, plain = fit(label_smoothing=0.3, epochs=40, rate=0.1), fit(epochs=40, rate=0.1)
    certain = 0.8 * np.log(0.8) + 2 * 0.1 * np.log(0.1)
    assert smooth.rows[-1]["validation_loss"] > -certain - 0.01
    assert plain.rows[-1]["validation_loss"] < 0.3


@pytest.mark.parametrize("name", ["adadelta", "adamw", "sgd"])
def test_every_optimizer_learns_what_is_easy(name):
    rate = {"adadelta": 20.0, "adamw": 0.1, "sgd": 0.1}[name]
    assert fit(optimizer={"name": name, "learning_rate": rate}, epochs=30).rows[-1]["validation_accuracy"] == 1


@pytest.mark.parametrize("precision", ["mixed_bfloat16", "mixed_float16"])
def test_mixed_precision_learns_too_and_its_weights_are_float32(precision):
    watch = Kept()
    ended = fit(precision=precision, epochs=30, rate=0.1, watch=watch, average_momentum=0.5)
    assert ended.rows[-1]["validation_accuracy"] == 1
    assert {array.dtype for array in ended.weights} == {np.dtype("float32")}
    assert build().dtype == "float32"
    again = fit(state=watch.states[10], precision=precision, epochs=30, rate=0.1, average_momentum=0.5)
    assert_same(again.weights, ended.weights)


def test_a_loss_that_is_no_number_ends_the_training_in_a_sentence():
    with pytest.raises(UserError, match=r"the loss of epoch 1 is (nan|inf); expected a finite number: lower"):
        fit(optimizer={"name": "sgd", "learning_rate": 1e38})


def test_weight_decay_pulls_weights_towards_zero():
    with_decay, without = (
        fit(optimizer={"name": "sgd", "learning_rate": 0.01, "weight_decay": decay}).weights[-2] for decay in (1.0, 0.0)
    )
    assert np.abs(with_decay).mean() < 0.9 * np.abs(without).mean()


def test_features_that_cannot_be_read_end_the_training_with_their_own_error():
    class Gone:
        def epoch(self, generator=None, repeats=None):
            drawn = EXAMPLES.features.epoch(generator, repeats)
            return SimpleNamespace(order=drawn.order, rows=lambda start, stop: self.rows(drawn, start, stop))

        def rows(self, drawn, start, stop):
            if start:
                raise UserError("the bucket is gone")
            return drawn.rows(start, stop)

    with pytest.raises(UserError, match="the bucket is gone"):
        fitting.fit(recipe(), Examples(Gone(), LABELS), EXAMPLES, Unwatched())
