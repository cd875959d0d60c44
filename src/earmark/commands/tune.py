"""`earmark tune`: searches better settings for one candidate, by its accuracy on the validation split."""

import difflib
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import reduce
from typing import TYPE_CHECKING, Any

from ruamel.yaml import YAML
from ruamel.yaml.nodes import CollectionNode, MappingNode
from ruamel.yaml.tokens import AliasToken

from earmark.errors import UserError
from earmark.io.files import exclusive_writer, write_text
from earmark.params import PATH, Params
from earmark.params.training import Candidate, value_at, with_values
from earmark.paths import TUNING
from earmark.training import checkpoints, job
from earmark.training.monitor import TrainingMonitor

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial

    from earmark.training.fitting import State
    from earmark.training.search import Study, Trial


def tune(params: Params, candidate: str, minutes: float) -> str:
    """Trains `candidate` with values drawn from tune.ranges until tune.trials are done or `minutes` are over.

    Continues where an earlier run ended. Writes the best values as a patch of params.yaml; returns one sentence.
    """
    settings = params.train.candidate(candidate)
    ranges = params.tune.ranges.get(candidate)
    if not ranges:
        names = ", ".join(sorted(params.tune.ranges))
        expected = f"one of {names}" if names else "ranges for it"
        raise UserError(f"params.yaml: tune.ranges has no candidate {candidate!r}; expected {expected}")
    text = PATH.read_bytes().decode()
    if "\r" in text or not text.endswith("\n"):
        raise UserError(f"{PATH} cannot be patched; expected a line feed at the end of every line, and no other ending")
    with exclusive_writer(TUNING / candidate):
        return _tune(params, candidate, settings, ranges, text, minutes)


def _tune(
    params: Params, candidate: str, settings: Candidate, ranges: Mapping[str, Any], text: str, minutes: float
) -> str:
    from earmark.models import backend

    backend.start(params.seed)
    backend.require_gpu()
    from earmark.tracking import runs
    from earmark.training.search import Study, outcome

    data = job.read_data(params, candidate)
    for note in job.notes(data, settings):
        print(f"{candidate}: {note}", flush=True)
    current = {key: value_at(settings, key) for key in ranges}
    identity = job.identity(data, settings, params.seed)
    name = f"{candidate} {identity[:16]} {params.tune.fingerprint(candidate)[:16]}"
    epochs = settings.epochs or params.train.epochs
    study = Study(TUNING / f"{candidate}.db", name, ranges, current, epochs, params.seed)

    def on_end(trial: "FrozenTrial") -> None:
        values = ", ".join(f"{key} {value}" for key, value in study.values(trial).items())
        print(f"trial {trial.number}: {outcome(trial)}, {values}", flush=True)

    runs.end_killed_runs(candidate, params, tag=runs.SEARCH_CHECKOUT)
    with runs.tuning_run(candidate, params.register_.name, study.run_id) as run_id:
        study.run_id = run_id
        search = _Search(params, candidate, settings, data)
        study.run(search.trial, params.tune.trials, 60 * minutes, on_end)
    return _result(study, candidate, current, text, params.tune.trials)


def _warn(sentence: str) -> None:
    print(f"tune: {sentence}", file=sys.stderr, flush=True)


