"""The whole service on this machine without containers: `make stack`, `make stack-status`, `make stack-down`.

PostgreSQL, an S3 server, MLflow and Prefect with passwords, and a worker, each on a free port of 127.0.0.1. supervisord
starts them in order, starts again what ends, and stops them in the opposite order. Everything lies in infra/.state.
"""

import argparse
import configparser
import http.client
import json
import os
import shlex
import shutil
import socket
import subprocess
import sys
import time
import xmlrpc.client
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tenacity
from filelock import FileLock, Timeout

from infra import secret_files, service

STATE = secret_files.STATE
PORTS, CONFIG, ENVIRONMENT, LOGS = STATE / "ports.json", STATE / "supervisord.ini", STATE / "env", STATE / "logs"
LOOPBACK = "127.0.0.1"
INHERITED = ("PATH", "HOME", "USER", "LOGNAME", "LANG", "TMPDIR")
"""What services get of the shell's environment: no keys of another account, no passwords of other services."""
PORT_NAMES = (
    "POSTGRES_PORT",
    *(f"S3_{part}_{kind}" for part in ("S3", "FILER", "MASTER", "VOLUME") for kind in ("PORT", "GRPC_PORT")),
    "MLFLOW_PORT",
    "PREFECT_PORT",
    "SUPERVISOR_PORT",
)


class StackError(Exception):
    """The stack cannot be started; the text is a sentence for the user."""


@dataclass(frozen=True)
class Program:
    """A service of the stack, in the order of their start.

    Attributes:
        start_seconds: how long it may take until it is healthy.
        stop_seconds: how long it may take to end before it is killed.
        stop_signal: PostgreSQL ends its clients on SIGINT, and waits for them on SIGTERM.
    """

    name: str
    start_seconds: int
    stop_seconds: int
    stop_signal: str = "TERM"


PROGRAMS = (
    Program("postgres", 60, 30, "INT"),
    Program("s3", 60, 30),
    Program("mlflow", 120, 20),
    Program("prefect", 120, 20),
    Program("worker", 90, 30),
)


def up() -> None:
    """Starts what is not running, waits until all services are healthy, and prints their addresses.

    Raises:
        StackError: a service does not start; its log says why.
    """
    secret_files.draw()
    LOGS.mkdir(exist_ok=True)
    if not _supervisor_answers():
        _write_private(PORTS, json.dumps(_chosen_ports(), indent=2))
        os.environ.update(addresses())
        _write_private(CONFIG, _supervisor_config())
        inherited = {name: value for name, value in os.environ.items() if name in INHERITED}
        supervisord = [service.BIN / "supervisord", "-c", CONFIG]
        subprocess.run(supervisord, check=True, cwd=service.ROOT, env=inherited | addresses())
    os.environ.update(addresses())
    supervisor = _supervisor()
    for program in PROGRAMS:
        if program.name == "postgres":
            _make_database_folder()
        # It may be running already, or be started again at this moment.
        with suppress(xmlrpc.client.Fault):
            supervisor.startProcess(program.name, False)
        _wait_until_healthy(program)
        PREPARATIONS.get(program.name, lambda: None)()
    exports = "".join(f"export {key}={shlex.quote(value)}\n" for key, value in service.client_environment().items())
    _write_private(ENVIRONMENT, exports)
    print(f"{_table()}\n\nuser: earmark   passwords: {secret_files.SECRETS}\nto use it: source {ENVIRONMENT}")


def status() -> bool:
    """Prints each service's state; returns whether all are healthy."""
    if not PORTS.exists() or not _supervisor_answers():
        print("the stack is not running; 'make stack' starts it")
        return False
    os.environ.update(addresses())
    print(f"{_table()}\nmemory: {_memory_bytes() / 1e9:.2f} GB")
    return all(service.is_healthy(program.name) for program in PROGRAMS)


def down() -> None:
    """Stops the services, the last started first; what does not end in its time is killed."""
    if not PORTS.exists() or not _supervisor_answers():
        print("the stack is not running")
        return
    os.environ.update(addresses())
    if service.is_healthy("prefect"):
        service.remove_automations()
    supervisor = _supervisor()
    for program in reversed(PROGRAMS):
        with suppress(xmlrpc.client.Fault):  # it is not running
            supervisor.stopProcess(program.name)
    supervisor.shutdown()
    for attempt in tenacity.Retrying(
        retry=tenacity.retry_if_exception_type(StackError),
        wait=tenacity.wait_fixed(0.2),
        stop=tenacity.stop_after_delay(30),
    ):
        with attempt:
            if _supervisor_answers():
                raise StackError("supervisord does not end")
    print("the stack is stopped; its data stays in infra/.state")


