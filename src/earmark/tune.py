"""`earmark tune`: looks for better settings of one candidate, on the validation split."""

import difflib
import io
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ruamel.yaml import YAML

from earmark.errors import UserError
from earmark.params import PATH, Params
from earmark.params.training import Candidate, changed, value_at
from earmark.stages import preparation
from earmark.stages.paths import TUNING
from earmark.stores.files import sole_writer, write_text

if TYPE_CHECKING:
    from earmark.learning.fitting import State
    from earmark.stores.studies import Study, Trial
    from earmark.stores.tracking import LiveRun


def tune(params: Params, candidate: str) -> str:
    """Trains `candidate` with values drawn from tune.ranges until tune.trials or tune.minutes are over, goes on where a
    run before it ended, and writes the best ones as a patch of params.yaml; returns a sentence."""
    settings = params.train.candidate(candidate)
    ranges = params.tune.ranges.get(candidate)
    if not ranges:
        known = ", ".join(sorted(params.tune.ranges)) or "none"
        raise UserError(f"params.yaml: tune.ranges has none of {candidate!r}; it has those of {known}")
    with sole_writer(TUNING / candidate):
        return _tune(params, candidate, settings, ranges)


def _tune(params: Params, candidate: str, settings: Candidate, ranges: Mapping[str, Any]) -> str:
    from earmark.learning import backend

    ends = time.monotonic() + 60 * params.tune.minutes
    backend.start(params.seed)
    from earmark.stores import tracking
    from earmark.stores.studies import OutOfTime, Study

    data = preparation.read_data(params, candidate)
    present = {key: value_at(settings, key) for key in ranges}
    identity = preparation.identity(data, settings, params.seed)
    name = f"{candidate} {identity[:16]} {params.tune.fingerprint(candidate)[:16]}"
    study = Study(TUNING / f"{candidate}.db", name, ranges, present, settings.epochs, params.seed)
    with tracking.tuning_run(f"tune {candidate}", params.register_.name, study.note("run_id")) as run_id:
        study.note("run_id", run_id)
        search = _Search(params, candidate, settings, data, ends)
        with suppress(OutOfTime):
            while len(study.finished) < params.tune.trials:
                study.run(search.trial)
                search.say(study)
    return _result(study, candidate, present)


class _Search:
    """Trains with the values of one trial after the other."""

    def __init__(self, params: Params, candidate: str, settings: Candidate, data: preparation.Data, ends: float):
        self._params, self._candidate, self._settings = params, candidate, settings
        self._data, self._ends = data, ends

    def trial(self, trial: "Trial") -> float:
        """The validation accuracy that the values of `trial` reach."""
        import keras

        from earmark.learning import fitting
        from earmark.stores import tracking

        keras.utils.clear_session()
        keras.utils.set_random_seed(self._params.seed)
        settings = changed(self._settings, trial.values)
        recipe = preparation.recipe(self._data, self._candidate, settings, self._params.seed)
        theirs = self._params.with_candidate(self._candidate, settings)
        with tracking.trial_run(trial.number, self._candidate, theirs) as run:
            watch = _Watch(trial, run, self._ends)
            return _accuracy(fitting.fit(recipe, self._data.training, self._data.validation, watch), settings)

    def say(self, study: "Study") -> None:
        """Prints how the last trial ended."""
        last = study.finished[-1]
        figure = f"{last.value:.2%}" if last.value is not None and last.state.name == "COMPLETE" else "pruned"
        values = ", ".join(f"{key} {_short(value)}" for key, value in study.values(last).items())
        print(f"trial {last.number}: {figure}, {values}", flush=True)


class _Watch:
    def __init__(self, trial: "Trial", run: "LiveRun", ends: float):
        self._trial, self._run, self._ends = trial, run, ends

    def batch(self, clips: int, loss: float) -> None:
        pass

    def epoch(self, state: "State") -> None:
        from earmark.stores.studies import OutOfTime

        self._run.epochs(state.rows)
        self._trial.report(state.rows[-1]["validation_accuracy"], len(state.rows))
        if time.monotonic() > self._ends:
            raise OutOfTime


def _accuracy(state: "State", settings: Candidate) -> float:
    return (state.best if settings.early_stopping_epochs else state.rows[-1])["validation_accuracy"]


def _result(study: "Study", candidate: str, present: dict[str, Any]) -> str:
    best = study.best
    if best is None:
        return f"no trial of {candidate} came to its end in tune.minutes; run it again and it goes on"
    values = study.values(best)
    reached = f"best of {len(study.finished)} trials, {best.number}, reached {best.value:.2%} on validation"
    patch = TUNING / f"{candidate}.patch"
    if values == present:
        patch.unlink(missing_ok=True)
        return f"{reached}: these are the settings in params.yaml"
    write_text(patch, _patch(PATH, candidate, values))
    return f"{reached}; 'git apply {patch}' puts its settings into params.yaml"


def _patch(path: Path, candidate: str, values: Mapping[str, Any]) -> str:
    """A unified diff that sets `values` and leaves every other line of params.yaml as it is."""
    yaml = YAML()
    yaml.preserve_quotes, yaml.width = True, 4096
    before = path.read_text(encoding="utf-8")
    content = yaml.load(before)
    for key, value in values.items():
        *sections, last = key.split(".")
        section = content["train"][candidate]
        for each in sections:
            section = section.setdefault(each, {})
        section[last] = value
    after = io.StringIO()
    yaml.dump(content, after)
    lines = before.splitlines(keepends=True), after.getvalue().splitlines(keepends=True)
    return "".join(difflib.unified_diff(*lines, f"a/{path}", f"b/{path}"))


def _short(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)
