"""`earmark tune`: looks for better settings of one candidate, on the validation split."""

import difflib
import json
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import reduce
from pathlib import Path
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

if TYPE_CHECKING:
    from earmark.tracking.runs import LiveRun
    from earmark.training.fitting import State
    from earmark.training.search import Study, Trial


def tune(params: Params, candidate: str, minutes: float) -> str:
    """Trains `candidate` with values drawn from tune.ranges until tune.trials are done or `minutes` are over.

    Continues where an earlier run ended. Writes the best values as a patch of params.yaml; returns one sentence.
    """
    settings = params.train.candidate(candidate)
    ranges = params.tune.ranges.get(candidate)
    if not ranges:
        known = ", ".join(sorted(params.tune.ranges)) or "none"
        raise UserError(f"params.yaml: tune.ranges has none of {candidate!r}; it has those of {known}")
    text = PATH.read_bytes().decode()
    if "\r" in text or not text.endswith("\n"):
        raise UserError(f"{PATH} cannot be patched: allowed are lines that end in a line feed, the last one too")
    with exclusive_writer(TUNING / candidate):
        return _tune(params, candidate, settings, ranges, text, minutes)


def _tune(
    params: Params, candidate: str, settings: Candidate, ranges: Mapping[str, Any], text: str, minutes: float
) -> str:
    from earmark.models import backend

    backend.start(params.seed)
    from earmark.tracking import runs
    from earmark.training.search import Study, TimeLimitError

    data = job.read_data(params, candidate)
    for remark in job.remarks(data, settings):
        print(f"{candidate}: {remark}", flush=True)
    present = {key: value_at(settings, key) for key in ranges}
    identity = job.identity(data, settings, params.seed)
    name = f"{candidate} {identity[:16]} {params.tune.fingerprint(candidate)[:16]}"
    study = Study(TUNING / f"{candidate}.db", name, ranges, present, settings.epochs, params.seed)
    with runs.tuning_run(f"tune {candidate}", params.register_.name, study.run_id) as run_id:
        study.run_id = run_id
        ends = time.monotonic() + 60 * minutes
        search = _Search(params, candidate, settings, data, ends)
        with suppress(TimeLimitError):
            while len(study.finished) < params.tune.trials and time.monotonic() < ends:
                ended = study.run(search.trial)
                last = study.finished[-1]
                values = ", ".join(f"{key} {value}" for key, value in study.values(last).items())
                print(f"trial {last.number}: {ended}, {values}", flush=True)
    return _result(study, candidate, present, text, params.tune.trials)


class _Search:
    """Trains with the values of one trial after the other; the last one goes on from its checkpoint."""

    def __init__(self, params: Params, candidate: str, settings: Candidate, data: job.Data, ends: float):
        self._params, self._candidate, self._settings = params, candidate, settings
        self._data, self._ends = data, ends
        self._path = TUNING / f"{candidate}.npz"

    def trial(self, trial: "Trial") -> float:
        """The validation accuracy that the values of `trial` reach."""
        import keras

        from earmark.tracking import runs
        from earmark.training import fitting
        from earmark.training.search import Pruned

        keras.utils.clear_session()
        settings = with_values(self._settings, trial.values)
        recipe = job.recipe(self._data, self._candidate, settings, self._params.seed)
        identity = job.identity(self._data, settings, self._params.seed)
        found = checkpoints.read(self._path, identity)
        state = job.state_in(found)
        theirs = self._params.with_candidate(self._candidate, settings)
        pruned = None
        with runs.trial_run(trial.number, self._candidate, theirs, found and found.run_id) as run:
            watch = _Watch(trial, run, self._ends, self._path, identity, settings, state)
            try:
                state = fitting.fit(recipe, self._data.training, self._data.validation, watch, state)
            except Pruned as error:  # to MLflow, that is no failure
                pruned = error
                run.tag("pruned", "true")
        self._path.unlink(missing_ok=True)
        if pruned:
            raise pruned
        return state.selected_row(settings)["validation_accuracy"]