def addresses() -> dict[str, str]:
    """The variables that say where the services are."""
    ports = json.loads(PORTS.read_text(encoding="utf-8"))
    return {
        **{name: str(port) for name, port in ports.items()},
        "POSTGRES_HOST": LOOPBACK,
        "S3_HOST": LOOPBACK,
        "S3_BIND_HOST": LOOPBACK,
        "MLFLOW_HOST": LOOPBACK,
        "PREFECT_HOST": LOOPBACK,
        "AWS_ENDPOINT_URL": f"http://{LOOPBACK}:{ports['S3_S3_PORT']}",
        "MLFLOW_TRACKING_URI": f"http://{LOOPBACK}:{ports['MLFLOW_PORT']}",
        "PREFECT_API_URL": f"http://{LOOPBACK}:{ports['PREFECT_PORT']}/api",
        "PREFECT_BROWSER_URL": f"http://{LOOPBACK}:{ports['PREFECT_PORT']}/api",
        "NO_PROXY": "localhost,127.0.0.1",
        "no_proxy": "localhost,127.0.0.1",
        "EARMARK_STATE": str(STATE),
        "EARMARK_SECRETS": str(secret_files.SECRETS),
    }


def _chosen_ports() -> dict[str, int]:
    """A port for each of PORT_NAMES: that of the last start, so that exported addresses stay right, or a free one.

    All are held until the last is found, so that they differ.
    """
    last = json.loads(PORTS.read_text(encoding="utf-8")) if PORTS.exists() else {}
    with ExitStack() as stack:

        def hold(number: int) -> int:
            try:
                server = socket.create_server((LOOPBACK, number))
            except OSError:  # another program has it now
                server = socket.create_server((LOOPBACK, 0))
            return int(stack.enter_context(server).getsockname()[1])

        known = {name: hold(last[name]) for name in PORT_NAMES if name in last}
        return {name: known.get(name) or hold(0) for name in PORT_NAMES}


def _supervisor_config() -> str:
    config = configparser.RawConfigParser()
    config["supervisord"] = {
        "logfile": str(LOGS / "supervisord.log"),
        "pidfile": str(STATE / "supervisord.pid"),
        "childlogdir": str(LOGS),
        "directory": str(service.ROOT),
        "umask": "077",
        "environment": ",".join(f'{key}="{value}"' for key, value in addresses().items()),
    }
    config["inet_http_server"] = {
        "port": f"{LOOPBACK}:{addresses()['SUPERVISOR_PORT']}",
        "username": "earmark",
        "password": secret_files.read("supervisor_password"),
    }
    config["rpcinterface:supervisor"] = {
        "supervisor.rpcinterface_factory": "supervisor.rpcinterface:make_main_rpcinterface"
    }
    for priority, program in enumerate(PROGRAMS):
        config[f"program:{program.name}"] = {
            "command": shlex.join([sys.executable, "-m", "infra.service", program.name]),
            "autostart": "false",
            "autorestart": "true",
            "priority": str(priority),
            "stopsignal": program.stop_signal,
            "stopwaitsecs": str(program.stop_seconds),
            "stopasgroup": "true" if program.name in ("mlflow", "worker") else "false",
            "killasgroup": "true",
            "redirect_stderr": "true",
            "stdout_logfile": str(LOGS / f"{program.name}.log"),
            "stdout_logfile_maxbytes": "10MB",
            "stdout_logfile_backups": "3",
        }
    lines: list[str] = []
    for section in config.sections():
        lines += [f"[{section}]", *(f"{key}={value.replace('%', '%%')}" for key, value in config.items(section)), ""]
    return "\n".join(lines)


def _supervisor() -> Any:
    password = secret_files.read("supervisor_password")
    return xmlrpc.client.ServerProxy(
        f"http://earmark:{password}@{LOOPBACK}:{addresses()['SUPERVISOR_PORT']}/RPC2"
    ).supervisor


