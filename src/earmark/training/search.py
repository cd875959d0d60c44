"""The one door to Optuna: a search over ranges that is kept in a file, and goes on from it."""

import json
import logging
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy.exc import SQLAlchemyError

from earmark.errors import TrainingError, UserError
from earmark.params.training import Choice, Span

STARTUP_TRIALS = 5
"""Trials that are never pruned, for others to be compared with."""
_GIVEN = "fixed_params"
_REFUSED = "refused"

Pruned = optuna.TrialPruned


class TimeLimitError(Exception):
    """The time for a search is over."""


class Study:
    """A search for the values that give the highest figure, in the SQLite file `path`; `name` tells studies apart.

    The trial of `present`, the values that it starts from, comes first. One process at a time.
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
            raise UserError(f"{path} is no file that a search was kept in; remove it to begin anew") from None
        if not self._study.trials:
            self._study.enqueue_trial(
                {key: _given(ranges[key], value) for key, value in present.items() if ranges[key].contains(value)}
            )
        for dead in self._study.get_trials(states=(TrialState.RUNNING,)):
            self._again(dead)
        # Another seed than that of the trials which are there already, or the same would be drawn once more.
        self._study.sampler = optuna.samplers.TPESampler(seed=(seed + len(self._study.trials)) % 2**32)

    @property
    def finished(self) -> list[FrozenTrial]:
        """Trials that came to an end, pruned and refused ones among them."""
        ended = self._study.get_trials(states=(TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL))
        return [each for each in ended if each.state != TrialState.FAIL or _REFUSED in each.user_attrs]

    @property
    def best(self) -> FrozenTrial | None:
        """The trial with the highest figure, the first of equals."""
        complete = self._study.get_trials(states=(TrialState.COMPLETE,))
        return max(complete, key=lambda trial: trial.value, default=None)

    @property
    def run_id(self) -> str | None:
        """MLflow's run of the search."""
        return self._study.user_attrs.get("run_id")

    @run_id.setter
    def run_id(self, value: str) -> None:
        self._study.set_user_attr("run_id", value)

    def run(self, objective: Callable[["Trial"], float]) -> str:
        """One more trial; returns in a word or two how it ended.

        A trial that raises TrainingError is never tried again. After any other exception, such as TimeLimitError, the
        next search starts it anew.
        """
        trial = self._study.ask()
        try:
            value = objective(Trial(trial, self._ranges, _given_keys(self._study.trials[trial.number])))
        except Pruned:
            self._study.tell(trial, state=TrialState.PRUNED)
            return "pruned"
        except TrainingError as error:
            trial.set_user_attr(_REFUSED, str(error))
            self._study.tell(trial, state=TrialState.FAIL)
            return str(error)
        except BaseException:
            self._again(self._study.trials[trial.number])
            raise
        self._study.tell(trial, value)
        return f"{value:.2%}"

    def values(self, trial: FrozenTrial) -> dict[str, Any]:
        """The values of a trial, by key."""
        given = _given_keys(trial)
        return {key: _value(each, trial.params[key], key in given) for key, each in self._ranges.items()}

    def _again(self, trial: FrozenTrial) -> None:
        tried = {key: self._tried(trial, key) for key in trial.params}
        self._study.tell(trial.number, state=TrialState.FAIL)
        self._study.enqueue_trial(trial.system_attrs.get(_GIVEN, {}) | tried)

    def _tried(self, trial: FrozenTrial, key: str) -> Any:
        """What Optuna is given for what was tried, which is not quite what it drew."""
        each = self._ranges[key]
        return _given(each, _value(each, trial.params[key], key in _given_keys(trial)))


class Trial:
    """One trial of a study: its number, and the values to try, of which those of `given` are not drawn."""

    def __init__(self, trial: optuna.Trial, ranges: Mapping[str, Span | Choice], given: Collection[str]):
        self._trial, self.number = trial, trial.number
        self.values = {key: _value(each, self._suggest(key, each), key in given) for key, each in ranges.items()}

    def report(self, figure: float, epoch: int) -> None:
        """Keeps the figure of an epoch."""
        self._trial.report(figure, epoch)

    def raise_if_pruned(self) -> None:
        """Raises Pruned where the highest figure until now is below the median of complete trials at the same
        epoch."""
        if self._trial.should_prune():
            raise Pruned

    def _suggest(self, key: str, each: Span | Choice):
        if isinstance(each, Choice):
            return self._trial.suggest_categorical(key, [_given(each, value) for value in each.values])
        suggest = self._trial.suggest_int if each.whole else self._trial.suggest_float
        return suggest(key, each.min, each.max, log=each.log)


def _given_keys(trial: FrozenTrial) -> Collection[str]:
    return trial.system_attrs.get(_GIVEN, {}).keys()


def _given(each: Span | Choice, value: Any) -> Any:
    """What Optuna is given for `value`: it takes no lists among those to choose from, of which it knows none but by
    their very text."""
    return json.dumps(each.values[each.values.index(value)]) if isinstance(each, Choice) else value


def _value(each: Span | Choice, found: Any, given: bool) -> Any:
    """What is tried for what Optuna drew: numbers of three digits, which a person can read, unless it was `given`."""
    if isinstance(each, Choice):
        return json.loads(found)
    return found if each.whole or given else min(max(float(f"{found:.3g}"), each.min), each.max)