class _Watch:
    """Keeps each epoch, and ends a trial that is not worth its time, or for which there is none left."""

    def __init__(
        self,
        trial: "Trial",
        run: "LiveRun",
        ends: float,
        path: Path,
        identity: str,
        settings: Candidate,
        state: "State | None",
    ):
        self._trial, self._run, self._ends = trial, run, ends
        self._path, self._identity, self._settings = path, identity, settings
        for row in state.rows if state else ():
            trial.report(row["validation_accuracy"], row["epoch"])

    def batch(self, clips: int, loss: float) -> None:
        """Nothing."""

    def epoch(self, state: "State") -> None:
        """Writes the checkpoint before anybody is told of the epoch."""
        from earmark.training.fitting import is_over
        from earmark.training.search import TimeLimitError

        checkpoints.write(self._path, job.checkpoint_of(state, self._identity, self._run.run_id))
        self._run.log_epochs(state.rows)
        self._trial.report(state.rows[-1]["validation_accuracy"], len(state.rows))
        if is_over(state, self._settings):
            return
        self._trial.raise_if_pruned()
        if time.monotonic() > self._ends:
            raise TimeLimitError


def _result(study: "Study", candidate: str, present: dict[str, Any], text: str, trials: int) -> str:
    best = study.best
    if best is None and len(study.finished) >= trials:
        return f"none of {trials} trials of {candidate} could be trained; allowed are other tune.ranges"
    if best is None:
        return f"no trial of {candidate} was finished in time; run it again and it continues"
    values = study.values(best)
    reached = f"best of {len(study.finished)} trials, {best.number}, reached {best.value:.2%} on validation"
    patch = TUNING / f"{candidate}.patch"
    if values == present:
        patch.unlink(missing_ok=True)
        return f"{reached}: these are the settings in params.yaml"
    write_text(patch, patch_of(text, candidate, values))
    return f"{reached}; 'git apply {patch}' puts its settings into params.yaml"


def patch_of(text: str, candidate: str, values: Mapping[str, Any]) -> str:
    """A unified diff of params.yaml, whose content is `text`, that sets `values` of the candidate and touches no other
    line; UserError where one line may be of several candidates."""
    if any(isinstance(token, AliasToken) for token in YAML().scan(text)):
        raise UserError(f"{PATH} has YAML aliases and cannot be patched; what was found is to be set by hand: {values}")
    after = text
    for key, value in values.items():
        after = _set(after, ("train", candidate, *key.split(".")), value)
    lines = (each.splitlines(keepends=True) for each in (text, after))
    return "".join(difflib.unified_diff(*lines, f"a/{PATH}", f"b/{PATH}"))


def _set(text: str, path: Sequence[str], value: Any) -> str:
    """`text`, YAML, with `value` at `path`, in the place of the one that is there."""
    node = YAML().compose(text)
    for at, name in enumerate(path):
        entry = next(((key, each) for key, each in node.value if key.value == name), None)
        if entry is None:
            return _inserted(text, node, path[at:], value)
        key, node = entry
    begin, written = node.start_mark.index, json.dumps(value)
    if isinstance(node, CollectionNode) and not node.flow_style:  # stands below its key, where a flow one would not be
        begin, written = key.end_mark.index, f": {written}"
    while isinstance(node, CollectionNode) and not node.flow_style:  # ends where the next one begins
        node = node.value[-1][1] if isinstance(node, MappingNode) else node.value[-1]
    return text[:begin] + written + text[node.end_mark.index :]


def _inserted(text: str, mapping: MappingNode, path: Sequence[str], value: Any) -> str:
    """`text` with `value` at `path` below `mapping`, before what else is in it."""
    name, *below = path
    entry = f"{name}: {json.dumps(reduce(lambda inner, key: {key: inner}, reversed(below), value))}"
    if mapping.flow_style:
        begin, after = mapping.start_mark.index + 1, ", " if mapping.value else ""
    else:
        first = mapping.value[0][0].start_mark
        begin, after = first.index, "\n" + " " * first.column
    return text[:begin] + entry + after + text[begin:]