def _supervisor_answers() -> bool:
    try:
        return bool(_supervisor().getState())
    except (OSError, xmlrpc.client.Error, http.client.HTTPException):  # the last two if another program answers
        return False


def _make_database_folder() -> None:
    folder = STATE / "postgres"
    if (folder / "PG_VERSION").exists():
        return
    partial = folder.with_name(".postgres.partial")  # what an interrupted start leaves does not count
    shutil.rmtree(partial, ignore_errors=True)
    command = [
        *service.as_another_user(),
        service.postgres_program("initdb"),
        "-D",
        partial,
        "-U",
        service.DATABASE_USER,
    ]
    options = [
        "-A",
        "scram-sha-256",
        "--pwfile",
        secret_files.SECRETS / "postgres_password",
        "-E",
        "UTF8",
        "--locale=C",
    ]
    done = subprocess.run([*command, *options], capture_output=True, text=True)
    if done.returncode:
        raise StackError(f"PostgreSQL's initdb failed: {done.stderr.strip().splitlines()[0]}")
    partial.rename(folder)


def _make_databases() -> None:
    where = ["-h", LOOPBACK, "-p", os.environ["POSTGRES_PORT"], "-U", service.DATABASE_USER, "-d", "postgres"]
    password = {"PGPASSWORD": service.secret("postgres_password")}
    file = ["-v", "ON_ERROR_STOP=1", "-q", "-f", service.SETTINGS / "databases.sql"]
    command = [service.postgres_program("psql"), *where, *file]
    subprocess.run(command, check=True, env=os.environ | password)


PREPARATIONS: dict[str, Callable[[], None]] = {
    "postgres": _make_databases,
    "s3": service.make_buckets,
    "prefect": service.make_automations,
}
"""What must be there before the next service starts."""


def _wait_until_healthy(program: Program) -> None:
    began = time.monotonic()
    while not service.is_healthy(program.name):
        state = _supervisor().getProcessInfo(program.name)["statename"]
        if state in ("FATAL", "STOPPED") or time.monotonic() - began > program.start_seconds:
            log = LOGS / f"{program.name}.log"
            raise StackError(f"{program.name} does not start ({state.lower()}); its log is {log}")
        time.sleep(0.25)
    print(f"{program.name}: healthy after {time.monotonic() - began:.0f} s", flush=True)


def _table() -> str:
    shown = {
        "postgres": f"postgresql://{LOOPBACK}:{os.environ['POSTGRES_PORT']}",
        "s3": os.environ["AWS_ENDPOINT_URL"],
        "mlflow": os.environ["MLFLOW_TRACKING_URI"],
        "prefect": os.environ["PREFECT_API_URL"].removesuffix("/api"),
        "worker": "pool cpu",
    }
    states = {info["name"]: info["statename"] for info in _supervisor().getAllProcessInfo()}
    return "\n".join(
        f"{name:<9} {'healthy' if service.is_healthy(name) else states[name].lower():<9} {address}"
        for name, address in shown.items()
    )


def _memory_bytes() -> int:
    """What all processes of the stack take; what several share counts once."""
    import psutil

    supervisor = psutil.Process(_supervisor().getPID())
    total = 0
    for process in (supervisor, *supervisor.children(recursive=True)):
        with suppress(psutil.NoSuchProcess):  # it has just ended
            total += process.memory_full_info().pss
    return total


def _write_private(file: Path, text: str) -> None:
    partial = file.with_name(f".{file.name}.partial")
    partial.unlink(missing_ok=True)
    with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as stream:
        stream.write(text)
    partial.replace(file)


@contextmanager
def _alone() -> Iterator[None]:
    """Waits for another 'make stack' or 'make stack-down' in this checkout to end."""
    STATE.mkdir(mode=0o700, parents=True, exist_ok=True)
    lock = FileLock(STATE / ".lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        print("waiting for another 'make stack' or 'make stack-down' to end", flush=True)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def main() -> int:
    """Runs the command; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m infra.stack", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("command", choices=("up", "status", "down"))
    command = parser.parse_args().command
    try:
        if command == "status":
            return 0 if status() else 1
        with _alone():
            up() if command == "up" else down()
    except StackError as error:
        print(f"earmark: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
