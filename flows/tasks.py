"""Runs DVC's stages as Prefect tasks. DVC knows how a stage runs and what is stale; Prefect decides when."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from graphlib import TopologicalSorter
from logging import Logger, LoggerAdapter
from pathlib import Path
from typing import IO, Any

from prefect import Task, get_run_logger, task
from prefect.client.schemas.objects import State, TaskRun
from prefect.runtime import flow_run
from prefect.states import Completed, Failed

from earmark import params
from earmark.errors import UserError
from earmark.params import environment
from earmark.versioning import dvc_lock
from earmark.versioning.dvc_run import end_process_group

ROOT = Path(__file__).resolve().parents[1]
BIN = Path(sys.executable).parent
USER_MISTAKE = 2
"""The exit code of `earmark` if the user has to correct something; any other one is a fault."""
DVC_MESSAGES = re.compile(
    r"Running stage '|> |Stage '|(Generating|Updating) lock file|To (track the changes|enable auto staging)"
    r"|\tgit add |\tdvc config |Use `dvc push`|Data and pipelines are|ERROR: failed to reproduce"
)


@dataclass(frozen=True)
class Plan:
    """DVC's stages: `upstream` maps each to the stages whose outputs it reads; `stale` are those that must run."""

    upstream: dict[str, set[str]]
    stale: frozenset[str]

    @property
    def stages(self) -> tuple[str, ...]:
        """All stages, each after those that it depends on."""
        return tuple(TopologicalSorter(self.upstream).static_order())


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


def make_plan() -> Plan:
    """Asks DVC for its graph and for what is stale, both at the same time because DVC starts slowly.

    Raises:
        CommandError: params.yaml is not valid, or DVC cannot read dvc.yaml or dvc.lock.
    """
    try:
        params.load(ROOT / "params.yaml")
    except UserError as error:
        raise CommandError(str(error), USER_MISTAKE) from None
    with ThreadPoolExecutor() as pool:
        graph, status = pool.map(_dvc_output, (("dag", "--dot"), ("status", "--json")))
    return Plan(_upstream(graph), frozenset(json.loads(status)))


def recorded_outputs(stage: str) -> list[dict[str, Any]]:
    """Returns the stage's outputs as dvc.lock records them; empty if the stage has never run."""
    outputs: list[dict[str, Any]] = dvc_lock.dvc_stages(ROOT / "dvc.lock").get(stage, {}).get("outs", [])
    return outputs


def modified_at(path: Path) -> int:
    """Returns when a file of the checkout was last written, in ns; 0 if there is no such file."""
    try:
        return (ROOT / path).stat().st_mtime_ns
    except FileNotFoundError:
        return 0


def _network_may_recover(_: Task[..., Any], task_run: TaskRun, state: State[Any]) -> bool:
    """Whether a retry may help: only ingest uses the network, and a user's mistake stays one."""
    failure = state.data
    return task_run.name == "ingest" and isinstance(failure, CommandError) and failure.exit_code != USER_MISTAKE


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
    log = _stage_log(get_run_logger())
    result = _run([BIN / "dvc", "repro", "--single-item", stage], log, log)
    if result.exit_code:
        return failed(_error_of(result))
    if not any(line.startswith("Running stage '") for line in result.output):
        return Completed(name="Cached", message="DVC had the result")
    return Completed()


@task(
    task_run_name="register",
    retries=_RETRIES,
    retry_delay_seconds=_RETRY_DELAY_SECONDS,
    retry_condition_fn=_network_may_recover,
)
def register() -> State[Any]:
    """Runs `earmark register`; the state's data is its output: the leaderboard, and what became of the best model."""
    logger = get_run_logger()
    result = _run([BIN / "earmark", "register"], logger.debug, _stage_log(logger))
    return failed(_error_of(result)) if result.exit_code else Completed(data="\n".join(result.output))


def _dvc_output(arguments: Sequence[str]) -> str:
    done = subprocess.run([BIN / "dvc", *arguments], cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        raise CommandError(f"dvc: {' '.join(done.stderr.split())}", done.returncode)
    return done.stdout


def _upstream(dot: str) -> dict[str, set[str]]:
    """Parses DVC's Graphviz text: a line `"a";` for each stage, and `"a" -> "b";` if b reads outputs of a."""
    upstream: dict[str, set[str]] = {}
    for first, second in re.findall(r'^"([^"]+)"(?: -> "([^"]+)")?;$', dot, re.MULTILINE):
        upstream.setdefault(second or first, set()).update({first} if second else ())
    return upstream


def _stage_log(logger: "Logger | LoggerAdapter[Logger]") -> Callable[[str], object]:
    """Returns a function that logs a line: DVC's own messages at level DEBUG, everything else at INFO."""
    return lambda line: logger.debug(line) if DVC_MESSAGES.match(line) else logger.info(line)


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
    """Starts a process in a group of its own; an exception, such as Ctrl-C or a cancelled run, ends the whole group."""
    process = subprocess.Popen(
        command,
        cwd=ROOT,
        env=_environment(),
        start_new_session=True,
        stdin=subprocess.DEVNULL,
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


def _error_of(result: CommandResult) -> CommandError:
    """The command's last message, with the exit code of the stage's command if DVC reports one."""
    text = "\n".join(result.errors)
    report = re.search(r"^ERROR: failed to reproduce .* exited with (-?\d+)$", text, re.MULTILINE)
    lines = [line for line in text[: report and report.start()].splitlines() if line]
    # An error of earmark may have several lines, such as a table; of other errors the last line is enough.
    starts = [index for index, line in enumerate(lines) if line.startswith("earmark: ")]
    message = "\n".join(lines[starts[-1] if starts else -1 :])
    exit_code = int(report[1]) if report else result.exit_code
    return CommandError(message or f"ended with exit code {exit_code} and no message", exit_code)
