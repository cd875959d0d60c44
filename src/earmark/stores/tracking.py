"""The door to MLflow's tracking: a run for each training, found again by the content of its model."""

import logging
import os
import warnings
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import mlflow
import pandas as pd
import tenacity
from boto3.exceptions import Boto3Error
from botocore.exceptions import BotoCoreError, ClientError
from mlflow import MlflowClient
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException
from sqlalchemy.exc import SQLAlchemyError

from earmark.errors import NotAnswering, UserError
from earmark.params import Params
from earmark.stores import moves, provenance, served

DEFAULT_URI = "sqlite:///mlflow.db"
CONTENT = "content_sha256"
NOT_FOUND = 404
RETRIES = "MLFLOW_HTTP_REQUEST_MAX_RETRIES"


def client() -> MlflowClient:
    """A client of MLFLOW_TRACKING_URI, or of the SQLite file mlflow.db; UserError where it does not answer."""
    _start()
    with _first_request():
        found = MlflowClient()
        found.search_registered_models(max_results=1)
    return found


def connect(name: str) -> MlflowClient:
    """The same, with `name` as the experiment of runs."""
    _start()
    with _first_request():
        mlflow.set_experiment(name)
    return MlflowClient()


@contextmanager
def answering(wanted: str = "") -> Iterator[None]:
    """What MLflow does not do in here, such as give what is `wanted`, is a UserError, whether its database, its server
    or its store of artifacts fails with exceptions of its own library: NotAnswering, unless it answers that there is no
    such thing."""
    try:
        yield
    except (MlflowException, SQLAlchemyError, BotoCoreError, ClientError, Boto3Error, OSError) as error:
        mlflow_there = f"MLflow at {_address()}"
        failure = f"{wanted} cannot be had from {mlflow_there}" if wanted else f"{mlflow_there} does not answer"
        kind = UserError if _is_gone(error) else NotAnswering
        raise kind(f"{failure}: {_first_line(error)}") from None


def _is_gone(error: Exception) -> bool:
    """Whether MLflow or its store answered, that it has no such thing, or that there can be none."""
    if isinstance(error, MlflowException):
        return error.error_code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE")
    if isinstance(error, ClientError):
        return error.response.get("ResponseMetadata", {}).get("HTTPStatusCode") == NOT_FOUND
    status = getattr(getattr(error, "response", None), "status_code", None)
    return isinstance(error, FileNotFoundError) or status == NOT_FOUND


@contextmanager
def _first_request() -> Iterator[None]:
    """As `answering`, and not for long; here shows too that a database has no driver, or that an address is none."""
    with answering(), _impatient():
        try:
            yield
        except (ImportError, ValueError) as error:
            raise MlflowException(str(error)) from error


@contextmanager
def _impatient() -> Iterator[None]:
    """A server that is down is told after seconds; later calls have MLflow's own patience, which is minutes."""
    before = os.environ.get(RETRIES)
    os.environ.setdefault(RETRIES, "2")
    try:
        yield
    finally:
        if before is None:
            os.environ.pop(RETRIES)


class LiveRun:
    """A training as it goes on; `run_id` is what MLflow calls it."""

    def __init__(self, run_id: str):
        self.run_id = run_id
        self._known = {metric.step for metric in MlflowClient().get_metric_history(run_id, "loss")}

    def epochs(self, rows: Iterable[Mapping[str, float]]) -> None:
        """The figures of those epochs that the run does not have yet."""
        for row in rows:
            epoch = int(row["epoch"])
            if epoch not in self._known:
                mlflow.log_metrics({key: value for key, value in row.items() if key != "epoch"}, step=epoch)
                self._known.add(epoch)

    def tag(self, key: str, value: str) -> None:
        """Tags the run."""
        mlflow.set_tag(key, value)

    def finish(self, model: Path) -> None:
        """The training's model, which is what the run is found by afterwards."""
        mlflow.log_artifact(str(Path("reports/training") / f"{model.name}.csv"))
        served.log_model(model)
        mlflow.set_tag(CONTENT, provenance.content_sha256(model))


