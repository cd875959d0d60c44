"""Runs in MLflow: one a training. A run is found by the content of its model."""

import hashlib
import tempfile
import uuid
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import mlflow
import pandas as pd
from mlflow import MlflowClient
from mlflow.data.pandas_dataset import from_pandas
from mlflow.entities import RunStatus
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import RESOURCE_DOES_NOT_EXIST

from earmark.addresses import is_url, redact_url
from earmark.errors import UserError
from earmark.io.hashing import content_sha256
from earmark.params import Params
from earmark.params.environment import flow_run_id
from earmark.paths import ACCEPTED, CHECKOUT_ID, DATA, history_of
from earmark.reporting import formats
from earmark.tracking import pyfunc
from earmark.tracking.connection import (
    connect,
    few_retries,
    raise_unless,
    retried_on,
    translated_errors,
)
from earmark.versioning import dvc_lock, git

CONTENT = "content_sha256"
CHECKOUT = "checkout"
"""The tag that tells in which checkout a training ran."""
SEARCH_CHECKOUT = "search_checkout"
"""The tag that tells in which checkout a search ran, of its run and of those of its trials."""
METRICS_SECONDS = 5
"""How long figures wait for an answer; they are sent again."""


class LiveRun:
    """A run that is being written; `run_id` is MLflow's.

    With `warn`, a training does not end because MLflow does: `warn` gets one sentence, and figures are kept until
    MLflow answers again.
    """

    def __init__(self, run_id: str, warn: Callable[[str], None] | None = None):
        self.run_id, self._warn = run_id, warn
        self._warned: set[str] = set()
        self._logged_epochs = {metric.step for metric in MlflowClient().get_metric_history(run_id, "loss")}

    def log_epochs(self, rows: Iterable[Mapping[str, float]]) -> None:
        """Logs the figures of those epochs that the run does not have yet."""
        with self._outages_survived("its figures are sent when it answers again"), few_retries(1, METRICS_SECONDS):
            for row in rows:
                epoch = int(row["epoch"])
                if epoch not in self._logged_epochs:
                    mlflow.log_metrics({key: value for key, value in row.items() if key != "epoch"}, step=epoch)
                    self._logged_epochs.add(epoch)

    def tag(self, key: str, value: str) -> None:
        """Sets a tag of the run."""
        with self._outages_survived(f"the run lacks the tag {key!r}"), few_retries():
            mlflow.set_tag(key, value)

    def finish(self, model: Path) -> None:
        """Logs the curve and the model, and last the tag by which the run is found."""
        with self._outages_survived("'earmark register' logs the model when it answers again"), few_retries():
            mlflow.log_artifact(str(history_of(model.name)))
            pyfunc.log_model(model)
            mlflow.set_tag(CONTENT, content_sha256(model))

    @contextmanager
    def _outages_survived(self, consequence: str) -> Iterator[None]:
        """Turns an error of MLflow into a warning, once for each consequence until MLflow answers again."""
        try:
            with translated_errors():
                yield
        except UserError as error:
            if self._warn is None:
                raise
            if consequence not in self._warned:
                self._warn(f"{error}; training goes on, and {consequence}")
            self._warned.add(consequence)
        else:
            self._warned.clear()


@contextmanager
def live_run(
    candidate: str,
    params: Params,
    clips: pd.DataFrame,
    machine: Mapping[str, str],
    run_id: str | None = None,
    warn: Callable[[str], None] | None = None,
) -> Iterator[LiveRun]:
    """Opens a run for the training of `candidate` on `clips`; logs parameters, data set, provenance and `machine`.

    `machine` has tags that say what the training runs on. If the server still has the run `run_id`, that run is
    continued. `warn` is that of `LiveRun`.

    Raises:
        UserError: MLflow does not answer, or refuses.
    """
    with ExitStack() as stack:
        with translated_errors():
            client = connect(params.register_.name)
            if run_id and _has_run(client, params.register_.name, run_id):
                stack.enter_context(_started(run_id=run_id))
                mlflow.set_tags(dict(machine))
            else:
                tags = {**_tags(candidate), **machine, CHECKOUT: _checkout()}
                name = f"{candidate}, {short_name(params.dataset.source)}, {_minute()}"
                run_id = stack.enter_context(_started(run_name=name, tags=tags))
                _log_inputs(candidate, params, clips)
            run = LiveRun(run_id, warn)
        yield run


