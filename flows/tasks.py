"""DVC's stages as Prefect tasks: DVC knows how a stage runs and what is stale; here is only when."""

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
from pathlib import Path
from typing import IO

from prefect import get_run_logger, task
from prefect.runtime import flow_run
from prefect.states import Completed, Failed, State

from earmark import params
from earmark.errors import UserError
from earmark.params import environment
from earmark.versioning import dvc_lock
from earmark.versioning.dvc_run import end_process_group

ROOT = Path(__file__).resolve().parents[1]
BIN = Path(sys.executable).parent
USER_MISTAKE = 2
"""Exit code of `earmark` for what the user can mend; any other one is a fault."""
REMARKS_OF_DVC = re.compile(
    r"Running stage '|> |Stage '|(Generating|Updating) lock file|To (track the changes|enable auto staging)"
    r"|\tgit add |\tdvc config |Use `dvc push`|Data and pipelines are|ERROR: failed to reproduce"
)


@dataclass(frozen=True)
class Plan:
    """DVC's graph, each stage with those whose outputs it reads, and the stages that DVC finds stale."""

    upstream: dict[str, set[str]]
    stale: frozenset[str]

    @property
    def stages(self) -> tuple[str, ...]:
        """Every stage after those that it depends on."""
        return tuple(TopologicalSorter(self.upstream).static_order())


@dataclass(frozen=True)
class Ended:
    """How a command ended: its exit code, and the lines that it wrote to standard output and standard error."""

    exit_code: int
    output: list[str]
    errors: list[str]


class CommandError(Exception):
    """What a command said last; `exit_code` is its own, or that of the stage's command which DVC ran for it."""

    def __init__(self, message: str, exit_code: int):
        super().__init__(message)
        self.exit_code = exit_code

    def within(self, name: str) -> "CommandError":
        """The same failure, with the name of what failed in front."""
        return CommandError(f"{name}: {self}", self.exit_code)


def make_plan() -> Plan:
    """Asks DVC for its graph and for what is stale: once each, and both at a time, since a DVC start is slow.

    Raises:
        CommandError: params.yaml breaks a rule of earmark's, or DVC cannot read dvc.yaml or dvc.lock.
    """
    try:
        params.load(ROOT / "params.yaml")
    except UserError as error:
        raise CommandError(str(error), USER_MISTAKE) from None
    with ThreadPoolExecutor() as pool:
        graph, status = pool.map(_ask_dvc, (("dag", "--dot"), ("status", "--json")))
    return Plan(_upstream(graph), frozenset(json.loads(status)))


def recorded_outputs(stage: str) -> list[dict]:
    """What dvc.lock records of the stage's outputs; empty where the stage has never run."""
    return dvc_lock.dvc_stages(ROOT / "dvc.lock").get(stage, {}).get("outs", [])


def written_at(path: Path) -> int:
    """When a file of the checkout was written, in ns; 0 where there is none."""
    try:
        return (ROOT / path).stat().st_mtime_ns
    except FileNotFoundError:
        return 0


def _network_may_recover(task, task_run, state: State) -> bool:
    """Only ingest reaches beyond this machine, and what the user has to mend does not mend itself."""
    failure = state.data
    return task_run.name == "ingest" and isinstance(failure, CommandError) and failure.exit_code != USER_MISTAKE


# A task without retries would log Python's (empty) traceback beside its error; the condition keeps them to ingest.
_RETRIES = {"retries": 2, "retry_delay_seconds": [10, 60], "retry_condition_fn": _network_may_recover}


@task(task_run_name="{stage}", **_RETRIES)
def reproduce(stage: str, stale: bool) -> State:
    """Brings one stage up to date through DVC; `Cached` where its command had no need to run.

    A failed state's data is a `CommandError`.
    """
    if not stale:
        return Completed(name="Cached", message="nothing changed")
    log = _lines_to(get_run_logger())
    ended = _run([BIN / "dvc", "repro", "--single-item", stage], log, log)
    if ended.exit_code:
        return failed(_failure(ended))
    if not any(line.startswith("Running stage '") for line in ended.output):
        return Completed(name="Cached", message="DVC had the result")
    return Completed()


