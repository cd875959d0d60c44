"""A Prefect server for tests, and what they ask it."""

import itertools
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
import requests
from conftest import BIN

START_SECONDS = 180
RUN_SECONDS = 480


def wait_until(holds: Callable[[], object], seconds: float, what: str) -> None:
    """Polls until `holds` returns something true; fails the test with `what` after `seconds`."""
    deadline = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > deadline:
            pytest.fail(f"{what}: not within {seconds} s")
        time.sleep(0.2)


def answers(url: str) -> bool:
    """Whether a server says at `url` that all is well."""
    try:
        return requests.get(url, timeout=5).ok
    except requests.RequestException:
        return False


class PrefectServer:
    """A running Prefect server, seen through its HTTP interface."""

    def __init__(self, url: str, home: Path):
        self.url = url
        self.home = home
        self.session = requests.Session()
        self.environment = {
            **{key: value for key, value in os.environ.items() if not key.startswith("PREFECT")},
            "DO_NOT_TRACK": "1",
            "PREFECT_API_URL": url,
            "PREFECT_HOME": str(home),
            "PREFECT_PROFILES_PATH": str(home / "profiles.toml"),
            "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        }

    def is_healthy(self) -> bool:
        return answers(f"{self.url}/health")

    def flow_run(self, run_id: str) -> dict:
        return self._answer(self.session.get(f"{self.url}/flow_runs/{run_id}", timeout=30))

    def task_runs(self, run_id: str) -> list[dict]:
        """The task runs of one flow run, in the order of their start."""
        runs = self.ask("/task_runs/filter", {"flow_runs": {"id": {"any_": [run_id]}}})
        return sorted(runs, key=lambda run: run["start_time"] or "")

    def artifacts(self, run_id: str) -> list[dict]:
        return self.ask("/artifacts/filter", {"artifacts": {"flow_run_id": {"any_": [run_id]}}})

    def deployment(self, name: str) -> dict:
        [deployment] = self.ask("/deployments/filter", {"deployments": {"name": {"any_": [name]}}})
        return deployment

    def runs_of(self, deployment: str, *states: str) -> list[dict]:
        """The flow runs of a deployment that are in one of these states, the first started first."""
        query = {"state": {"type": {"any_": states}}, "deployment_id": {"any_": [self.deployment(deployment)["id"]]}}
        return self.ask("/flow_runs/filter", {"flow_runs": query, "sort": "START_TIME_ASC"})

    def ended_runs(self, deployment: str) -> list[dict]:
        return self.runs_of(deployment, "COMPLETED", "FAILED", "CRASHED", "CANCELLED")

    def log_of(self, run_id: str) -> list[str]:
        return [entry["message"] for entry in self.ask("/logs/filter", {"logs": {"flow_run_id": {"any_": [run_id]}}})]

    def ask(self, path: str, query: dict | None = None) -> list[dict]:
        """What a search at `path` finds."""
        return self._answer(self.session.post(f"{self.url}{path}", json=query or {}, timeout=30))

    def post(self, path: str, content: dict, known: int = 200) -> None:
        """Has the server do something; it may also answer `known`."""
        response = self.session.post(f"{self.url}{path}", json=content, timeout=30)
        assert response.ok or response.status_code == known, response.text

    @staticmethod
    def _answer(response: requests.Response):
        response.raise_for_status()
        return response.json()


@contextmanager
def running(command: list, log: Path, **popen) -> Iterator[subprocess.Popen]:
    """A process whose output goes to `log`; at the end of the block it is terminated and, if need be, killed."""
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, **popen)
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@contextmanager
def serving(home: Path) -> Iterator[PrefectServer]:
    """A Prefect server on a free port of 127.0.0.1 with its database in `home`."""
    port = free_port()
    server = PrefectServer(f"http://127.0.0.1:{port}/api", home)
    log = home / "server.log"
    command = [BIN / "prefect", "server", "start", "--host", "127.0.0.1", "--port", str(port)]
    with running(command, log, cwd=home, env=server.environment):
        wait_until(server.is_healthy, START_SECONDS, f"the Prefect server answers, see {log}")
        yield server


def run_weekly(server: PrefectServer, folder: Path, environment: dict[str, str], log: Path) -> dict:
    """Deploys `weekly` of the prefect.yaml in `folder`, and has a worker run it once; the flow run at its end."""

    def prefect(*arguments: str) -> None:
        done = subprocess.run(
            [BIN / "prefect", *arguments], cwd=folder, env=environment, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stdout + done.stderr

    worker = [BIN / "prefect", "worker", "start", "--pool", "cpu", "--type", "process"]
    often = {"PREFECT_WORKER_QUERY_SECONDS": "1"}
    with running(worker, log, cwd=folder, env=environment | often, start_new_session=True) as process:
        wait_until(lambda: server.ask("/work_pools/filter"), RUN_SECONDS, f"the worker's pool is there, see {log}")
        prefect("--no-prompt", "deploy", "--name", "weekly")
        try:
            return run_once(server, prefect, log)
        except BaseException:
            os.killpg(process.pid, signal.SIGKILL)  # the flow too, which the worker would leave behind
            raise


def run_once(server: PrefectServer, prefect: Callable[..., object], log: Path) -> dict:
    """Starts the weekly deployment with Prefect's command line `prefect`; returns the flow run at its end."""
    [schedule] = server.deployment("weekly")["schedules"]
    assert (schedule["slug"], schedule["active"]) == ("weekly", True)
    prefect("deployment", "run", "retrain/weekly")
    wait_until(lambda: server.ended_runs("weekly"), RUN_SECONDS, f"the flow run ends, see {log}")
    [run] = server.ended_runs("weekly")
    return run


# Another range a process, below those that the kernel gives: two workers are not given the same port.
_ports = itertools.count(20_000 + os.getpid() * 40 % 12_000)


def free_port() -> int:
    """A port of 127.0.0.1 that nobody listens at."""
    for port in _ports:
        with socket.socket() as listener, suppress(OSError):
            listener.bind(("127.0.0.1", port))
            return port
