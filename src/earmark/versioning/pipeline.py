"""DVC's pipeline: which stages there are, which of them must run, and what running one came to."""

import contextlib
import json
import logging
import re
import sys
from dataclasses import asdict, dataclass
from graphlib import TopologicalSorter
from pathlib import Path

from earmark.io.caller import end_with_caller
from earmark.versioning.dvc import one_line, repository, translated_errors

_EXIT_CODE = re.compile(r"exited with (-?\d+)$")
"""The end of DVC's error for a command that failed; no attribute holds the exit code."""


@dataclass(frozen=True)
class Pipeline:
    """DVC's stages: `upstream` maps each to the stages whose outputs it reads; `stale` are those that must run."""

    upstream: dict[str, frozenset[str]]
    stale: frozenset[str]

    @property
    def stages(self) -> tuple[str, ...]:
        """All stages, each after those that it depends on."""
        return tuple(TopologicalSorter(self.upstream).static_order())


def read_pipeline(checkout: Path) -> Pipeline:
    """Reads dvc.yaml and dvc.lock, and compares them with the files in `checkout`.

    Raises:
        UserError: DVC cannot read them, or another DVC command holds its lock.
    """
    # DVC names stages by their place in the working directory.
    with contextlib.chdir(checkout), repository() as repo, translated_errors():
        graph = repo.index.graph
        upstream = {
            stage.addressing: frozenset(dependency.addressing for dependency in graph.successors(stage))
            for stage in graph
        }
        return Pipeline(upstream, frozenset(repo.status()))


@dataclass(frozen=True)
class StageOutcome:
    """What became of a stage.

    Attributes:
        exit_code: of the stage's command, 128 + n if signal n killed it; 0 if DVC had its outputs in the cache; 1 if
            DVC failed.
        has_run: whether the command was started.
        error: DVC's own error in one line; "" if there was none.
    """

    exit_code: int
    has_run: bool
    error: str = ""


def reproduce_command(stage: str, outcome: Path) -> list[str]:
    """The command that brings one stage up to date through DVC; it writes a `StageOutcome` to the file `outcome`.

    It runs in a session of its own, which ends with its caller (`earmark.io.caller`). Its output is that of the stage's
    command, and DVC's warnings.
    """
    return [sys.executable, "-m", __name__, stage, str(outcome)]


def read_outcome(file: Path) -> StageOutcome | None:
    """Returns the outcome that the process of `reproduce_command` wrote; None if it was killed before."""
    text = file.read_text(encoding="utf-8")
    return StageOutcome(**json.loads(text)) if text else None


class _HasRun(logging.Handler):
    """Notices that DVC starts a stage's command: only then does `dvc.stage.run` log anything."""

    value = False

    def emit(self, record: logging.LogRecord) -> None:
        self.value = True


def _reproduce(stage: str) -> StageOutcome:
    from dvc.exceptions import DvcException
    from dvc.repo import Repo
    from dvc.stage.exceptions import StageCmdFailedError

    logging.getLogger("dvc").setLevel(logging.WARNING)
    has_run, log = _HasRun(), logging.getLogger("dvc.stage.run")
    log.addHandler(has_run)
    log.setLevel(logging.INFO)
    log.propagate = False
    try:
        with Repo() as repo:
            repo.reproduce(stage, single_item=True)
    except (DvcException, OSError) as error:
        cause = error.__cause__ or error
        failed = _EXIT_CODE.search(str(cause)) if isinstance(cause, StageCmdFailedError) else None
        if not failed:
            return StageOutcome(1, has_run.value, one_line(cause))
        code = int(failed[1])
        return StageOutcome(code if code >= 0 else 128 - code, True)
    return StageOutcome(0, has_run.value)


def main() -> int:
    """Runs `reproduce_command` in its own process."""
    stage, file = sys.argv[1:]
    end_with_caller()
    outcome = _reproduce(stage)
    Path(file).write_text(json.dumps(asdict(outcome)), encoding="utf-8")
    return outcome.exit_code


if __name__ == "__main__":
    sys.exit(main())
