"""The team's service for real: `make stack`, a scheduled run through its worker, and a second clone that has it all."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import requests
from conftest import BIN, SMALL, checkout
from support.prefect_server import PrefectServer, run_once

from infra import secret_files, stack


def call(folder: Path, environment: dict[str, str], *command: object) -> subprocess.CompletedProcess:
    return subprocess.run(list(map(str, command)), cwd=folder, env=environment, capture_output=True, text=True)


def must(folder: Path, environment: dict[str, str], *command: object) -> str:
    done = call(folder, environment, *command)
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


class Team:
    """A repository, the stack that runs in the first clone of it, and what people export."""

    def __init__(self, folder: Path):
        self.repository, self.first = folder / "team.git", folder / "first"
        plain = {key: value for key, value in os.environ.items() if not key.startswith(("PREFECT", "MLFLOW", "AWS"))}
        self.environment = plain | {"PATH": f"{BIN}:{os.environ['PATH']}", "GIT_TERMINAL_PROMPT": "0"}
        checkout(self.first, SMALL)
        git = ("git", "-C", self.first)
        must(folder, self.environment, "git", "init", "-q", "--bare", "-b", "main", self.repository)
        must(folder, self.environment, *git, "branch", "-M", "main")
        must(folder, self.environment, *git, "remote", "add", "origin", self.repository)
        # The address is in git; the keys are only in the environment.
        must(self.first, self.environment, BIN / "dvc", "remote", "add", "-q", "-d", "team", "s3://earmark-dvc/team")
        must(folder, self.environment, *git, "commit", "-qam", "Add the DVC remote")
        must(folder, self.environment, *git, "push", "-qu", "origin", "main")

    def stack(self, command: str) -> subprocess.CompletedProcess:
        return call(self.first, self.environment, sys.executable, "-m", "infra.stack", command)

    @property
    def state(self) -> Path:
        return self.first / "infra/.state"

    @property
    def exported(self) -> dict[str, str]:
        """The environment after `source infra/.state/env`."""
        lines = (self.state / "env").read_text().splitlines()
        return self.environment | dict(shlex.split(line)[1].split("=", 1) for line in lines)

    @property
    def prefect(self) -> PrefectServer:
        server = PrefectServer(self.exported["PREFECT_API_URL"], self.first)
        server.session.auth = tuple(self.exported["PREFECT_API_AUTH_STRING"].split(":"))
        return server


@pytest.fixture(scope="module")
def team(tmp_path_factory):
    team = Team(tmp_path_factory.mktemp("team"))
    try:
        started = team.stack("up")
        assert started.returncode == 0, started.stdout + started.stderr
        yield team
    finally:
        team.stack("down")


@pytest.fixture(scope="module")
def run(team):
    """The run of the weekly deployment."""
    source = {"EARMARK_REPOSITORY": str(team.repository), "EARMARK_BRANCH": "main"}

    def prefect(*arguments: str) -> None:
        must(team.first, team.exported | source, BIN / "prefect", *arguments)

    prefect("--no-prompt", "deploy", "--all")
    return run_once(team.prefect, prefect, team.state / "logs/worker.log")


@pytest.mark.slow
def test_all_services_are_healthy_and_want_a_password(team):
    done = team.stack("status")
    assert done.returncode == 0, done.stdout
    assert re.findall(r"^(\w+) +healthy", done.stdout, re.MULTILINE) == [program.name for program in stack.PROGRAMS]
    exported = team.exported
    jobs = f"{exported['MLFLOW_TRACKING_URI']}/ajax-api/3.0/jobs"
    assert requests.get(f"{exported['MLFLOW_TRACKING_URI']}/api/2.0/mlflow/experiments/search").status_code == 401
    assert requests.post(jobs, json={}).status_code in (401, 404)
    assert requests.post(f"{exported['PREFECT_API_URL']}/flows/count").status_code == 401
    assert requests.get(f"{exported['AWS_ENDPOINT_URL']}/earmark-dvc").status_code == 403


@pytest.mark.slow
def test_a_scheduled_run_publishes_what_a_second_clone_brings_in(team, run, tmp_path):
    assert run["state_type"] == "COMPLETED", (team.state / "logs/worker.log").read_text()
    second = tmp_path / "second"
    must(tmp_path, team.environment, "git", "clone", "-q", team.repository, second)
    assert "data objects" in must(second, team.exported, BIN / "earmark", "fetch")
    assert "nothing changed" in must(second, team.exported, BIN / "python", "-m", "flows.retrain")
    (second / "clip.wav").write_bytes(
        subprocess.run([BIN / "earmark", "cat", first_recording(second, team)], cwd=second, env=team.exported,
                       capture_output=True, check=True).stdout
    )  # fmt: skip
    assert "clip.wav: " in must(second, team.exported, BIN / "earmark", "predict", "clip.wav")
    assert "nothing is missing or damaged" in must(second, team.exported, BIN / "earmark", "lineage", "champion")
    assert "earmark-v1" in must(second, team.exported, "git", "tag")


def first_recording(clone: Path, team: Team) -> str:
    return must(clone, team.exported, BIN / "earmark", "ls").split("\n")[0].split()[0]


@pytest.mark.slow
def test_no_secret_is_in_logs_reports_or_prefect(team, run):
    secrets = {
        line
        for file in (team.state / "secrets").iterdir()
        if file.name in (*secret_files.PASSWORDS, *(f"s3_{user}" for user in secret_files.S3_USERS))
        for line in file.read_text().split("\n")
        if len(line) > 20
    }
    assert len(secrets) == len(secret_files.PASSWORDS) + len(secret_files.S3_USERS)
    places = [*team.state.glob("logs/*"), *team.first.glob("reports/**/*.*"), team.first / "dvc.lock"]
    texts = [file.read_text(errors="replace") for file in places if file.is_file()]
    texts += [entry["message"] for entry in team.prefect.ask("/logs/filter")]
    assert len(texts) > 20
    assert not [secret for secret in secrets if any(secret in text for text in texts)]


@pytest.mark.slow
def test_a_second_start_changes_nothing_and_what_is_stopped_stays(team):
    before = (team.state / "env").read_bytes()
    assert team.stack("up").returncode == 0
    assert (team.state / "env").read_bytes() == before
    assert team.stack("down").returncode == 0
    assert team.stack("status").returncode == 1
    assert team.stack("up").returncode == 0
    assert (team.state / "env").read_bytes() == before
    assert "champion" in must(team.first, team.exported, BIN / "earmark", "registry", "list")
