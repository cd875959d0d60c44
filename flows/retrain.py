"""The flow `retrain`: brings every DVC stage up to date, then registers the best candidate."""

import json
import logging
import sys
from pathlib import Path
from typing import Any

from prefect import flow
from prefect.artifacts import create_markdown_artifact
from prefect.client.schemas.objects import State
from prefect.states import Completed

from earmark.paths import METRICS, REGISTERED, REPORT, VALIDATION_RESULT, VERDICT
from earmark.reporting import markdown
from earmark.reporting.leaderboard import leaderboard
from earmark.reporting.terminal import next_steps
from flows import tasks
from flows.terminal import run_in_own_session

INTERRUPTED = 130


@flow(name="retrain")
def retrain() -> State[Any]:
    """Runs every stale stage, and registers the best candidate.

    The state's data is the output of `register`, or a `tasks.CommandError` if something failed.
    """
    try:
        pipeline = tasks.read_pipeline()
    except tasks.CommandError as error:
        return tasks.failed(error)
    changed: set[str] = set()
    for stage in pipeline.stages:
        before = tasks.recorded_outputs(stage)
        stale = stage in pipeline.stale or not changed.isdisjoint(pipeline.upstream[stage])
        validated_at = tasks.modified_at(VALIDATION_RESULT)
        state = tasks.reproduce(stage, stale)
        if tasks.modified_at(VALIDATION_RESULT) != validated_at:
            _show_validation()
        if not state.is_completed():
            return _failed(state, stage)
        if tasks.recorded_outputs(stage) != before:
            changed.add(stage)
    return _register(_summary(pipeline.stages, changed))


def _register(summary: str) -> State[Any]:
    state = tasks.register()
    if not state.is_completed():
        return _failed(state, "register")
    output = state.result()
    metrics = _read(METRICS)
    table = markdown.leaderboard(leaderboard(metrics["candidates"], metrics["best"]))
    create_markdown_artifact(key="leaderboard", markdown=f"{table}\n```\n{output}\n```\n")
    if (tasks.ROOT / VERDICT).exists():
        create_markdown_artifact(key="verdict", markdown=markdown.verdict(_read(VERDICT)))
    return Completed(message=summary, data=output)


def _failed(state: State[Any], stage: str) -> State[Any]:
    error: Any = state.result(raise_on_failure=False)
    return tasks.failed(error.within(stage))


def _show_validation() -> None:
    create_markdown_artifact(key="validation", markdown=markdown.validation(_read(VALIDATION_RESULT)))


def _read(path: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((tasks.ROOT / path).read_text(encoding="utf-8"))
    return content


def _summary(stages: tuple[str, ...], changed: set[str]) -> str:
    if not changed:
        return f"nothing changed: all {len(stages)} stages are up to date"
    return "changed: " + ", ".join(stage for stage in stages if stage in changed)


def main() -> int:
    """Runs the flow; returns the exit code: 0, 2 for a user's mistake, 130 for Ctrl-C, 1 for any other failure."""
    try:
        state = retrain(return_state=True)
    except KeyboardInterrupt:
        _silence_prefect()
        print("\nretrain was interrupted; the next run continues from here", file=sys.stderr)
        return INTERRUPTED
    result = state.result(raise_on_failure=False)
    _silence_prefect()
    if state.is_completed():
        report = REGISTERED if (tasks.ROOT / REGISTERED).exists() else REPORT
        print(f"\n{state.message}\n\n{result}\n\n{next_steps.table(report)}")
        return 0
    print(f"\nretrain failed: {state.message}", file=sys.stderr)
    return tasks.USER_MISTAKE if getattr(result, "exit_code", None) == tasks.USER_MISTAKE else 1


def _silence_prefect() -> None:
    """Keeps messages of Prefect's temporary server and of its workers, when they stop, from following the result."""
    for name in ("", "prefect"):  # its workers log at the root
        logging.getLogger(name).setLevel(logging.ERROR)


if __name__ == "__main__":
    sys.exit(run_in_own_session(main))
