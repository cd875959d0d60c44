"""train: trains one candidate on feature shards; the saved model takes waveforms."""

import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from datetime import UTC, datetime
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from earmark.evaluation import rejection
from earmark.features.front_ends import FrontEnd
from earmark.io.files import exclusive_writer, whole_file, whole_folder
from earmark.io.progress import Advance, progress
from earmark.params import NOT_WORDS, Params
from earmark.params.training import Candidate
from earmark.paths import CHECKPOINTS, LOGS, MODELS, history_of
from earmark.provenance import environment
from earmark.reporting.terminal import training as report
from earmark.training import checkpoints, job
from earmark.training.monitor import TrainingMonitor

if TYPE_CHECKING:
    import keras

    from earmark.training.fitting import State

LINE_SECONDS = 60.0
"""Seconds between two lines of progress if standard error is not a terminal."""


def train(params: Params, candidate: str) -> str:
    """Trains `candidate`, writes models/<candidate> and its history, and logs to MLflow; returns one sentence.

    A training that was killed resumes after its last finished epoch, and ends with the same weights.
    """
    settings = params.train.candidate(candidate)
    with exclusive_writer(CHECKPOINTS / candidate):
        return _train(params, candidate, settings)


def _train(params: Params, candidate: str, settings: Candidate) -> str:
    from earmark.models import backend

    backend.start(params.seed)
    backend.require_gpu()
    from earmark.models import model_folder
    from earmark.tracking import runs
    from earmark.training import fitting

    data = job.read_data(params, candidate)
    recipe = job.recipe(data, candidate, settings, params.seed)
    untrained = recipe.build()
    identity = job.identity(data, settings, params.seed)
    path = CHECKPOINTS / f"{candidate}.npz"
    checkpoint = checkpoints.read(path, identity)
    state = job.state_in(checkpoint)
    machine = {"cpu": environment.describe_cpu(), "trained_by": backend.description(), **environment.requirements_tag()}
    run_id = checkpoint.run_id if checkpoint else None
    runs.end_killed_runs(candidate, params, run_id)
    clips, epochs = len(data.training.labels), settings.epochs or params.train.epochs
    with (
        _log_file(candidate, state) as log,
        runs.live_run(candidate, params, data.clips, machine, run_id, _warnings(candidate, log)) as run,
    ):
        for line in _first_lines(candidate, data, settings, epochs, state):
            log(line)
            print(f"{candidate}: {line}", flush=True)
        with _progress(candidate, clips, epochs, state) as advance:
            display = _Display(epochs, clips, state, advance, log)
            monitor = TrainingMonitor(path, identity, run, display.epoch, display.batch)
            state = fitting.fit(recipe, data.training, data.validation, monitor, state)
        run.log_epochs(state.rows)
        untrained.set_weights(state.weights)
        with whole_folder(MODELS / candidate) as folder:
            model_folder.save(folder, untrained, data.front_end, data.labels, _rejection_threshold(untrained, data))
        with whole_file(history_of(candidate)) as history:
            pd.DataFrame(state.rows).to_csv(history, index=False)
        run.finish(MODELS / candidate)
    path.unlink(missing_ok=True)
    return _sentence(candidate, state, state.selected_row(settings))


def _warnings(candidate: str, log: Callable[[str], None]) -> Callable[[str], None]:
    """A function that writes a warning to the training's log and to standard error."""

    def warn(sentence: str) -> None:
        log(sentence)
        print(f"{candidate}: {sentence}", file=sys.stderr, flush=True)

    return warn


