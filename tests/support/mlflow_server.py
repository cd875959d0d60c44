"""An MLflow server for tests, and versions in its registry that cost no training."""

import hashlib
import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest
from conftest import BIN
from mlflow import MlflowClient
from mlflow.entities import LoggedModelOutput

from earmark.registry.alias_log.aliases import ABANDONED_AFTER, Aliases
from earmark.registry.versions import Registry, Version
from earmark.tracking import connection
from earmark.tracking.registered_model import RegisteredModel
from support.prefect_server import answers, free_port, running, wait_until

START_SECONDS = 120


@contextmanager
def serving(home: Path, port: int | None = None) -> Iterator[str]:
    """The address of an MLflow server on a port of 127.0.0.1, by default a free one, whose data is in `home`."""
    port = str(port or free_port())
    address, log = f"http://127.0.0.1:{port}", home / "server.log"
    command = [BIN / "mlflow", "server", "--host", "127.0.0.1", "--port", port, "--workers", "2"]
    places = ["--backend-store-uri", f"sqlite:///{home}/mlflow.db", "--artifacts-destination", str(home / "artifacts")]
    environment = os.environ | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}  # eight processes, which no test uses
    with running([*command, *places], log, cwd=home, env=environment):
        wait_until(lambda: answers(f"{address}/health"), START_SECONDS, f"the MLflow server answers, see {log}")
        yield address


def registry_at(address: str, name: str, client: MlflowClient | None = None, **settings) -> Registry:
    """The registry `name` of the server at `address`."""
    client = client or MlflowClient(address)
    model, log = RegisteredModel(name, client), RegisteredModel(f"{name}-moves", client)
    return Registry(model, Aliases(model, log, **settings))


def long_after(address: str, registry: Registry) -> Aliases:
    """The aliases, at a time when what is not applied is one of a killed process."""
    return registry_at(address, registry.name, clock=lambda: datetime.now(UTC) + 2 * ABANDONED_AFTER).aliases


@pytest.fixture
def registry(address, request, monkeypatch) -> Registry:
    """A registered model for one test, at the `address` of its module."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
    connection.connect("registry")
    return registry_at(address, f"{request.node.originalname} {uuid.uuid4().hex[:6]}")


@pytest.fixture
def versions(registry, address, tmp_path) -> list[Version]:
    """Four versions, to none of which an alias points."""
    return some_versions(registry, address, tmp_path / "some_candidate", 4)


@pytest.fixture
def client(address) -> MlflowClient:
    """Of MLflow's own."""
    return MlflowClient(address)


def logged_run(address: str, folder: Path) -> str:
    """A run with the files of `folder` as its model; its id."""
    client = MlflowClient(address)
    run = client.create_run("0").info.run_id
    model = client.create_logged_model("0", name=folder.name, source_run_id=run)
    client.log_model_artifacts(model.model_id, str(folder))
    client.finalize_logged_model(model.model_id, "READY")
    client.log_outputs(run, [LoggedModelOutput(model.model_id, step=0)])
    return run


def moved(registry: Registry, *numbers: str) -> None:
    """Makes these versions champion, one after the other."""
    for number in numbers:
        champion = registry.aliases.reconcile().champion
        assert registry.aliases.promote(number, champion, "as the test wants it")


def in_mlflow(client: MlflowClient, registry: Registry) -> dict[str, str]:
    """Where MLflow's own aliases point."""
    return {alias: str(number) for alias, number in client.get_registered_model(registry.name).aliases.items()}


def some_model(folder: Path, content: str) -> Path:
    """A folder as a run's model is logged, whose model.keras holds `content`."""
    model = folder / "artifacts" / "some_candidate"
    model.mkdir(parents=True)
    (model / "model.keras").write_text(content)
    return folder


def some_versions(registry: Registry, address: str, folder: Path, count: int) -> list[Version]:
    """So many new versions of different content, of one run."""
    run = logged_run(address, some_model(folder, registry.name))
    contents = [hashlib.sha256(f"{registry.name} {number}".encode()).hexdigest() for number in range(count)]
    return [registry.add(run, content, {"candidate": "some_candidate"}) for content in contents]
