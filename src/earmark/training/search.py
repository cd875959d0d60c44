"""A search over ranges of settings with Optuna, stored in a file from which it can be resumed."""

import json
import logging
import math
import time
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy.exc import SQLAlchemyError

from earmark.errors import TrainingError, UserError
from earmark.params.training import Choice, Span
from earmark.reporting import formats

STARTUP_TRIALS = 5
"""The first trials, which are never pruned: later ones are compared with them."""
_GIVEN = "fixed_params"
_REFUSED = "refused"
_REPEATED = "repeated"


class TimeLimitError(Exception):
    """The time limit of a search is reached."""


class Study:
    """A search for the values with the highest score, in the SQLite file `path`; `name` distinguishes studies in it.

    The first trial has the values `present`, the current settings. Only one process may use the file at a time.
    """

    def __init__(
        self,
        path: Path,
        name: str,
        ranges: Mapping[str, Span | Choice],
        present: Mapping[str, Any],
        epochs: int,
        seed: int,
    ):
        logging.getLogger("optuna").setLevel(logging.ERROR)
        path.parent.mkdir(parents=True, exist_ok=True)
        self._ranges = ranges
        pruner = optuna.pruners.MedianPruner(n_startup_trials=STARTUP_TRIALS, n_warmup_steps=epochs // 4)
        try:
            self._study = optuna.create_study(
                storage=f"sqlite:///{path}", study_name=name, direction="maximize", load_if_exists=True, pruner=pruner
            )
        except (SQLAlchemyError, optuna.exceptions.OptunaError):
            raise UserError(f"{path} is not a file of 'earmark tune'; remove it to start over") from None
        if not self._study.trials:
            self._study.enqueue_trial(
                {key: _given(ranges[key], value) for key, value in present.items() if ranges[key].contains(value)}
            )
        self._repeat_interrupted()
        # A resumed search needs another seed, or it would draw the same values again.
        self._study.sampler = optuna.samplers.TPESampler(seed=(seed + len(self._study.trials)) % 2**32)

    @property
    def finished(self) -> list[FrozenTrial]:
        """The trials that have ended, including pruned and refused ones."""
        ended = self._study.get_trials(states=(TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL))
        return [trial for trial in ended if trial.state != TrialState.FAIL or _REFUSED in trial.user_attrs]

    @property
    def best(self) -> FrozenTrial | None:
        """The trial with the highest score, the first of equal ones."""
        complete = self._study.get_trials(states=(TrialState.COMPLETE,))
        return max(complete, key=_score, default=None)

    @property
    def run_id(self) -> str | None:
        """The id of the search's run in MLflow."""
        return self._study.user_attrs.get("run_id")

    @run_id.setter
    def run_id(self, value: str) -> None:
        self._study.set_user_attr("run_id", value)

    def run(
        self, objective: Callable[["Trial"], float], trials: int, seconds: float, on_end: Callable[[FrozenTrial], None]
    ) -> None:
        """Runs trials until `trials` have ended, with those of earlier searches, or `seconds` are over.

        `on_end` is called with each trial that has ended. A trial that raises TrainingError is not repeated. Any other
        exception ends the search, and the next search repeats the trial; the time limit does so without an exception.
        """
        deadline = time.monotonic() + seconds

        def attempt(trial: optuna.Trial) -> float:
            given = _given_keys(self._study.trials[trial.number])
            try:
                return objective(Trial(trial, self._ranges, given, deadline))
            except TrainingError as error:
                trial.set_user_attr(_REFUSED, str(error))
                raise

        with suppress(TimeLimitError):
            self._study.optimize(
                attempt,
                n_trials=max(0, trials - len(self.finished)),
                timeout=seconds,
                catch=TrainingError,
                callbacks=[lambda _, trial: on_end(trial)],
            )

    def values(self, trial: FrozenTrial) -> dict[str, Any]:
        """Returns the values of a trial, by key."""
        given = _given_keys(trial)
        return {key: _value(range_, trial.params[key], key in given) for key, range_ in self._ranges.items()}

    def _repeat_interrupted(self) -> None:
        """Queues the values of each interrupted trial once more."""
        # Not Optuna's heartbeat and retry callback: they repeat only what was killed, and only after a grace period.
        for running in self._study.get_trials(states=(TrialState.RUNNING,)):  # its process was killed
            self._study.tell(running.number, state=TrialState.FAIL)
        failed = self._study.get_trials(states=(TrialState.FAIL,))
        repeated = {trial.user_attrs.get(_REPEATED) for trial in self._study.trials}
        for trial in failed:
            if _REFUSED not in trial.user_attrs and trial.number not in repeated:
                values = {key: self._stored_value(trial, key) for key in trial.params}
                given = trial.system_attrs.get(_GIVEN, {})
                self._study.enqueue_trial(given | values, user_attrs={_REPEATED: trial.number})

    def _stored_value(self, trial: FrozenTrial, key: str) -> Any:
        """A trial's value in Optuna's form; it differs from what Optuna drew if it was rounded."""
        range_ = self._ranges[key]
        return _given(range_, _value(range_, trial.params[key], key in _given_keys(trial)))


class Trial:
    """One trial of a study, with its number and its values; the values of the keys `given` are fixed, not drawn."""

    def __init__(
        self, trial: optuna.Trial, ranges: Mapping[str, Span | Choice], given: Collection[str], deadline: float
    ):
        self._trial, self.number, self._deadline = trial, trial.number, deadline
        self.values = {key: _value(range_, self._suggest(key, range_), key in given) for key, range_ in ranges.items()}

    def report(self, score: float, epoch: int) -> None:
        """Records the score of an epoch."""
        self._trial.report(score, epoch)

    def raise_if_pruned(self) -> None:
        """Raises optuna.TrialPruned if the best score so far is below the median of other trials at this epoch."""
        if self._trial.should_prune():
            raise optuna.TrialPruned

    def raise_if_time_is_up(self) -> None:
        """Raises TimeLimitError if the time limit of the search is reached."""
        if time.monotonic() > self._deadline:
            raise TimeLimitError

    def _suggest(self, key: str, range_: Span | Choice) -> Any:
        if isinstance(range_, Choice):
            return self._trial.suggest_categorical(key, [_given(range_, value) for value in range_.values])
        if range_.whole:
            return self._trial.suggest_int(key, int(range_.min), int(range_.max), log=range_.log)
        return self._trial.suggest_float(key, range_.min, range_.max, log=range_.log)


def outcome(trial: FrozenTrial) -> str:
    """How a trial ended, in a few words."""
    if trial.state == TrialState.PRUNED:
        return "pruned"
    refused: str | None = trial.user_attrs.get(_REFUSED)
    return refused or formats.percent(_score(trial), 2)


def _score(trial: FrozenTrial) -> float:
    return -math.inf if trial.value is None else trial.value


def _given_keys(trial: FrozenTrial) -> Collection[str]:
    given: dict[str, Any] = trial.system_attrs.get(_GIVEN, {})
    return given.keys()


def _given(range_: Span | Choice, value: Any) -> Any:
    """The form of `value` that Optuna stores: its choices cannot be lists, and are compared by their text."""
    return json.dumps(range_.values[range_.values.index(value)]) if isinstance(range_, Choice) else value


def _value(range_: Span | Choice, stored: Any, given: bool) -> Any:
    """The value that a trial uses: drawn fractions are rounded to three digits, which people can read."""
    if isinstance(range_, Choice):
        return json.loads(stored)
    return stored if range_.whole or given else min(max(float(f"{stored:.3g}"), range_.min), range_.max)