def _log_inputs(candidate: str, params: Params, clips: pd.DataFrame) -> None:
    mlflow.log_params(_flat(params, candidate))
    with warnings.catch_warnings(action="ignore"):
        dataset = from_pandas(
            clips.drop(columns="error"), source=ACCEPTED.as_posix(), name=short_name(params.dataset.source)
        )
        # If two processes log the same new data set at once, MLflow refuses the second; its retry finds it.
        for attempt in retried_on("BAD_REQUEST"):
            with attempt:
                mlflow.log_input(dataset, context="training")


@contextmanager
def _started(**arguments: Any) -> Iterator[str]:
    """Starts a run, or continues one, and yields its id; an outage of MLflow at its end ends nothing else."""
    run_id = str(mlflow.start_run(**arguments).info.run_id)
    status = RunStatus.FINISHED
    try:
        yield run_id
    except Exception:
        status = RunStatus.FAILED
        raise
    except BaseException:
        status = RunStatus.KILLED
        raise
    finally:
        with suppress(UserError), translated_errors(), few_retries():
            mlflow.end_run(RunStatus.to_string(status))


@translated_errors()
def end_killed_runs(candidate: str, params: Params, continued: str | None = None, tag: str = CHECKOUT) -> None:
    """Ends the runs that killed trainings of `candidate` in this checkout left running, but for the run `continued`.

    With the tag SEARCH_CHECKOUT, those of killed searches. Call it where no other process does the same for `candidate`
    in this checkout.
    """
    client = connect(params.register_.name)
    query = f"attributes.status = 'RUNNING' and tags.candidate = '{candidate}' and tags.{tag} = '{_checkout()}'"
    for run in client.search_runs([_experiment_id(client, params.register_.name)], query):
        if run.info.run_id != continued:
            client.set_terminated(run.info.run_id, RunStatus.to_string(RunStatus.KILLED))


def _checkout() -> str:
    """Tells this checkout from others and from its copies; a container that is made again is the same."""
    CHECKOUT_ID.parent.mkdir(exist_ok=True)
    with suppress(FileExistsError), CHECKOUT_ID.open("x") as file:
        file.write(uuid.uuid4().hex)
    return hashlib.sha256(f"{CHECKOUT_ID.read_text()}:{Path.cwd()}".encode()).hexdigest()[:16]


@contextmanager
def tuning_run(candidate: str, experiment: str, run_id: str | None) -> Iterator[str]:
    """Opens the parent run of a search's trials and yields its id; continues `run_id` if the server still has it."""
    client = connect(experiment)
    existing = run_id if run_id and _has_run(client, experiment, run_id) else None
    name = None if existing else f"tune {candidate}, {_minute()}"
    with _started(run_id=existing, run_name=name, tags={"tuning": "true", **_search_tags(candidate)}) as started_id:
        yield started_id


@contextmanager
def trial_run(
    number: int, candidate: str, params: Params, run_id: str | None, warn: Callable[[str], None] | None = None
) -> Iterator[LiveRun]:
    """Opens the run of one trial below the run of its search, and logs the parameters.

    If the server still has the run `run_id`, that run is continued. `warn` is that of `LiveRun`.
    """
    if run_id and _has_run(MlflowClient(), params.register_.name, run_id):
        with _started(run_id=run_id, nested=True):
            yield LiveRun(run_id, warn)
        return
    with _started(run_name=f"trial {number}", nested=True, tags=_search_tags(candidate)) as new_id:
        mlflow.log_params(_flat(params, candidate))
        yield LiveRun(new_id, warn)


def _search_tags(candidate: str) -> dict[str, str]:
    return {"candidate": candidate, SEARCH_CHECKOUT: _checkout()}


def _has_run(client: MlflowClient, experiment: str, run_id: str) -> bool:
    try:
        info = client.get_run(run_id).info
    except MlflowException:
        return False
    return info.lifecycle_stage == "active" and info.experiment_id == _experiment_id(client, experiment)


def _experiment_id(client: MlflowClient, name: str) -> str:
    experiment = client.get_experiment_by_name(name)
    if experiment is None:
        raise MlflowException(f"experiment {name} does not exist", RESOURCE_DOES_NOT_EXIST)
    return experiment.experiment_id


