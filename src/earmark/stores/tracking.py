"""The one door to MLflow: a run for each training, found again by the content of its model, and the model registry."""

import contextlib
import io
import logging
import os
import warnings
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from mlflow.models import ModelSignature
from mlflow.types import ColSpec, Schema, TensorSpec
from sqlalchemy.exc import SQLAlchemyError

from earmark.errors import UserError
from earmark.params import Params
from earmark.stores import provenance

DEFAULT_URI = "sqlite:///mlflow.db"
CONTENT = "content_sha256"
REQUIREMENTS = ("keras", "mlflow", "numpy", "pandas", "tensorflow")
SERVING_SCRIPT = Path(__file__).parents[1] / "learning" / "serving.py"
DESCRIPTION = (
    "A sound classifier: float32 waveforms in [-1, 1] to labels and probabilities, front end and labels inside."
)


def connect(name: str) -> MlflowClient:
    """A client of MLFLOW_TRACKING_URI, or of the SQLite file mlflow.db, with `name` as its experiment."""
    _start()
    try:
        mlflow.set_experiment(name)
    except (MlflowException, SQLAlchemyError, OSError) as error:
        raise UserError(f"MLflow at {_address()} does not answer: {_first_line(error)}") from None
    return MlflowClient()


class LiveRun:
    """A training as it goes on; `run_id` is what MLflow calls it."""

    def __init__(self, run_id: str, clip_samples: int):
        self.run_id, self._clip_samples = run_id, clip_samples
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
        # What validation said of the clips; a model can be trained where only they were brought, without it.
        _log_model(model, self._clip_samples)
        mlflow.set_tag(CONTENT, provenance.content_sha256(model))


@contextmanager
def live_run(candidate: str, params: Params, clips: pd.DataFrame, run_id: str | None = None) -> Iterator[LiveRun]:
    """A run of the training of `candidate` on `clips`: parameters, data set and provenance first, epochs as they end;
    the run `run_id` goes on where the server still has it."""
    client = connect(params.register_.name)
    if run_id and _has_run(client, params.register_.name, run_id):
        with mlflow.start_run(run_id=run_id):
            yield LiveRun(run_id, params.dataset.clip_samples)
        return
    with mlflow.start_run(run_name=candidate, tags=_tags(candidate)) as started:
        mlflow.log_params(_flat(params, candidate))
        with warnings.catch_warnings(action="ignore"):
            dataset = mlflow.data.from_pandas(
                clips.drop(columns="error"), source="data/accepted.parquet", name=_short(params.dataset.source)
            )
            mlflow.log_input(dataset, context="training")
        yield LiveRun(started.info.run_id, params.dataset.clip_samples)


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
            yield LiveRun(run_id, params.dataset.clip_samples)
        return
    with mlflow.start_run(run_name=f"trial {number}", nested=True, tags={"candidate": candidate}) as started:
        mlflow.log_params(_flat(params, candidate))
        yield LiveRun(started.info.run_id, params.dataset.clip_samples)


def _has_run(client: MlflowClient, experiment: str, run_id: str) -> bool:
    try:
        info = client.get_run(run_id).info
    except MlflowException:
        return False
    mine = client.get_experiment_by_name(experiment).experiment_id
    return info.lifecycle_stage == "active" and info.experiment_id == mine


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
    with live_run(candidate, params, clips) as run:
        run.epochs(history.to_dict("records"))
        run.finish(model)
        return run.run_id


def log_evaluation(
    run_id: str, figures: Mapping[str, float], artifacts: Mapping[str, Path], figures_html: Mapping[str, object]
) -> None:
    """Adds an evaluation to a run, once: a run that has the same figures is left alone."""
    known = MlflowClient().get_run(run_id).data.metrics
    if all(known.get(key) == value for key, value in figures.items()):
        return
    with mlflow.start_run(run_id=run_id):
        mlflow.log_metrics(dict(figures))
        for folder, path in artifacts.items():
            mlflow.log_artifact(str(path), folder or None)
        for name, figure in figures_html.items():
            mlflow.log_figure(figure, name)


