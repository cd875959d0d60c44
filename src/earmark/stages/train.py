"""train: one candidate, from feature shards to a model that takes waveforms."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from earmark.evaluation import rejection
from earmark.features.front_ends import FrontEnd
from earmark.io.files import exclusive_writer, whole_file, whole_folder
from earmark.io.progress import Advance, progress
from earmark.params import NOT_WORDS, Params
from earmark.params.training import Candidate
from earmark.paths import CHECKPOINTS, HISTORIES, LOGS, MODELS
from earmark.provenance import environment
from earmark.training import checkpoints, job

if TYPE_CHECKING:
    from earmark.training.fitting import State

LINE_SECONDS = 60.0
"""Seconds from one line to the next within an epoch where nobody watches a terminal."""


def train(params: Params, candidate: str) -> str:
    """Trains `candidate`, writes models/<candidate> and its history; live in MLflow meanwhile. Returns a sentence.

    A training that was killed goes on after its last whole epoch, and ends with the weights that it would have had.
    """
    settings = params.train.candidate(candidate)
    with exclusive_writer(CHECKPOINTS / candidate):
        return _train(params, candidate, settings)


def _train(params: Params, candidate: str, settings: Candidate) -> str:
    from earmark.models import backend

    backend.start(params.seed)
    from earmark.models import model_folder
    from earmark.tracking import runs
    from earmark.training import fitting

    data = job.read_data(params, candidate)
    recipe = job.recipe(data, candidate, settings, params.seed)
    untrained = recipe.build()
    identity = job.identity(data, settings, params.seed)
    path = CHECKPOINTS / f"{candidate}.npz"
    found = checkpoints.read(path, identity)
    state = job.state_in(found)
    machine = {"cpu": environment.describe_cpu(), "trained_by": backend.description(), **environment.requirements_tag()}
    live = runs.live_run(candidate, params, data.clips, machine, found and found.run_id)
    with _log(candidate, state) as log, live as run:
        for line in _beginning(candidate, data, settings, state):
            log(line)
            print(f"{candidate}: {line}", flush=True)
        with _progress(candidate, len(data.training.labels), settings.epochs, state) as advance:
            watch = _Watch(settings.epochs, len(data.training.labels), advance, log, path, identity, run, state)
            state = fitting.fit(recipe, data.training, data.validation, watch, state)
        run.log_epochs(state.rows)
        untrained.set_weights(state.weights)
        with whole_folder(MODELS / candidate) as folder:
            model_folder.save(folder, untrained, data.front_end, data.labels, _rejection_threshold(untrained, data))
        with whole_file(HISTORIES / f"{candidate}.csv") as history:
            pd.DataFrame(state.rows).to_csv(history, index=False)
        run.finish(MODELS / candidate)
    path.unlink(missing_ok=True)
    return _sentence(candidate, state, state.selected_row(settings))


def _rejection_threshold(network, data: job.Data) -> float:
    """Fitted on validation's clips, whole and moved by half a clip either way, since windows that slide over a
    recording hear halves of words too, and on its background noise."""
    from earmark.models import inference
    from earmark.training.batches import validation_batches

    front_end, names = data.front_end, np.array(data.labels)
    frames, clips = front_end.frames, len(data.validation.labels)
    moves = (0, frames // 2, -(frames // 2))

    def batches():
        return validation_batches(data.validation, len(names), False, inference.BLOCK_CLIPS)

    windows = len(data.validation_noise) // frames
    noise = data.validation_noise[: windows * frames].reshape(windows, frames, data.validation_noise.shape[1])
    heard = (_moved(features, by, front_end) for by in moves for features, _ in batches())
    of_silence = (noise[at : at + inference.BLOCK_CLIPS] for at in range(0, windows, inference.BLOCK_CLIPS))
    said = inference.probabilities_of_features(network, front_end, chain(heard, of_silence))
    of_clips, of_noise = np.split(said, [len(said) - windows])
    # The last batch is filled up with silence, which is no clip.
    of_clips = of_clips.reshape(len(moves), -1, len(names))[:, :clips].reshape(-1, len(names))
    probabilities = np.concatenate([of_clips, of_noise])
    of_batches = names[np.concatenate([one_hot.argmax(axis=1) for _, one_hot in batches()])]
    truth = np.append(np.tile(of_batches, len(moves)), [""] * windows)
    whole = np.arange(len(truth)) < clips
    labels = names[probabilities.argmax(axis=1)]
    return rejection.fit_threshold(rejection.answers(labels, probabilities.max(axis=1), truth, NOT_WORDS, whole))


def _moved(features: np.ndarray, frames: int, front_end: FrontEnd) -> np.ndarray:
    """Features (clips, frames, bins) moved so many frames later, or earlier; silence moves in."""
    moved = np.roll(features, frames, axis=1)
    moved[:, : max(frames, 0)] = front_end.silence
    moved[:, moved.shape[1] + min(frames, 0) :] = front_end.silence
    return moved


def _sentence(candidate: str, state: "State", kept: dict) -> str:
    seconds = sum(row["seconds"] for row in state.rows)
    return (
        f"{candidate} reached {kept['validation_accuracy']:.2%} on validation in epoch {kept['epoch']}"
        f" of {len(state.rows)}, {seconds:.0f} s"
    )


def _progress(candidate: str, clips: int, epochs: int, state: "State | None"):
    done = clips * len(state.rows) if state else 0
    return progress(candidate, clips * epochs, "clips", done=done, line_seconds=LINE_SECONDS)


def _beginning(candidate: str, data: job.Data, settings: Candidate, state: "State | None") -> Iterator[str]:
    """What is said before the first epoch."""
    yield from job.remarks(data, settings)
    if state:
        yield f"goes on after epoch {len(state.rows)}, where it was stopped"
    clips = len(data.training.labels)
    yield f"{settings.epochs} epochs of {clips:,} clips; each epoch is in {_log_path(candidate)} and in MLflow"


def _log_path(candidate: str) -> Path:
    return LOGS / f"{candidate}.log"


@contextmanager
def _log(candidate: str, state: "State | None") -> Iterator[Callable[[str], None]]:
    """Gives a function that keeps a line, with the time, in the training's log file."""
    LOGS.mkdir(exist_ok=True)
    with _log_path(candidate).open("a" if state else "w", encoding="utf-8") as file:
        yield lambda line: print(f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ} {line}", file=file, flush=True)


