"""Runs DVC's stages in another checkout, with its code, in processes that end when this one is told to end."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from earmark.params.environment import FLOW_RUN_ID
from earmark.paths import MLFLOW_DATABASE

TERMINATION_SECONDS = 10
"""How long a process has to end after SIGTERM before it is killed."""


@contextmanager
def sigterm_exits() -> Iterator[None]:
    """Makes SIGTERM raise SystemExit, as Ctrl-C raises KeyboardInterrupt, so that cleanup runs."""

    def end(number: int, _frame: object) -> None:
        sys.exit(128 + number)

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def run(stage: str, checkout: Path) -> int:
    """Runs `stage` even if nothing has changed, and returns its exit code. Its output goes to standard error.

    DVC's cache is neither read nor written. MLflow's runs go to a database in `checkout`.
    """
    command = ["dvc", "repro", "--quiet", "--force", "--single-item", "--no-commit", "--no-run-cache", stage]
    process = subprocess.Popen(
        command,
        cwd=checkout,
        env=_environment(checkout),
        stdin=subprocess.DEVNULL,
        stdout=sys.stderr.fileno(),
        start_new_session=True,
    )
    try:
        return process.wait()
    except BaseException:
        end_process_group(process)
        raise


def _environment(checkout: Path) -> dict[str, str]:
    """This process's environment without variables that point out of `checkout`."""
    excluded = ("GIT_", "DVC_", "MLFLOW_", FLOW_RUN_ID)
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(excluded)}
    return inherited | {
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)]),
        "PYTHONPATH": str(checkout / "src"),
        "MLFLOW_TRACKING_URI": f"sqlite:///{checkout / MLFLOW_DATABASE}",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "DVC_NO_ANALYTICS": "true",
        "DVC_SITE_CACHE_DIR": str(checkout.parent / "dvc"),
    }


def end_process_group(process: subprocess.Popen[bytes] | subprocess.Popen[str]) -> None:
    """Ends a process that leads a group, and its group; kills those that do not end within TERMINATION_SECONDS."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            process.wait(TERMINATION_SECONDS)
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
