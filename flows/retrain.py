"""The flow `retrain`: brings every DVC stage up to date, then registers the best candidate."""

import json
import logging
import sys
from pathlib import Path

from prefect import flow
from prefect.artifacts import create_markdown_artifact
from prefect.states import Completed, State

from earmark.paths import METRICS, REGISTERED, REPORT, VALIDATION_RESULT, VERDICT
from earmark.reporting import markdown
from earmark.reporting.leaderboard import leaderboard
from flows import tasks
from flows.terminal import in_a_session_of_its_own

INTERRUPTED = 130
NEXT_STEPS = """
MLflow UI    .venv/bin/mlflow ui --backend-store-uri sqlite:///mlflow.db    then http://127.0.0.1:5000
Prefect UI   .venv/bin/prefect server start                                 then http://127.0.0.1:4200
HTML report  {report:<61}  opens in any browser"""


@flow(name="retrain")
def retrain() -> State:
    """Runs what is stale, stage by stage, and registers the best candidate.

    The state's data is what `register` said or, where something failed, a `tasks.CommandError`.
    """
    try:
        plan = tasks.make_plan()
    except tasks.CommandError as failure:
        return tasks.failed(failure)
    changed = set()
    for stage in plan.stages:
        before = tasks.recorded_outputs(stage)
        stale = stage in plan.stale or not changed.isdisjoint(plan.upstream[stage])
        validated = tasks.written_at(VALIDATION_RESULT)
        state = tasks.reproduce(stage, stale)
        if tasks.written_at(VALIDATION_RESULT) != validated:
            _show_validation()
        if not state.is_completed():
            return tasks.failed(state.result(raise_on_failure=False).within(stage))
        if tasks.recorded_outputs(stage) != before:
            changed.add(stage)
    return _registered(_summary(plan.stages, changed))


def _registered(summary: str) -> State:
    state = tasks.register()
    if not state.is_completed():
        return tasks.failed(state.result(raise_on_failure=False).within("register"))
    said = state.result()
    metrics = _read(METRICS)
    table = markdown.leaderboard(leaderboard(metrics["candidates"], metrics["best"]))
    create_markdown_artifact(key="leaderboard", markdown=f"{table}\n```\n{said}\n```\n")
    if (tasks.ROOT / VERDICT).exists():
        create_markdown_artifact(key="verdict", markdown=markdown.verdict(_read(VERDICT)))
    return Completed(message=summary, data=said)


def _show_validation() -> None:
    create_markdown_artifact(key="validation", markdown=markdown.validation(_read(VALIDATION_RESULT)))


def _read(path: Path) -> dict:
    return json.loads((tasks.ROOT / path).read_text(encoding="utf-8"))


def _summary(stages: tuple[str, ...], changed: set[str]) -> str:
    if not changed:
        return f"nothing changed: all {len(stages)} stages are up to date"
    return "changed: " + ", ".join(stage for stage in stages if stage in changed)


def next_steps() -> str:
    """How to look at what there is now."""
    judged = (tasks.ROOT / REGISTERED).exists()
    return NEXT_STEPS.format(report=str(REGISTERED if judged else REPORT))


def main() -> int:
    """Runs the flow; the exit code is 2 for a user's mistake, 130 for Ctrl-C, and 1 for any other failure."""
    try:
        state = retrain(return_state=True)
    except KeyboardInterrupt:
        _no_more_of_prefect()
        print("\nretrain was interrupted; the next run goes on from here", file=sys.stderr)
        return INTERRUPTED
    result = state.result(raise_on_failure=False)
    _no_more_of_prefect()
    if state.is_completed():
        print(f"\n{state.message}\n\n{result}\n{next_steps()}")
        return 0
    print(f"\nretrain failed: {state.message}", file=sys.stderr)
    return tasks.USER_MISTAKE if getattr(result, "exit_code", None) == tasks.USER_MISTAKE else 1


def _no_more_of_prefect() -> None:
    """What it says when its temporary server stops would stand below the answer."""
    logging.getLogger("prefect").setLevel(logging.WARNING)


if __name__ == "__main__":
    sys.exit(in_a_session_of_its_own(main))
