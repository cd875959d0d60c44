"""What a training leaves after each epoch, and in which order."""

import numpy as np
import pytest

from earmark.training import checkpoints, job
from earmark.training.fitting import State
from earmark.training.monitor import TrainingMonitor

STATE = State(({"epoch": 1, "validation_accuracy": 0.5},), [np.ones(2)], [np.zeros(3)])


class Run:
    """A run that records what was there when it was told of an epoch."""

    run_id = "run"

    def __init__(self, events, path):
        self._events, self._path = events, path

    def log_epochs(self, rows):
        self._events.append(("MLflow", len(rows), self._path.exists()))


@pytest.fixture
def path(tmp_path):
    return tmp_path / "checkpoint.npz"


def test_an_epoch_is_saved_then_logged_then_passed_on(path):
    events = []
    TrainingMonitor(path, "identity", Run(events, path), lambda state: events.append(("owner", state))).epoch(STATE)
    assert events == [("MLflow", 1, True), ("owner", STATE)]
    restored = job.state_in(checkpoints.read(path, "identity"))
    assert restored.rows == STATE.rows
    assert [array.tolist() for array in (*restored.weights, *restored.variables)] == [[1.0, 1.0], [0.0, 0.0, 0.0]]


def test_an_owner_that_ends_the_training_finds_its_epoch_saved_and_logged(path):
    events = []

    def end(state):
        raise TimeoutError

    with pytest.raises(TimeoutError):
        TrainingMonitor(path, "identity", Run(events, path), end).epoch(STATE)
    assert events == [("MLflow", 1, True)]
    assert checkpoints.read(path, "identity").run_id == "run"


def test_batches_are_passed_on_if_the_owner_wants_them(path):
    batches = []
    monitor = TrainingMonitor(path, "identity", Run([], path), lambda state: None, lambda *batch: batches.append(batch))
    monitor.batch(64, 0.25)
    TrainingMonitor(path, "identity", Run([], path), lambda state: None).batch(64, 0.25)
    assert batches == [(64, 0.25)]
