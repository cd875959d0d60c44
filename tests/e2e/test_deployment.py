"""The weekly deployment for real: a server, `prefect deploy`, a worker, and a run that ends Completed."""

import json
import os
import signal
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from conftest import BIN, SMALL, checkout

DEADLINE_SECONDS = 480
STAGES = {"ingest", "validate", "extract", "train@tc_resnet", "evaluate", "register"}


@contextmanager
def started(command: list[str], folder: Path, environment: dict, log: Path) -> Iterator[subprocess.Popen]:
    """A background process, with its children ended at the end."""
    with log.open("w") as output:
        process = subprocess.Popen(
            command, cwd=folder, env=environment, stdout=output, stderr=output, start_new_session=True
        )
    try:
        yield process
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def post(api: str, path: str, body: dict) -> list[dict]:
    request = urllib.request.Request(f"{api}{path}", json.dumps(body).encode(), {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=30) as answer:
        return json.load(answer)


def wait_for(what: str, check, process: subprocess.Popen, log: Path):
    """The first true value of `check`, within the deadline and while `process` lives."""
    end = time.monotonic() + DEADLINE_SECONDS
    while time.monotonic() < end:
        assert process.poll() is None, f"{what}: the process ended\n{log.read_text()}"
        try:
            if value := check():
                return value
        except OSError:
            pass
        time.sleep(0.5)
    raise AssertionError(f"{what} did not happen in {DEADLINE_SECONDS} s\n{log.read_text()[-5000:]}")


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    return checkout(tmp_path_factory.mktemp("deployment"), SMALL)


@pytest.fixture(scope="module")
def server(project, tmp_path_factory):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    folder = tmp_path_factory.mktemp("server")
    api = f"http://127.0.0.1:{port}/api"
    environment = os.environ | {
        "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}",
        "PREFECT_HOME": str(folder),
        "PREFECT_API_URL": api,
        "NO_PROXY": "127.0.0.1",
    }
    log = folder / "server.log"
    command = [str(BIN / "prefect"), "server", "start", "--host", "127.0.0.1", "--port", str(port)]
    with started(command, project, environment, log) as process:
        wait_for("server", lambda: urllib.request.urlopen(f"{api}/health", timeout=5).status == 200, process, log)
        yield api, environment, folder


def test_the_deployment_runs_through_a_worker(project, server):
    api, environment, folder = server
    log = folder / "worker.log"
    worker = [str(BIN / "prefect"), "worker", "start", "--pool", "earmark", "--type", "process"]
    with started(worker, project, environment, log) as process:
        wait_for("work pool", lambda: post(api, "/work_pools/filter", {}), process, log)
        deploy = [BIN / "prefect", "--no-prompt", "deploy", "--all"]
        deployed = subprocess.run(deploy, cwd=project, env=environment, capture_output=True, text=True)
        assert deployed.returncode == 0, deployed.stdout + deployed.stderr
        [deployment] = post(api, "/deployments/filter", {})
        [schedule] = deployment["schedules"]
        assert (deployment["name"], schedule["slug"], schedule["active"]) == ("weekly", "weekly", True)
        triggered = subprocess.run(
            [BIN / "prefect", "deployment", "run", "retrain/weekly"], cwd=project, env=environment, capture_output=True
        )
        assert triggered.returncode == 0, triggered.stderr
        wanted = {"flow_runs": {"state": {"type": {"any_": ["COMPLETED", "FAILED", "CRASHED", "CANCELLED"]}}}}
        [run] = wait_for("flow run", lambda: post(api, "/flow_runs/filter", wanted), process, log)
    assert run["state_type"] == "COMPLETED", log.read_text()
    tasks = post(api, "/task_runs/filter", {"flow_runs": {"id": {"any_": [run["id"]]}}})
    assert sorted(task["name"] for task in tasks) == sorted(STAGES)
    assert {task["state_type"] for task in tasks} == {"COMPLETED"}
    assert (project / "reports/report.html").exists()