@dataclass(frozen=True)
class Version:
    """A registered version; `content` is the SHA-256 of its model folder, `aliases` what points to it."""

    number: str
    content: str
    aliases: tuple[str, ...]


class Registry:
    """The versions of one registered model. Aliases move only through `add`."""

    def __init__(self, name: str):
        self.name, self._client = name, connect(name)

    def with_content(self, content: str) -> Version | None:
        """The version with this content, or None."""
        found = self._client.search_model_versions(f"name = '{self.name}'")
        return next((self._version(each.version) for each in found if each.tags.get(CONTENT) == content), None)

    def champion(self) -> Version | None:
        """The version that the alias `champion` points to, or None."""
        found = self._client.search_registered_models(f"name = '{self.name}'")
        number = found[0].aliases.get("champion") if found else None
        return self._version(number) if number else None

    def download(self, version: Version, folder: Path) -> Path:
        """The model folder of `version`, below `folder`."""
        return download_model(f"models:/{self.name}/{version.number}", folder)

    def add(self, run_id: str, candidate: str, content: str, alias: str, tags: Mapping[str, str]) -> Version:
        """Registers the model of a run, of this content, as a new version with tags and points `alias` at it."""
        if not self._client.search_registered_models(f"name = '{self.name}'"):
            self._client.create_registered_model(self.name, description=DESCRIPTION)
        model_id = self._client.get_run(run_id).outputs.model_outputs[-1].model_id
        made = self._client.create_model_version(
            self.name, f"models:/{model_id}", run_id, tags=dict(tags), model_id=model_id
        )
        self._client.update_model_version(
            self.name, made.version, description=f"{candidate}; {tags.get('verdict', '')}"
        )
        self._client.set_registered_model_alias(self.name, alias, made.version)
        # Last, since it is what the version is known by: a registration that was interrupted is made again.
        self._client.set_model_version_tag(self.name, made.version, CONTENT, content)
        return self._version(made.version)

    def _version(self, number: str | int) -> Version:
        found = self._client.get_model_version(self.name, str(number))
        return Version(str(found.version), found.tags.get(CONTENT, ""), tuple(found.aliases))


@dataclass(frozen=True)
class TrainedVersion:
    """A registered version as people name it, and DVC's hash of the clips that it was trained on, "" if unknown."""

    title: str
    accepted_md5: str


def trained_versions(experiment: str) -> list[TrainedVersion]:
    """Every version in the registry, of whatever name; UserError where the registry does not answer."""
    client = connect(experiment)
    versions = []
    for each in client.search_model_versions():
        aliases = client.get_model_version(each.name, each.version).aliases
        title = f"{each.name} version {each.version}" + (f" ({', '.join(aliases)})" if aliases else "")
        versions.append(TrainedVersion(title, each.tags.get("dvc.data/accepted.parquet", "")))
    return versions


def download_model(uri: str, folder: Path) -> Path:
    """The model folder behind a `models:/…` address, below `folder`; UserError where there is none."""
    _start()
    try:
        root = Path(mlflow.artifacts.download_artifacts(artifact_uri=uri, dst_path=str(folder)))
    except (MlflowException, OSError) as error:
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


def _log_model(folder: Path, samples: int) -> None:
    from importlib.metadata import version

    # MLflow advises type hints, which it has none of for arrays, past any warning filter; failures come as exceptions.
    with contextlib.redirect_stderr(io.StringIO()):
        mlflow.pyfunc.log_model(
            name=folder.name,
            python_model=str(SERVING_SCRIPT),
            artifacts={"model": str(folder)},
            signature=ModelSignature(
                Schema([TensorSpec(np.dtype("float32"), (-1, samples))]),
                Schema([ColSpec("string", "label"), ColSpec("double", "probability")]),
            ),
            input_example=np.zeros((1, samples), dtype=np.float32),
            pip_requirements=[f"{name}=={version(name)}" for name in REQUIREMENTS],
        )


def _tags(candidate: str) -> dict[str, str]:
    flow_run = os.environ.get("EARMARK_FLOW_RUN_ID")
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
    return str(error).strip().splitlines()[0][:200] if str(error).strip() else type(error).__name__
