"""The team's service for real: `make stack`, runs through its workers, and a second clone that has it all."""

import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import boto3
import psutil
import pytest
import requests
from conftest import BIN, SMALL, change_params, checkout
from support.prefect_server import RUN_SECONDS, PrefectServer, run_once, running, wait_until

from flows.turn import limit_name
from infra import secret_files, service, stack


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

    def prefect_command(self, *arguments: str) -> None:
        source = {"EARMARK_REPOSITORY": str(self.repository), "EARMARK_BRANCH": "main"}
        must(self.first, self.exported | source, BIN / "prefect", *arguments)

    def push_params(self, clone: Path, changes: dict) -> None:
        """Somebody changes params.yaml in a clone of their own, and pushes that."""
        if not clone.exists():
            must(clone.parent, self.environment, "git", "clone", "-q", self.repository, clone)
        must(clone, self.environment, "git", "pull", "-q")
        change_params(clone, changes)
        identity = ("-c", "user.name=somebody", "-c", "user.email=somebody@example.invalid")
        must(clone, self.environment, "git", *identity, "commit", "-qam", "Change the parameters")
        must(clone, self.environment, "git", "push", "-q")

    @contextmanager
    def gpu_worker(self, folder: Path) -> Iterator[subprocess.Popen]:
        """A worker of the pool gpu, in its own clone below `folder`, as another machine runs it."""
        environment = self.exported | {
            "EARMARK_POOL": "gpu",
            "EARMARK_REPOSITORY": str(self.repository),
            "EARMARK_BRANCH": "main",
            "EARMARK_SECRETS": str(self.state / "secrets"),
            "PYTHONPATH": str(self.first),
        }
        command = [sys.executable, "-m", "infra.service"]
        log = self.state / "logs/worker-gpu.log"
        with running([*command, "worker"], log, cwd=folder, env=environment, start_new_session=True) as worker:
            health = [*command, "is-healthy", "worker"]
            wait_until(lambda: call(folder, environment, *health).returncode == 0, 90, f"the worker lives, see {log}")
            yield worker


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
    team.prefect_command("--no-prompt", "deploy", "--name", "weekly")
    return run_once(team.prefect, team.prefect_command, team.state / "logs/worker.log")


@pytest.mark.slow
def test_all_services_are_healthy_and_want_a_password(team):
    done = team.stack("status")
    assert done.returncode == 0, done.stdout
    assert re.findall(r"^(\w+) +healthy", done.stdout, re.MULTILINE) == [program.name for program in stack.PROGRAMS]
    assert re.search(r"^memory: \d\.\d\d GB$", done.stdout, re.MULTILINE)
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
def test_a_run_of_data_starts_a_training_on_another_machine_which_registers_and_tags(team, run, tmp_path):
    (tmp_path / "gpu").mkdir()
    with team.gpu_worker(tmp_path / "gpu"):
        team.prefect_command("--no-prompt", "deploy", "--all")
        team.push_params(tmp_path / "theirs", {"dataset": {"speakers": 7}})
        team.prefect_command("deployment", "run", "retrain/data")
        wait_until(lambda: team.prefect.ended_runs("training"), RUN_SECONDS, f"a training ends, see {team.state}/logs")
    [data], [training] = team.prefect.ended_runs("data"), team.prefect.ended_runs("training")
    assert data["state_type"] == "COMPLETED", team.prefect.log_of(data["id"])
    assert training["state_type"] == "COMPLETED", team.prefect.log_of(training["id"])
    tasks = {part["id"]: {task["name"] for task in team.prefect.task_runs(part["id"])} for part in (data, training)}
    assert tasks[data["id"]] == {"fetch", "ingest", "validate", "extract", "publish"}
    assert tasks[training["id"]] == {"fetch", "train@tc_resnet", "evaluate", "publish", "register"}
    second = tmp_path / "theirs"
    must(second, team.exported, BIN / "earmark", "fetch")
    assert "earmark-v2" in must(second, team.exported, "git", "tag")
    assert_artifacts_link_to_the_run(team, training["id"])


def assert_artifacts_link_to_the_run(team: Team, run_id: str) -> None:
    artifacts = {artifact["key"]: artifact["data"] for artifact in team.prefect.artifacts(run_id)}
    assert set(artifacts) == {"leaderboard", "verdict"}
    for text in artifacts.values():
        page, report = re.findall(r"\]\((http[^)]+)\)", text)
        login = ("earmark", team.exported["MLFLOW_TRACKING_PASSWORD"])
        assert "<title>" in requests.get(report, auth=login).text
        run = {"run_id": page.rpartition("/")[2].partition("?")[0]}
        answer = requests.get(f"{page.partition('/#')[0]}/api/2.0/mlflow/runs/get", run, auth=login)
        assert answer.json()["run"]["info"]["status"] == "FINISHED"


@pytest.mark.slow
def test_a_run_whose_machine_died_is_crashed_within_two_minutes_and_the_next_one_starts(team, run, tmp_path):
    (tmp_path / "gpu").mkdir()
    with team.gpu_worker(tmp_path / "gpu") as worker:
        team.prefect_command("--no-prompt", "deploy", "--all")
        team.push_params(tmp_path / "theirs", {"train": {"epochs": 5000}})
        team.prefect_command("deployment", "run", "retrain/training")
        wait_until(lambda: training_of(team), RUN_SECONDS, f"the training is at work, see {team.state}/logs")
        [killed] = team.prefect.runs_of("training", "RUNNING")
        for process in [*psutil.Process(worker.pid).children(recursive=True), psutil.Process(worker.pid)]:
            process.kill()
    team.push_params(tmp_path / "theirs", {"train": {"epochs": 2}})
    before = len(team.prefect.ended_runs("data"))
    team.prefect_command("deployment", "run", "retrain/data")
    wait_until(
        lambda: team.prefect.flow_run(killed["id"])["state_type"] == "CRASHED",
        RUN_SECONDS,
        "the run whose machine died is crashed",
    )
    assert "no heartbeat within 90 s" in team.prefect.flow_run(killed["id"])["state"]["message"]
    wait_until(lambda: len(team.prefect.ended_runs("data")) > before, RUN_SECONDS, "the next run ends")
    following = team.prefect.ended_runs("data")[-1]
    assert following["state_type"] == "COMPLETED", team.prefect.log_of(following["id"])
    assert len([line for line in team.prefect.log_of(following["id"]) if line.startswith("waits: ")]) == 1