@translated_errors()
def find_or_log_run(candidate: str, model: Path, params: Params, clips: pd.DataFrame, history: pd.DataFrame) -> str:
    """Returns the id of the run that made `model`.

    If the server does not have it (another server, or a result from DVC's cache), logs it from the stage's files.
    """
    client = connect(params.register_.name)
    experiment_id = _experiment_id(client, params.register_.name)
    query = f"tags.{CONTENT} = '{content_sha256(model)}'"
    runs = client.search_runs([experiment_id], query, max_results=1)
    if runs:
        return str(runs[0].info.run_id)
    # The machine that trained it is unknown.
    with live_run(candidate, params, clips, {}) as run:
        run.log_epochs(history.to_dict("records"))
        run.finish(model)
        return run.run_id


@translated_errors()
def log_evaluation(
    run_id: str, figures: Mapping[str, float], files: Mapping[str, Iterable[Path]], charts: Mapping[str, object]
) -> None:
    """Logs an evaluation to a run, unless the run has the same figures already.

    `files` maps a folder of the run's artifacts to files; `charts` maps names of HTML files to charts.
    """
    logged = MlflowClient().get_run(run_id).data.metrics
    if all(logged.get(key) == value for key, value in figures.items()):
        return
    with mlflow.start_run(run_id=run_id):
        for folder, paths in files.items():
            for path in paths:
                mlflow.log_artifact(str(path), folder or None)
        for name, chart in charts.items():
            mlflow.log_figure(chart, name)
        # Last: the figures mark the evaluation as complete.
        mlflow.log_metrics(dict(figures))


@translated_errors()
def page_of(run_id: str) -> str:
    """The path of the run's page on MLflow's server."""
    return f"#/experiments/{MlflowClient().get_run(run_id).info.experiment_id}/runs/{run_id}"


@translated_errors()
def log_files(run_id: str, run_folder: str, files: Mapping[str, bytes]) -> None:
    """Logs files, name -> content, to a folder of a run's artifacts ("" for the top); replaces older ones."""
    with tempfile.TemporaryDirectory(prefix="earmark-") as folder:
        for name, content in files.items():
            (Path(folder) / name).write_bytes(content)
        MlflowClient().log_artifacts(run_id, folder, run_folder or None)


@translated_errors()
def files_of(run_id: str, run_folder: str) -> dict[str, bytes]:
    """Returns the files in a folder of a run's artifacts: name -> content."""
    client = MlflowClient()
    with tempfile.TemporaryDirectory(prefix="earmark-") as folder:
        paths = [entry.path for entry in client.list_artifacts(run_id, run_folder) if not entry.is_dir]
        downloads = [Path(client.download_artifacts(run_id, path, folder)) for path in paths]
        return {path.name: path.read_bytes() for path in downloads}


@translated_errors()
def tags_of(run_id: str) -> dict[str, str] | None:
    """Returns the tags of a run; None if it was deleted."""
    try:
        run = MlflowClient().get_run(run_id)
    except MlflowException as error:
        raise_unless(error, "RESOURCE_DOES_NOT_EXIST")
        return None
    return dict(run.data.tags) if run.info.lifecycle_stage == "active" else None


def _tags(candidate: str) -> dict[str, str]:
    flow_run = flow_run_id()
    flow = {"prefect_flow_run_id": flow_run} if flow_run else {}
    return {"candidate": candidate, **flow, **git.git_state(), **_hash_tags()}


def _hash_tags() -> dict[str, str]:
    """DVC's hashes of the training's inputs only: those of models and reports are still of the previous training."""
    hashes = dvc_lock.output_hashes().items()
    return {dvc_lock.hash_tag(path): md5 for path, md5 in hashes if Path(path).is_relative_to(DATA)}


def _flat(params: Params, candidate: str) -> dict[str, object]:
    content = params.model_dump(mode="json", by_alias=True, exclude={"train", "tune", "register_"})
    content["train"] = params.train.candidate(candidate).model_dump(mode="json")
    content["dataset"]["source"] = _without_secrets(params.dataset.source)
    frame = pd.json_normalize(content)
    return {key: str(value)[:6000] for key, value in frame.iloc[0].items()}


def short_name(source: str) -> str:
    """The last part of a source's address, to tell data sets apart; without what may be secret."""
    return Path(_without_secrets(source)).name[:200] or "recordings"


def _without_secrets(source: str) -> str:
    return redact_url(source) if is_url(source) else source


def _minute() -> str:
    return formats.minute(datetime.now(UTC))
