"""Runs in MLflow: one for each training, found again by the content of its model."""

import warnings
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import mlflow
import pandas as pd
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from earmark.io.hashing import content_sha256
from earmark.params import Params
from earmark.params.environment import flow_run_id
from earmark.tracking import pyfunc
from earmark.tracking.connection import answering, connect, persistently
from earmark.versioning import dvc_lock, git

CONTENT = "content_sha256"


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
        pyfunc.log_model(model)
        mlflow.set_tag(CONTENT, content_sha256(model))


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
    wanted = f"tags.{CONTENT} = '{content_sha256(model)}'"
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


def _tags(candidate: str) -> dict[str, str]:
    flow_run = flow_run_id()
    flow = {"prefect_flow_run_id": flow_run} if flow_run else {}
    return {"candidate": candidate, **flow, **git.git_state(), **_hash_tags()}


def _hash_tags() -> dict[str, str]:
    """Hashes of what a training reads; those of models and reports are still the previous training's."""
    hashes = dvc_lock.dvc_hashes().items()
    return {key.replace(":", "."): value for key, value in hashes if key.startswith("dvc:data/")}


def _flat(params: Params, candidate: str) -> dict[str, object]:
    content = params.model_dump(mode="json", by_alias=True, exclude={"train", "tune", "register_"})
    content["train"] = params.train.candidate(candidate).model_dump(mode="json")
    frame = pd.json_normalize(content)
    return {key: str(value)[:6000] for key, value in frame.iloc[0].items()}


def _short(source: str) -> str:
    return Path(source).name[:200] or "recordings"
