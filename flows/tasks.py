"""DVC's stages as Prefect tasks: DVC knows how a stage runs and what is stale; here is only when."""

import json
import os
import re
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import yaml
from prefect import get_run_logger, task
from prefect.runtime import flow_run
from prefect.states import Completed, Failed, State

from earmark import params
from earmark.errors import UserError

BIN = Path(sys.executable).parent
ROOT = Path.cwd()
DVC_HINTS = (
    "To track the changes with git",
    "git add ",
    "To enable auto staging",
    "dvc config core",
    "Use `dvc push`",
    "Updating lock",
)
"""Advice that DVC gives after each stage, which would bury what the stages say."""
USER_MISTAKE = 2
REFUSED = "Refused"
"""Name of the failed state of a run that ended with a user's mistake."""
INTERRUPT_SECONDS = 20
"""How long a stage has to end by itself after an interrupt."""


class StageFailed(Exception):
    """A stage's command failed; the text is what it said last, `code` its exit code."""

    def __init__(self, message: str, code: int):
        super().__init__(message)
        self.code = code

    @property
    def state(self) -> State:
        """A failed state that says the sentence, without a traceback; `Refused` where the user can mend it."""
        return Failed(name=REFUSED if self.code == USER_MISTAKE else None, message=str(self))


@dataclass(frozen=True)
class Plan:
    """The stages in the order in which they run, and which of them DVC finds stale."""

    stages: tuple[str, ...]
    stale: frozenset[str]


def plan() -> Plan:
    """Asks DVC, once, for its stages and their state; StageFailed where params.yaml is wrong."""
    try:
        params.load(ROOT / "params.yaml")
    except UserError as error:
        raise StageFailed(str(error), USER_MISTAKE) from None
    with ThreadPoolExecutor() as pool:
        listed, status = pool.map(_ask, (["stage", "list", "--name-only"], ["status", "--json"]))
    return Plan(tuple(listed.split()), frozenset(json.loads(status)))


def outputs() -> dict[str, dict]:
    """What dvc.lock records of each stage's outputs."""
    try:
        stages = yaml.safe_load((ROOT / "dvc.lock").read_text(encoding="utf-8"))["stages"]
    except FileNotFoundError:
        return {}
    return {name: stage.get("outs", []) for name, stage in stages.items()}


@task(task_run_name="{stage}", persist_result=False)
def run_stage(stage: str, stale: bool) -> State | None:
    """Brings one stage up to date through DVC; one that is not stale is shown as cached."""
    if not stale:
        return Completed(name="Cached", message="nothing changed")
    try:
        _run([str(BIN / "dvc"), "repro", "--single-item", stage])
    except StageFailed as error:
        return error.state
    return None


@task(task_run_name="register", persist_result=False)
def register() -> str | State:
    """What `earmark register` says: the table of candidates and what became of the best."""
    try:
        return "\n".join(_run([str(BIN / "earmark"), "register"], log=False))
    except StageFailed as error:
        return error.state


def _ask(arguments: list[str]) -> str:
    done = subprocess.run([BIN / "dvc", *arguments], cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        raise StageFailed((done.stderr.strip().splitlines() or [f"dvc {arguments[0]} failed"])[-1], 1)
    return done.stdout


def _run(command: list[str], log: bool = True) -> list[str]:
    """Runs `command`, its lines into the run's log as they come; returns them. Ends its processes when it is
    interrupted."""
    logger = get_run_logger()
    environment = os.environ | {"EARMARK_FLOW_RUN_ID": flow_run.id or "", "PYTHONUNBUFFERED": "1"}
    environment["PATH"] = f"{BIN}{os.pathsep}{environment.get('PATH', '')}"
    pipe = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True, "errors": "replace"}
    process = subprocess.Popen(command, cwd=ROOT, env=environment, start_new_session=True, **pipe)
    lines = []
    try:
        for line in process.stdout:
            lines.append(line.rstrip())
            if log and line.strip() and not line.lstrip().startswith(DVC_HINTS):
                logger.info(line.rstrip())
        code = process.wait()
    except BaseException:
        _end(process)
        raise
    if code:
        raise _failure(lines, code)
    return lines


def _end(process: subprocess.Popen) -> None:
    os.killpg(process.pid, signal.SIGINT)
    try:
        process.wait(INTERRUPT_SECONDS)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _failure(lines: list[str], code: int) -> StageFailed:
    """The sentence that the command ended with; DVC's own last line says with which code its stage's command ended."""
    exited = [int(found[1]) for line in lines if (found := re.search(r"exited with (-?\d+)$", line))]
    starts = [index for index, line in enumerate(lines) if line.startswith("earmark: ")]
    said = lines[starts[-1] :] if starts else lines[-1:]
    text = "\n".join(line for line in said if line and not line.startswith("ERROR: failed to reproduce"))
    return StageFailed(text or f"exit code {code}", exited[-1] if exited else code)