class _Search:
    """Trains the candidate with the values of a trial; resumes a trial that has a checkpoint."""

    def __init__(self, params: Params, candidate: str, settings: Candidate, data: job.TrainingData):
        self._params, self._candidate, self._settings, self._data = params, candidate, settings, data
        self._path = TUNING / f"{candidate}.npz"

    def trial(self, trial: "Trial") -> float:
        """Returns the validation accuracy that the values of `trial` reach."""
        import keras
        from optuna import TrialPruned

        from earmark.tracking import runs
        from earmark.training import fitting

        keras.utils.clear_session()
        settings = with_values(self._settings, trial.values)
        recipe = job.recipe(self._data, self._candidate, settings, self._params.seed)
        identity = job.identity(self._data, settings, self._params.seed)
        checkpoint = checkpoints.read(self._path, identity)
        resumed = job.state_in(checkpoint)
        trial_params = self._params.with_candidate(self._candidate, settings)
        run_id = checkpoint.run_id if checkpoint else None
        pruned = None
        with runs.trial_run(trial.number, self._candidate, trial_params, run_id, _warn) as run:
            for row in resumed.rows if resumed else ():
                trial.report(row["validation_accuracy"], int(row["epoch"]))
            monitor = TrainingMonitor(self._path, identity, run, self._on_epoch(trial, settings))
            try:
                state = fitting.fit(recipe, self._data.training, self._data.validation, monitor, resumed)
            except TrialPruned as error:  # not a failure of MLflow's run
                pruned = error
                run.tag("pruned", "true")
        self._path.unlink(missing_ok=True)
        if pruned:
            raise pruned
        return float(state.selected_row(settings)["validation_accuracy"])

    def _on_epoch(self, trial: "Trial", settings: Candidate) -> "Callable[[State], None]":
        """Returns what may end a trial after an epoch: TrialPruned if it does badly, TimeLimitError if time is up."""
        from earmark.training.fitting import is_over

        def end_early(state: "State") -> None:
            trial.report(state.rows[-1]["validation_accuracy"], len(state.rows))
            if not is_over(state, settings):
                trial.raise_if_pruned()
                trial.raise_if_time_is_up()

        return end_early


def _result(study: "Study", candidate: str, current: dict[str, Any], text: str, trials: int) -> str:
    best = study.best
    if best is None and len(study.finished) >= trials:
        return f"none of {trials} trials of {candidate} could be trained; expected other values in tune.ranges"
    if best is None:
        return f"no trial of {candidate} was finished in time; run it again and it continues"
    from earmark.training.search import outcome

    values = study.values(best)
    sentence = f"best of {len(study.finished)} trials, {best.number}, reached {outcome(best)} on validation"
    patch = TUNING / f"{candidate}.patch"
    if values == current:
        patch.unlink(missing_ok=True)
        return f"{sentence}: these are the settings in params.yaml"
    write_text(patch, patch_of(text, candidate, values))
    return f"{sentence}; 'git apply {patch}' puts its settings into params.yaml"


def patch_of(text: str, candidate: str, values: Mapping[str, Any]) -> str:
    """Returns a unified diff that sets `values` of the candidate in params.yaml and changes no other line.

    `text` is the content of params.yaml.

    Raises:
        UserError: the file has YAML aliases, so that one line may belong to several candidates.
    """
    if any(isinstance(token, AliasToken) for token in YAML().scan(text)):
        raise UserError(f"{PATH} has YAML aliases and cannot be patched; set these values by hand: {values}")
    after = text
    for key, value in values.items():
        after = _set(after, ("train", "candidates", candidate, *key.split(".")), value)
    old_lines, new_lines = text.splitlines(keepends=True), after.splitlines(keepends=True)
    return "".join(difflib.unified_diff(old_lines, new_lines, f"a/{PATH}", f"b/{PATH}"))


def _set(text: str, path: Sequence[str], value: Any) -> str:
    """Sets `value` at `path` in a YAML text."""
    node = YAML().compose(text)
    for depth, name in enumerate(path):
        entry = next((pair for pair in node.value if pair[0].value == name), None)
        if entry is None:
            return _insert(text, node, path[depth:], value)
        key, node = entry
    start, content = node.start_mark.index, json.dumps(value)
    if isinstance(node, CollectionNode) and not node.flow_style:  # a block starts on the line below its key
        start, content = key.end_mark.index, f": {content}"
    while isinstance(node, CollectionNode) and not node.flow_style:  # a block's end mark is where the next node starts
        node = node.value[-1][1] if isinstance(node, MappingNode) else node.value[-1]
    return text[:start] + content + text[node.end_mark.index :]


def _insert(text: str, mapping: MappingNode, path: Sequence[str], value: Any) -> str:
    """Inserts `value` at `path` below `mapping`, before its first entry."""
    name, *below = path
    entry = f"{name}: {json.dumps(reduce(lambda inner, key: {key: inner}, reversed(below), value))}"
    if mapping.flow_style:
        start, separator = mapping.start_mark.index + 1, ", " if mapping.value else ""
    else:
        first = mapping.value[0][0].start_mark
        start, separator = first.index, "\n" + " " * first.column
    return text[:start] + entry + separator + text[start:]