def _rejection_threshold(network: "keras.Model", data: job.TrainingData) -> float:
    """Fits the rejection threshold on the clips and the background noise of validation.

    Each clip comes three times: as it is, and moved by half a clip either way. `earmark listen` slides a window over a
    recording, so it gets halves of words too.
    """
    from earmark.models import inference
    from earmark.training.batches import validation_batches

    front_end, names = data.front_end, np.array(data.labels)
    frames, clips = front_end.frames, len(data.validation.labels)
    moves = (0, frames // 2, -(frames // 2))

    def batches() -> Iterator[tuple[Any, np.ndarray]]:
        return validation_batches(data.validation, len(names), False, inference.BLOCK_CLIPS)

    windows = len(data.validation_noise) // frames
    noise = data.validation_noise[: windows * frames].reshape(windows, frames, data.validation_noise.shape[1])
    clip_blocks = (_moved(features, by, front_end) for by in moves for features, _ in batches())
    noise_blocks = (noise[at : at + inference.BLOCK_CLIPS] for at in range(0, windows, inference.BLOCK_CLIPS))
    outputs = inference.probabilities_of_features(network, front_end, chain(clip_blocks, noise_blocks))
    clip_outputs, noise_outputs = np.split(outputs, [len(outputs) - windows])
    # Without the zero clips that pad the last batch.
    clip_outputs = clip_outputs.reshape(len(moves), -1, len(names))[:, :clips].reshape(-1, len(names))
    probabilities = np.concatenate([clip_outputs, noise_outputs])
    clip_labels = names[np.concatenate([one_hot.argmax(axis=1) for _, one_hot in batches()])]
    truth = np.append(np.tile(clip_labels, len(moves)), [""] * windows)
    whole = np.arange(len(truth)) < clips
    predicted = names[probabilities.argmax(axis=1)]
    return rejection.fit_threshold(rejection.answers(predicted, probabilities.max(axis=1), truth, NOT_WORDS, whole))


def _moved(features: np.ndarray, frames: int, front_end: FrontEnd) -> np.ndarray:
    """Moves features (clips, frames, bins) later by `frames`, or earlier if that is negative; fills up with silence."""
    moved = np.roll(features, frames, axis=1)
    moved[:, : max(frames, 0)] = front_end.silence
    moved[:, moved.shape[1] + min(frames, 0) :] = front_end.silence
    return moved


def _sentence(candidate: str, state: "State", row: dict[str, Any]) -> str:
    seconds = sum(epoch["seconds"] for epoch in state.rows)
    return report.sentence(candidate, row, len(state.rows), seconds)


def _progress(candidate: str, clips: int, epochs: int, state: "State | None") -> AbstractContextManager[Advance]:
    done = clips * len(state.rows) if state else 0
    return progress(candidate, clips * epochs, "clips", done=done, line_seconds=LINE_SECONDS)


def _first_lines(
    candidate: str, data: job.TrainingData, settings: Candidate, epochs: int, state: "State | None"
) -> Iterator[str]:
    from earmark.models import backend

    yield from job.notes(data, settings)
    if state:
        yield f"resumes after epoch {len(state.rows)}, where it was stopped"
    yield report.plan(epochs, len(data.training.labels), backend.description(), str(_log_path(candidate)))


def _log_path(candidate: str) -> Path:
    return LOGS / f"{candidate}.log"


@contextmanager
def _log_file(candidate: str, state: "State | None") -> Iterator[Callable[[str], None]]:
    """Opens the training's log file; yields a function that appends a line with the time."""
    LOGS.mkdir(exist_ok=True)
    with _log_path(candidate).open("a" if state else "w", encoding="utf-8") as file:
        yield lambda line: print(report.log_line(datetime.now(UTC), line), file=file, flush=True)


class _Display:
    """Shows batches on the progress bar, and writes a line to the log file after each epoch."""

    def __init__(self, epochs: int, clips: int, state: "State | None", advance: Advance, log: Callable[[str], None]):
        self._epochs, self._clips, self._advance, self._log = epochs, clips, advance, log
        self._rows = state.rows if state else ()
        self._trained_clips = 0

    def batch(self, clips: int, loss: float) -> None:
        self._trained_clips += clips
        last = self._rows[-1] if self._rows else None
        self._advance(clips, report.note(len(self._rows) + 1, self._epochs, loss, last))

    def epoch(self, state: "State") -> None:
        self._rows, row = state.rows, state.rows[-1]
        trained, self._trained_clips = self._trained_clips, 0
        self._advance(self._clips - trained)  # the clips that filled no batch
        self._log(report.epoch(row, self._epochs, trained))