class _Watch:
    """Shows and keeps how a training goes on: progress, log, checkpoint, MLflow."""

    def __init__(self, epochs: int, clips: int, advance: Advance, log, path: Path, identity: str, run, state):
        self._epochs, self._clips, self._advance, self._log = epochs, clips, advance, log
        self._path, self._identity, self._run = path, identity, run
        self._rows = state.rows if state else ()
        self._seen = 0

    def batch(self, clips: int, loss: float) -> None:
        """Moves the bar."""
        self._seen += clips
        validated = f", validation {self._rows[-1]['validation_accuracy']:.2%}" if self._rows else ""
        self._advance(clips, f"epoch {len(self._rows) + 1}/{self._epochs}, loss {loss:.3f}{validated}")

    def epoch(self, state: "State") -> None:
        """The checkpoint comes before what is told of it: nothing is told twice where a kill falls between."""
        checkpoints.write(self._path, job.checkpoint_of(state, self._identity, self._run.run_id))
        self._run.log_epochs(state.rows)
        self._rows, row = state.rows, state.rows[-1]
        trained, self._seen = self._seen, 0
        self._advance(self._clips - trained)  # clips that filled no batch
        self._log(
            f"epoch {row['epoch']}/{self._epochs}: loss {row['loss']:.3f}, accuracy {row['accuracy']:.2%},"
            f" validation {row['validation_accuracy']:.2%}, {trained / row['seconds']:.0f} clips/s"
        )