def training_of(team: Team) -> list[dict]:
    """The tasks that train at this moment."""
    running = [run["id"] for run in team.prefect.runs_of("training", "RUNNING")]
    tasks = [task for run_id in running for task in team.prefect.task_runs(run_id)]
    return [task for task in tasks if task["name"].startswith("train@") and task["state_type"] == "RUNNING"]


@pytest.mark.slow
def test_no_secret_is_in_logs_reports_databases_or_buckets(team, run, tmp_path):
    careless = tmp_path / "careless"
    must(tmp_path, team.environment, "git", "clone", "-q", team.repository, careless)
    must(careless, team.exported, BIN / "earmark", "fetch")
    change_params(careless, {"seed": 2})
    # Where people leave secrets: DVC's settings, which are uncommitted then, and the address of a remote of git.
    must(careless, team.exported, BIN / "dvc", "remote", "modify", "-q", "team", "secret_access_key", PLANTED)
    must(careless, team.exported, "git", "remote", "set-url", "origin", f"https://me:{PLANTED}@127.0.0.1:9/team.git")
    must(careless, team.exported, BIN / "dvc", "repro", "-q")
    assert "registered tc_resnet" in must(careless, team.exported, BIN / "earmark", "register")
    assert call(careless, team.exported, BIN / "earmark", "publish").returncode

    patches = [content for name, content in objects(team) if name.endswith("code.patch")]
    assert any(b"+seed: 2" in patch for patch in patches)  # the search sees what was registered there
    places = [*team.state.glob("logs/*"), *team.first.glob("reports/**/*.*"), team.first / "dvc.lock"]
    places += [*careless.glob("logs/*"), *careless.glob("reports/**/*.*"), careless / "dvc.lock"]
    contents = {str(file): file.read_bytes() for file in places if file.is_file()}
    contents |= dict(objects(team)) | {name: dump(team, name) for name in ("mlflow", "prefect")}
    assert len(contents) > 40
    found = {
        (name, secret)
        for secret in [*secrets_of(team), PLANTED]
        for name in contents
        if secret.encode() in contents[name]
    }
    assert not found


PLANTED = "planted-secret-0123456789"


def secrets_of(team: Team) -> list[str]:
    names = (*secret_files.PASSWORDS, *(f"s3_{user}" for user in secret_files.S3_USERS))
    lines = [line for name in names for line in (team.state / "secrets" / name).read_text().split("\n")]
    secrets = [line for line in lines if len(line) > 20]
    assert len(secrets) == len(names)
    return secrets


def objects(team: Team) -> Iterator[tuple[str, bytes]]:
    """Every object in S3: its bucket and key, and its content."""
    access_key, secret_key = secret_files.s3_key("admin", team.state / "secrets")
    client = boto3.client(
        "s3",
        endpoint_url=team.exported["AWS_ENDPOINT_URL"],
        aws_access_key_id=access_key,
        aws_secret_access_key=secret_key,
        region_name="us-east-1",
    )
    for bucket in secret_files.BUCKETS:
        for page in client.get_paginator("list_objects_v2").paginate(Bucket=bucket):
            for entry in page.get("Contents", []):
                yield f"{bucket}/{entry['Key']}", client.get_object(Bucket=bucket, Key=entry["Key"])["Body"].read()


def dump(team: Team, database: str) -> bytes:
    """Everything in a database of PostgreSQL, as text."""
    port = str(json.loads((team.state / "ports.json").read_text())["POSTGRES_PORT"])
    password = (team.state / "secrets/postgres_password").read_text().strip()
    where = ["-h", stack.LOOPBACK, "-p", port, "-U", service.DATABASE_USER, database]
    text = must(team.first, team.environment | {"PGPASSWORD": password}, service.postgres_program("pg_dump"), *where)
    assert "COPY public." in text
    return text.encode()


@pytest.mark.slow
def test_a_second_start_changes_nothing_and_what_is_stopped_stays(team, run):
    limits = f"{team.exported['PREFECT_API_URL']}/v2/concurrency_limits"
    slot = {"names": [limit_name(str(team.repository))], "slots": 1, "lease_duration": 600}
    lease = team.prefect.session.post(f"{limits}/increment-with-lease", json=slot).json()["lease_id"]
    before = (team.state / "env").read_bytes()
    assert team.stack("up").returncode == 0
    assert (team.state / "env").read_bytes() == before
    assert team.stack("down").returncode == 0
    assert team.stack("status").returncode == 1
    assert team.stack("up").returncode == 0
    assert (team.state / "env").read_bytes() == before
    assert "champion" in must(team.first, team.exported, BIN / "earmark", "registry", "list")
    assert team.prefect.session.post(f"{limits}/leases/{lease}/renew", json={"lease_duration": 60}).ok
    automations = [automation["name"] for automation in team.prefect.ask("/automations/filter")]
    assert automations.count(service.AUTOMATION) == 1
