"""DVC's stages in a checkout elsewhere, with the code there, as processes that end when this one is told to."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from earmark.params.environment import FLOW_RUN_ID

TERMINATION_SECONDS = 10
"""How long a command has to end by itself."""


@contextmanager
def sigterm_exits() -> Iterator[None]:
    """SIGTERM in here is an exception, as Ctrl-C is, so that what was begun is cleared away."""

    def end(number: int, _frame: object) -> None:
        sys.exit(128 + number)

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def run(stage: str, checkout: Path) -> int:
    """Runs `stage` whether or not anything changed, and returns its exit code; what it says goes to standard error.

    DVC puts nothing into its cache, and takes nothing from there; MLflow's runs go to a database in `checkout`.
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
    """This process's environment, of which nothing leads out of `checkout`."""
    leading_out = ("GIT_", "DVC_", "MLFLOW_", FLOW_RUN_ID)
    kept = {name: value for name, value in os.environ.items() if not name.startswith(leading_out)}
    return kept | {
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)]),
        "PYTHONPATH": str(checkout / "src"),
        "MLFLOW_TRACKING_URI": f"sqlite:///{checkout}/mlflow.db",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "DVC_NO_ANALYTICS": "true",
        "DVC_SITE_CACHE_DIR": str(checkout.parent / "dvc"),
    }


def end_process_group(process: subprocess.Popen) -> None:
    """Ends a process that leads a group, and the group: those that do not end by themselves are killed."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            process.wait(TERMINATION_SECONDS)
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
