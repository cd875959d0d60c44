"""Runs in MLflow when its server goes away, when a training was killed, and when its address holds a password."""

import contextlib
import os
from pathlib import Path
from urllib.parse import urlsplit

import mlflow
import pandas as pd
import pytest
from conftest import ROOT
from mlflow import MlflowClient
from support.mlflow_server import serving

from earmark import params
from earmark.errors import ServiceUnavailableError
from earmark.tracking import connection, runs

CLIPS = pd.DataFrame({"id": ["one"], "label": ["yes"], "error": [""]})


@pytest.fixture
def loaded(monkeypatch, tmp_path) -> params.Params:
    """params.yaml, in a working directory of its own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    for name in ("MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD"):
        monkeypatch.setenv(name, "")  # what is set in the process is put back after the test
    return params.load(ROOT / "params.yaml")


def rows(count: int) -> list[dict[str, float]]:
    return [{"epoch": epoch, "loss": 1.0 / epoch} for epoch in range(1, count + 1)]


def test_a_training_outlives_the_server_and_its_figures_arrive_later(loaded, monkeypatch, tmp_path):
    warnings: list[str] = []
    with contextlib.ExitStack() as server:
        address = server.enter_context(serving(tmp_path))
        monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
        with runs.live_run("tc_resnet", loaded, CLIPS, {}, warn=warnings.append) as run:
            run.log_epochs(rows(1))
            server.close()
            run.log_epochs(rows(2))
            run.log_epochs(rows(3))
            assert len(warnings) == 1
            assert warnings[0].startswith(f"MLflow at {address} does not answer: ")
            assert warnings[0].endswith("; training goes on, and its figures are sent when it answers again")
            server.enter_context(serving(tmp_path, urlsplit(address).port))
            run.log_epochs(rows(4))
        client = MlflowClient(address)
        history = client.get_metric_history(run.run_id, "loss")
        assert sorted(metric.step for metric in history) == [1, 2, 3, 4]
        assert client.get_run(run.run_id).info.status == "FINISHED"
        assert len(warnings) == 1


def test_a_server_that_is_gone_at_the_end_is_no_failure_of_the_training(loaded, monkeypatch, tmp_path):
    warnings: list[str] = []
    with contextlib.ExitStack() as server:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", server.enter_context(serving(tmp_path)))
        with runs.live_run("tc_resnet", loaded, CLIPS, {}, warn=warnings.append) as run:
            server.close()
            run.finish(tmp_path / "models/tc_resnet")
        assert len(warnings) == 1
        assert "'earmark register' logs the model" in warnings[0]
        assert mlflow.active_run() is None
        with pytest.raises(ServiceUnavailableError, match="does not answer"):
            runs.live_run("tc_resnet", loaded, CLIPS, {}).__enter__()


def statuses(experiment: str) -> dict[str, str]:
    client = MlflowClient()
    experiment_id = client.get_experiment_by_name(experiment).experiment_id
    return {run.info.run_id: run.info.status for run in client.search_runs([experiment_id])}


def test_runs_of_killed_trainings_are_ended_by_the_next_and_others_are_left_alone(loaded, monkeypatch, tmp_path):
    client = connection.connect(loaded.register_.name)

    def left_running(candidate: str = "tc_resnet", folder: Path = tmp_path, tag: str = runs.CHECKOUT) -> str:
        monkeypatch.chdir(folder)
        experiment = client.get_experiment_by_name(loaded.register_.name).experiment_id
        tags = {"candidate": candidate, tag: runs._checkout()}
        run_id = client.create_run(experiment, tags=tags).info.run_id
        monkeypatch.chdir(tmp_path)
        return run_id

    (tmp_path / "elsewhere").mkdir()
    killed, resumed, of_another = left_running(), left_running(), left_running("stem_resnet")
    of_another_checkout = left_running(folder=tmp_path / "elsewhere")
    of_a_search = left_running(tag=runs.SEARCH_CHECKOUT)
    runs.end_killed_runs("tc_resnet", loaded, resumed)
    with runs.live_run("tc_resnet", loaded, CLIPS, {}, resumed) as run:
        assert run.run_id == resumed
        assert statuses(loaded.register_.name) == {
            killed: "KILLED",
            resumed: "RUNNING",
            of_another: "RUNNING",
            of_another_checkout: "RUNNING",
            of_a_search: "RUNNING",
        }
    assert statuses(loaded.register_.name)[resumed] == "FINISHED"


@pytest.mark.parametrize(("error", "status"), [(ValueError, "FAILED"), (KeyboardInterrupt, "KILLED")])
def test_a_run_ends_as_its_training_does(loaded, error, status):
    with pytest.raises(error), runs.live_run("tc_resnet", loaded, CLIPS, {}) as run:
        raise error
    assert statuses(loaded.register_.name) == {run.run_id: status}


def test_a_password_in_the_address_is_used_and_never_shown(loaded, monkeypatch, capfd):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://alice:s3cr%40t@127.0.0.1:9")
    with pytest.raises(ServiceUnavailableError) as error:
        connection.client()
    assert str(error.value).startswith("MLflow at http://127.0.0.1:9 does not answer: ")
    assert (os.environ["MLFLOW_TRACKING_USERNAME"], os.environ["MLFLOW_TRACKING_PASSWORD"]) == ("alice", "s3cr@t")
    assert connection.address() == "http://127.0.0.1:9"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "postgresql+psycopg://mlflow:s3cr3t@127.0.0.1:9/mlflow")
    with pytest.raises(ServiceUnavailableError) as error:
        connection.client()
    assert "s3cr" not in str(error.value)
    assert "s3cr" not in "".join(capfd.readouterr())
