"""Runs DVC's stages as Prefect tasks. DVC knows how a stage runs and what is stale; Prefect decides when."""

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import chdir, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from prefect import Task, get_run_logger, task
from prefect.client.schemas.objects import State, TaskRun
from prefect.runtime import flow_run
from prefect.states import Completed, Failed

from earmark import params, paths
from earmark.errors import UserError
from earmark.io import caller
from earmark.params import environment
from earmark.paths import DVC_LOCK
from earmark.versioning import dvc_lock, pipeline
from earmark.versioning.dvc import objects
from earmark.versioning.dvc_run import end_process_group
from earmark.versioning.pipeline import Pipeline

ROOT = Path(__file__).resolve().parents[1]
BIN = Path(sys.executable).parent
USER_MISTAKE = 2
"""The exit code of `earmark` if the user has to correct something; any other one is a fault."""


@dataclass(frozen=True)
class CommandResult:
    """A command's exit code, and the lines that it wrote to standard output and standard error."""

    exit_code: int
    output: list[str]
    errors: list[str]


class CommandError(Exception):
    """A command failed; the text is its last message. `exit_code` is that of the stage if DVC ran one."""

    def __init__(self, message: str, exit_code: int):
        super().__init__(message)
        self.exit_code = exit_code

    def within(self, name: str) -> "CommandError":
        """Returns the same error with the name of the failed stage in front."""
        return CommandError(f"{name}: {self}", self.exit_code)


def read_pipeline() -> Pipeline:
    """Returns DVC's stages and which of them are stale.

    Raises:
        CommandError: params.yaml is not valid, or DVC cannot read dvc.yaml or dvc.lock.
    """
    try:
        params.load(ROOT / params.PATH)
        return pipeline.read_pipeline(ROOT)
    except UserError as error:
        raise CommandError(str(error), USER_MISTAKE) from None


def is_raw_copied() -> bool:
    """Whether extraction reads a copy of data/raw, such as one in a bucket."""
    with chdir(ROOT):
        return paths.is_raw_copied(params.load())


def require_data(stages: Sequence[str]) -> None:
    """Checks that the data are those which `stages` make here, as `register` will before it registers.

    Raises:
        CommandError: a stage never ran, or something that it depends on has changed since.
    """
    try:
        with chdir(ROOT), objects() as dvc:
            recorded = dvc_lock.dvc_stages()
            changed = dvc.changes([stage for stage in stages if stage in recorded])
    except UserError as error:
        raise CommandError(str(error), USER_MISTAKE) from None
    if stale := [stage for stage in stages if stage in changed or stage not in recorded]:
        raise CommandError(f"{', '.join(stale)}: not up to date; run the part 'data' first", USER_MISTAKE)


def recorded_outputs(stage: str) -> list[dict[str, Any]]:
    """Returns the stage's outputs as dvc.lock records them; empty if the stage has never run."""
    outputs: list[dict[str, Any]] = dvc_lock.dvc_stages(ROOT / DVC_LOCK).get(stage, {}).get("outs", [])
    return outputs


def run_of_version(metrics: Mapping[str, Any]) -> str:
    """Returns the id of the MLflow run of a registered candidate, by its metrics; "" if no server has it."""
    if not environment.mlflow_server():
        return ""
    from earmark.registry.versions import open_registry  # takes seconds, for MLflow

    try:
        registry = open_registry(params.load(ROOT / params.PATH).register_.name)
        version = registry.with_content(metrics["content_sha256"])
    except UserError as error:  # a link is not worth a failed run
        get_run_logger().warning("no link to the run in MLflow: %s", error)
        return ""
    return version.run_id if version else ""


def modified_at(path: Path) -> int:
    """Returns when a file of the checkout was last written, in ns; 0 if there is no such file."""
    try:
        return (ROOT / path).stat().st_mtime_ns
    except FileNotFoundError:
        return 0


USING_NETWORK = ("ingest", "upload", "fetch", "publish")
"""The tasks that use the network; all others can do without."""


def _network_may_recover(_: Task[..., Any], task_run: TaskRun, state: State[Any]) -> bool:
    """Whether a retry may help: the task uses the network, and a user's mistake stays one."""
    failure = state.data
    return task_run.name in USING_NETWORK and isinstance(failure, CommandError) and failure.exit_code != USER_MISTAKE


# `register` is never retried, but without `retries` Prefect would log an empty traceback beside its error.
_RETRIES, _RETRY_DELAY_SECONDS = 2, [10.0, 60.0]