@task(task_run_name="register", **_RETRIES)
def register() -> State:
    """Runs `earmark register`; what it says (candidates, what became of the best) is the state's data."""
    logger = get_run_logger()
    ended = _run([BIN / "earmark", "register"], logger.debug, _lines_to(logger))
    return failed(_failure(ended)) if ended.exit_code else Completed(data="\n".join(ended.output))


def _ask_dvc(arguments: Sequence[str]) -> str:
    ended = subprocess.run([BIN / "dvc", *arguments], cwd=ROOT, capture_output=True, text=True)
    if ended.returncode:
        raise CommandError(f"dvc: {' '.join(ended.stderr.split())}", ended.returncode)
    return ended.stdout


def _upstream(dot: str) -> dict[str, set[str]]:
    """Reads DVC's Graphviz text: a line `"a";` for each stage, a line `"a" -> "b";` where b reads outputs of a."""
    upstream: dict[str, set[str]] = {}
    for first, second in re.findall(r'^"([^"]+)"(?: -> "([^"]+)")?;$', dot, re.MULTILINE):
        upstream.setdefault(second or first, set()).update({first} if second else ())
    return upstream


def _lines_to(logger) -> Callable[[str], None]:
    """Logs a stage's own lines; what DVC remarks beside them shows at level DEBUG only."""
    return lambda line: logger.debug(line) if REMARKS_OF_DVC.match(line) else logger.info(line)


def _run(command: Sequence[str | Path], log_output: Callable, log_errors: Callable) -> Ended:
    """Runs a command in the repository root and hands on its lines as they come."""
    # The process ends before the pool does: its reader ends when nobody holds the other end of the pipe.
    with ThreadPoolExecutor(1) as pool, _started(command) as process:
        errors = pool.submit(_read_lines, process.stderr, log_errors)
        output = _read_lines(process.stdout, log_output)
        return Ended(process.wait(), output, errors.result())


@contextmanager
def _started(command: Sequence[str | Path]) -> Iterator[subprocess.Popen]:
    """A process in a group of its own; an exception, such as Ctrl-C or a cancelled run, ends the whole group."""
    pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    text = {"text": True, "encoding": "utf-8", "errors": "replace"}
    process = subprocess.Popen(command, cwd=ROOT, env=_environment(), start_new_session=True, **pipes, **text)
    try:
        yield process
    except BaseException:
        end_process_group(process)
        raise


def _environment() -> dict[str, str]:
    """This process's environment, with the venv's commands first for DVC's shell and the flow run for provenance."""
    path = os.pathsep.join([str(BIN), os.environ.get("PATH", os.defpath)])
    return os.environ | {"PATH": path, "PYTHONUNBUFFERED": "1", environment.FLOW_RUN_ID: flow_run.id or ""}


def _read_lines(stream: IO[str], log: Callable[[str], None]) -> list[str]:
    lines = []
    for line in map(str.rstrip, stream):
        lines.append(line)
        if line:
            log(line)
    return lines


def failed(failure: CommandError) -> State:
    """A failed state that shows the failure's text; as data it keeps the failure itself."""
    return Failed(message=str(failure), data=failure)


def _failure(ended: Ended) -> CommandError:
    """What the command said last, and the exit code of the stage's command where DVC reports one."""
    said = "\n".join(ended.errors)
    reported = re.search(r"^ERROR: failed to reproduce .* exited with (-?\d+)$", said, re.MULTILINE)
    own = [line for line in said[: reported and reported.start()].splitlines() if line]
    # A refusal by earmark may go on for some lines, such as a table; of anything else the last line says it.
    begins = [index for index, line in enumerate(own) if line.startswith("earmark: ")]
    last_words = "\n".join(own[begins[-1] if begins else -1 :])
    exit_code = int(reported[1]) if reported else ended.exit_code
    return CommandError(last_words or f"ended with exit code {exit_code}, without a word", exit_code)