@contextmanager
def live_run(
    candidate: str, params: Params, clips: pd.DataFrame, machine: Mapping[str, str], run_id: str | None = None
) -> Iterator[LiveRun]:
    """A run of the training of `candidate` on `clips`: parameters, data set and provenance first, `machine` (tags with
    what trains it) among it, epochs as they end; the run `run_id` goes on where the server still has it."""
    client = connect(params.register_.name)
    if run_id and _has_run(client, params.register_.name, run_id):
        with mlflow.start_run(run_id=run_id):
            mlflow.set_tags(dict(machine))
            yield LiveRun(run_id)
        return
    with mlflow.start_run(run_name=candidate, tags={**_tags(candidate), **machine}) as started:
        mlflow.log_params(_flat(params, candidate))
        with warnings.catch_warnings(action="ignore"):
            dataset = mlflow.data.from_pandas(
                clips.drop(columns="error"), source="data/accepted.parquet", name=_short(params.dataset.source)
            )
            # Of two that make the same data set known at once, MLflow refuses the second, which then finds it there.
            for attempt in persistently("BAD_REQUEST"):
                with attempt:
                    mlflow.log_input(dataset, context="training")
        yield LiveRun(started.info.run_id)


@contextmanager
def tuning_run(name: str, experiment: str, run_id: str | None) -> Iterator[str]:
    """A run under which those of trials stand, by its id; `run_id` goes on where the server still has it."""
    client = connect(experiment)
    known = run_id if run_id and _has_run(client, experiment, run_id) else None
    with mlflow.start_run(run_id=known, run_name=None if known else name, tags={"tuning": "true"}) as started:
        yield started.info.run_id


@contextmanager
def trial_run(number: int, candidate: str, params: Params, run_id: str | None) -> Iterator[LiveRun]:
    """A run of one trial, under that of its search: parameters first, epochs as they end; the run `run_id` goes on
    where the server still has it."""
    if run_id and _has_run(MlflowClient(), params.register_.name, run_id):
        with mlflow.start_run(run_id=run_id, nested=True):
            yield LiveRun(run_id)
        return
    with mlflow.start_run(run_name=f"trial {number}", nested=True, tags={"candidate": candidate}) as started:
        mlflow.log_params(_flat(params, candidate))
        yield LiveRun(started.info.run_id)


def _has_run(client: MlflowClient, experiment: str, run_id: str) -> bool:
    try:
        info = client.get_run(run_id).info
    except MlflowException:
        return False
    mine = client.get_experiment_by_name(experiment).experiment_id
    return info.lifecycle_stage == "active" and info.experiment_id == mine


@answering()
def run_of(candidate: str, model: Path, params: Params, clips: pd.DataFrame, history: pd.DataFrame) -> str:
    """Id of the run that made `model`.

    Where the server does not know it (another server, a result from DVC's cache), it is logged now from the stage's
    files.
    """
    client = connect(params.register_.name)
    experiment = client.get_experiment_by_name(params.register_.name)
    wanted = f"tags.{CONTENT} = '{provenance.content_sha256(model)}'"
    found = client.search_runs([experiment.experiment_id], wanted, max_results=1)
    if found:
        return found[0].info.run_id
    # What trained it is not known here.
    with live_run(candidate, params, clips, {}) as run:
        run.epochs(history.to_dict("records"))
        run.finish(model)
        return run.run_id


@answering()
def log_evaluation(
    run_id: str, figures: Mapping[str, float], files: Mapping[str, Iterable[Path]], figures_html: Mapping[str, object]
) -> None:
    """Adds an evaluation to a run, once: a run that has the same figures is left alone. `files` has those of each
    folder among the run's artifacts."""
    known = MlflowClient().get_run(run_id).data.metrics
    if all(known.get(key) == value for key, value in figures.items()):
        return
    with mlflow.start_run(run_id=run_id):
        for folder, paths in files.items():
            for path in paths:
                mlflow.log_artifact(str(path), folder or None)
        for name, figure in figures_html.items():
            mlflow.log_figure(figure, name)
        # Last, since it is what the evaluation is known by.
        mlflow.log_metrics(dict(figures))


@answering()
def log_page(run_id: str, page: str, name: str) -> None:
    """Puts an HTML page among the artifacts of a run, in place of one of the same name."""
    MlflowClient().log_text(run_id, page, name)


def make_model(client: MlflowClient, name: str, description: str) -> None:
    """Makes sure that there is a registered model of this name."""
    try:
        client.get_registered_model(name)
    except MlflowException as error:
        require(error, "RESOURCE_DOES_NOT_EXIST")
        try:
            client.create_registered_model(name, description=description)
        except MlflowException as beaten:
            require(beaten, "RESOURCE_ALREADY_EXISTS")