@task(
    task_run_name="{stage}",
    retries=_RETRIES,
    retry_delay_seconds=_RETRY_DELAY_SECONDS,
    retry_condition_fn=_network_may_recover,
)
def reproduce(stage: str, stale: bool) -> State[Any]:
    """Brings one stage up to date through DVC; the state is named `Cached` if the stage's command did not run.

    A failed state's data is a `CommandError`.
    """
    if not stale:
        return Completed(name="Cached", message="nothing changed")
    log = get_run_logger().info
    with tempfile.NamedTemporaryFile(prefix="earmark-") as file:
        result = _run(pipeline.reproduce_command(stage, Path(file.name)), log, log)
        outcome = pipeline.read_outcome(Path(file.name))
    if result.exit_code:
        return failed(_error_of(result, f"dvc: {outcome.error}" if outcome and outcome.error else ""))
    if outcome and not outcome.has_run:
        return Completed(name="Cached", message="DVC had the result")
    return Completed()


@task(
    task_run_name="{command}",
    retries=_RETRIES,
    retry_delay_seconds=_RETRY_DELAY_SECONDS,
    retry_condition_fn=_network_may_recover,
)
def earmark(command: str, *arguments: str) -> State[Any]:
    """Runs a command of `earmark` that is no stage: fetch, publish or register; the state's data is its output."""
    logger = get_run_logger()
    ending_with_this = [sys.executable, "-m", caller.__name__]
    result = _run([*ending_with_this, BIN / "earmark", command, *arguments], logger.debug, logger.info)
    return failed(_error_of(result)) if result.exit_code else Completed(data="\n".join(result.output))


def _run(
    command: Sequence[str | Path], log_output: Callable[[str], object], log_errors: Callable[[str], object]
) -> CommandResult:
    """Runs a command in the repository root, and logs its lines as they come."""
    # The pool is entered first, so that the process ends before it: its reader waits until the pipe is closed.
    with ThreadPoolExecutor(1) as pool, _started(command) as process:
        errors = pool.submit(_read_lines, process.stderr, log_errors)
        output = _read_lines(process.stdout, log_output)
        return CommandResult(process.wait(), output, errors.result())


@contextmanager
def _started(command: Sequence[str | Path]) -> Iterator[subprocess.Popen[str]]:
    """Starts a process in a group of its own; an exception, such as Ctrl-C or a cancelled run, ends the whole group.

    Its standard input is closed when this process ends, whatever ends it.
    """
    process = subprocess.Popen(
        command,
        cwd=ROOT,
        env=_environment(),
        start_new_session=True,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        encoding="utf-8",
        errors="replace",
    )
    try:
        yield process
    except BaseException:
        end_process_group(process)
        raise


def _environment() -> dict[str, str]:
    """This process's environment; the venv comes first in PATH, and the flow run's id is added for provenance."""
    path = os.pathsep.join([str(BIN), os.environ.get("PATH", os.defpath)])
    return os.environ | {"PATH": path, "PYTHONUNBUFFERED": "1", environment.FLOW_RUN_ID: flow_run.id or ""}


def _read_lines(stream: IO[str] | None, log: Callable[[str], object]) -> list[str]:
    lines = []
    for line in map(str.rstrip, stream or ()):
        lines.append(line)
        if line:
            log(line)
    return lines


def failed(error: CommandError) -> State[Any]:
    """Returns a failed state with the error as its data and the error's text as its message."""
    return Failed(message=str(error), data=error)


def _error_of(result: CommandResult, message: str = "") -> CommandError:
    """The error of a command: `message`, or the signal that killed it, or what it wrote last."""
    lines = [line for line in result.errors if line]
    # An error of earmark may have several lines, such as a table; of other errors the last line is enough.
    starts = [index for index, line in enumerate(lines) if line.startswith("earmark: ")]
    if not starts:
        message = message or _killed(result.exit_code)
    message = message or "\n".join(lines[starts[-1] if starts else -1 :])
    return CommandError(message or f"ended with exit code {result.exit_code} and no message", result.exit_code)


def _killed(exit_code: int) -> str:
    """Names the signal that ended a command; "" if it ended by itself. A shell reports signal n as 128 + n."""
    number = -exit_code if exit_code < 0 else exit_code - 128
    if number not in set(signal.Signals):
        return ""
    memory = "; Linux does this when memory runs out" if number == signal.SIGKILL else ""
    return f"killed by {signal.Signals(number).name}{memory}"