def all_versions(client: MlflowClient, name: str | None = None) -> list[ModelVersion]:
    """Every version of the registered model `name`, or else of all of them, the first one of each first."""
    wanted, order = f"name = '{name}'" if name else None, ["name ASC", "version_number ASC"]
    found = page = client.search_model_versions(wanted, order_by=order)
    while page.token:
        page = client.search_model_versions(wanted, order_by=order, page_token=page.token)
        found = [*found, *page]
    return list(found)


def persistently(*codes: str) -> tenacity.Retrying:
    """Attempts, for as long as MLflow refuses with one of these codes what another process did at the same time."""
    return tenacity.Retrying(
        retry=tenacity.retry_if_exception(
            lambda error: isinstance(error, MlflowException) and error.error_code in codes
        ),
        stop=tenacity.stop_after_attempt(20),
        wait=tenacity.wait_random_exponential(multiplier=0.05, max=2.0),
        reraise=True,
    )


def require(error: MlflowException, code: str) -> None:
    """Raises `error` unless this is its code."""
    if error.error_code != code:
        raise error


@dataclass(frozen=True)
class TrainedVersion:
    """A registered version as people name it, and DVC's hash of the clips that it was trained on, "" if unknown."""

    title: str
    accepted_md5: str


def trained_versions(experiment: str) -> list[TrainedVersion]:
    """Every version in the registry, of whatever name; UserError where the registry does not answer."""
    client = connect(experiment)
    with answering():
        return [_trained_version(client, each) for each in all_versions(client) if moves.ID not in each.tags]


def _trained_version(client: MlflowClient, found: ModelVersion) -> TrainedVersion:
    aliases = client.get_model_version(found.name, found.version).aliases
    title = f"{found.name} version {found.version}" + (f" ({', '.join(aliases)})" if aliases else "")
    return TrainedVersion(title, found.tags.get("dvc.data/accepted.parquet", ""))


def download_model(uri: str, folder: Path) -> Path:
    """The model folder behind a `models:/…` address, below `folder`; UserError where there is none."""
    _start()
    try:
        with answering(uri), _impatient():
            root = Path(mlflow.artifacts.download_artifacts(artifact_uri=uri, dst_path=str(folder)))
    except (ImportError, ValueError) as error:  # an address of no kind that is known here
        raise UserError(f"{uri} cannot be had from MLflow at {_address()}: {_first_line(error)}") from None
    models = sorted(path.parent for path in root.glob("artifacts/*/model.keras"))
    if not models:
        raise UserError(f"{uri} is no model of earmark: it holds no artifacts/…/model.keras")
    return models[0]


def _start() -> None:
    """Names the server, and keeps MLflow's remarks off the terminal: what it refuses still comes as an exception."""
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    for name in ("mlflow", "alembic"):
        logging.getLogger(name).setLevel(logging.ERROR)
    mlflow.set_tracking_uri(os.environ.get("MLFLOW_TRACKING_URI") or DEFAULT_URI)


def _tags(candidate: str) -> dict[str, str]:
    flow_run = provenance.flow_run_id()
    flow = {"prefect_flow_run_id": flow_run} if flow_run else {}
    return {"candidate": candidate, **flow, **provenance.git_state(), **_hash_tags()}


def _hash_tags() -> dict[str, str]:
    """Hashes of what a training reads; those of models and reports are still the previous training's."""
    hashes = provenance.dvc_hashes().items()
    return {key.replace(":", "."): value for key, value in hashes if key.startswith("dvc:data/")}


def _flat(params: Params, candidate: str) -> dict[str, object]:
    content = params.model_dump(mode="json", by_alias=True, exclude={"train", "tune", "register_"})
    content["train"] = params.train.candidate(candidate).model_dump(mode="json")
    frame = pd.json_normalize(content)
    return {key: str(value)[:6000] for key, value in frame.iloc[0].items()}


def _short(source: str) -> str:
    return Path(source).name[:200] or "recordings"


def _address() -> str:
    return mlflow.get_tracking_uri()


def _first_line(error: Exception) -> str:
    # A client of HTTP goes on with all that it tried.
    said, tried, _ = str(error).strip().partition(" failed with exception ")
    return f"{said.splitlines()[0][:200]}{' failed' * bool(tried)}" if said else type(error).__name__
