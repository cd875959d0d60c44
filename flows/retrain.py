"""The flow `retrain`: brings every DVC stage up to date, then registers the best candidate."""

import argparse
import json
import logging
import os
import sys
from contextlib import nullcontext
from pathlib import Path
from typing import Any, Literal

import httpx
from prefect import flow, get_run_logger
from prefect.artifacts import create_markdown_artifact
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import State
from prefect.exceptions import PrefectException
from prefect.states import Completed

from earmark import params
from earmark.addresses import without_passwords
from earmark.errors import UserError
from earmark.io.run_lock import only_run
from earmark.params import environment
from earmark.paths import METRICS, REGISTERED, REPORT, RUN, VALIDATION_RESULT, VERDICT
from earmark.reporting import markdown
from earmark.reporting.leaderboard import leaderboard
from earmark.reporting.terminal import next_steps
from flows import tasks
from flows.terminal import run_in_own_session
from flows.turn import turn

INTERRUPTED = 130
Part = Literal["all", "data", "training"]
DATA = ("ingest", "validate", "extract")
"""The stages of the part "data"; all others are "training"."""


@flow(name="retrain")
def retrain(repository: str = "", branch: str = "", part: Part = "all", wait: bool = False) -> State[Any]:
    """Runs every stale stage, and registers the best candidate.

    The part "data" runs the stages that make data, and registers nothing; "training" runs the others, on the data that
    are there.

    With a branch, the run begins with what others published there, in git and the DVC remote, and publishes what it
    made: data and results before the best candidate is registered, then the version's tag. `repository` is the address
    that this checkout must be a clone of, and one run of it is at work at a time. Without a branch, nothing leaves this
    checkout. If another command runs in this checkout, the run fails, or waits with `wait`.

    The state's data is the output of `register` if it ran, or a `tasks.CommandError` if something failed.
    """
    try:
        # The checkout first: who waits for a person's command here holds no turn.
        with (
            only_run(tasks.ROOT / RUN, "retrain", wait, get_run_logger().info),
            turn(repository) if branch else nullcontext(),
        ):
            return _retrain(repository, branch, part)
    except UserError as error:
        return tasks.failed(tasks.CommandError(str(error), tasks.USER_MISTAKE))


def _retrain(repository: str, branch: str, part: Part) -> State[Any]:
    if branch and not (state := tasks.earmark("fetch", "--repository", repository, "--branch", branch)).is_completed():
        return _failed(state, "fetch")
    state, summary = _bring_up_to_date(part)
    if not state.is_completed():
        return state
    if branch and not (state := tasks.earmark("publish")).is_completed():
        return _failed(state, "publish")
    if part == "data":
        return Completed(message=summary)
    state = _register(summary)
    if branch and state.is_completed() and not (tagged := tasks.earmark("publish")).is_completed():
        return _failed(tagged, "publish")
    return state


def _bring_up_to_date(part: Part) -> tuple[State[Any], str]:
    """Runs every stale stage of `part`; returns a failed state or a completed one, and a summary."""
    try:
        pipeline = tasks.read_pipeline()
        if part == "training":
            tasks.require_data(DATA)
    except tasks.CommandError as error:
        return tasks.failed(error), ""
    stages = [stage for stage in pipeline.stages if part == "all" or (stage in DATA) == (part == "data")]
    changed: set[str] = set()
    for stage in stages:
        before = tasks.recorded_outputs(stage)
        stale = stage in pipeline.stale or not changed.isdisjoint(pipeline.upstream[stage])
        validated_at = tasks.modified_at(VALIDATION_RESULT)
        is_upload_needed = stage == "extract" and stale and tasks.is_raw_copied()
        if is_upload_needed and not (state := tasks.earmark("upload")).is_completed():
            return _failed(state, "upload"), ""
        state = tasks.reproduce(stage, stale)
        if tasks.modified_at(VALIDATION_RESULT) != validated_at:
            _show_validation()
        if not state.is_completed():
            return _failed(state, stage), ""
        if tasks.recorded_outputs(stage) != before:
            changed.add(stage)
    return Completed(), _summary(stages, changed)


def _register(summary: str) -> State[Any]:
    state = tasks.earmark("register")
    if not state.is_completed():
        return _failed(state, "register")
    output = state.result()
    _show_version(output.rpartition("\n\n")[2])
    return Completed(message=summary, data=output)


def _show_version(sentence: str) -> None:
    metrics = _read(METRICS)
    run_id = tasks.run_of_version(metrics["candidates"][metrics["best"]])
    links = [markdown.run_links(environment.mlflow_server(), run_id, REPORT.name)] if run_id else []
    table = markdown.leaderboard(leaderboard(metrics["candidates"], metrics["best"]))
    _show("leaderboard", markdown.sentences(sentence), table, *links)
    if (tasks.ROOT / VERDICT).exists():
        _show("verdict", markdown.verdict(_read(VERDICT)), *links)


def _failed(state: State[Any], stage: str) -> State[Any]:
    error: Any = state.result(raise_on_failure=False)
    return tasks.failed(error.within(stage))


def _show_validation() -> None:
    _show("validation", markdown.validation(_read(VALIDATION_RESULT)))


def _show(key: str, *parts: str) -> None:
    create_markdown_artifact(key=key, markdown="\n".join(parts))


def _read(path: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((tasks.ROOT / path).read_text(encoding="utf-8"))
    return content


def _summary(stages: list[str], changed: set[str]) -> str:
    if not changed:
        return f"nothing changed: all {len(stages)} stages are up to date"
    return "changed: " + ", ".join(stage for stage in stages if stage in changed)


def main() -> int:
    """Runs the flow; returns the exit code: 0, 2 for a user's mistake, 130 for Ctrl-C, 1 for any other failure."""
    parser = argparse.ArgumentParser(prog="python -m flows.retrain", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--wait", action="store_true", help="if another run holds this checkout, wait for its end")
    wait = parser.parse_args().wait
    environment.exempt_loopback_from_proxies()
    if problem := _unreachable_server():
        print(f"earmark: {problem}", file=sys.stderr)
        return tasks.USER_MISTAKE
    try:
        state = retrain(wait=wait, return_state=True)
    except KeyboardInterrupt:
        _silence_prefect()
        print("\nretrain was interrupted; the next run continues from here", file=sys.stderr)
        return INTERRUPTED
    except (httpx.HTTPError, PrefectException, RuntimeError) as error:  # the last if its temporary server ends
        _silence_prefect()
        print(f"\nretrain failed: Prefect: {without_passwords(str(error)) or type(error).__name__}", file=sys.stderr)
        return 1
    result = state.result(raise_on_failure=False)
    _silence_prefect()
    if state.is_completed():
        report = REGISTERED if (tasks.ROOT / REGISTERED).exists() else REPORT
        model = params.load(tasks.ROOT / params.PATH).register_.name
        steps = next_steps.table(report, model, environment.mlflow_server(), environment.prefect_server())
        print(f"\n{state.message}\n\n{result}\n\n{steps}")
        return 0
    print(f"\nretrain failed: {state.message}", file=sys.stderr)
    return tasks.USER_MISTAKE if getattr(result, "exit_code", None) == tasks.USER_MISTAKE else 1


def _unreachable_server() -> str:
    """Why the server at PREFECT_API_URL cannot be used; "" if it answers, or if there is none."""
    address = os.environ.get("PREFECT_API_URL", "")
    if not address:
        return ""
    try:
        with get_client(sync_client=True) as client:
            error = client.api_healthcheck()
    except (httpx.HTTPError, httpx.InvalidURL, PrefectException, ValueError) as failure:
        error = failure
    reason = without_passwords(str(error)) or type(error).__name__ if error else ""
    expected = "expected a running server, or an unset PREFECT_API_URL for a temporary one"
    return f"Prefect at {environment.prefect_server()} does not answer: {reason}; {expected}" if reason else ""


def _silence_prefect() -> None:
    """Keeps messages of Prefect's temporary server and of its workers, when they stop, from following the result."""
    for name in ("", "prefect"):  # its workers log at the root
        logging.getLogger(name).setLevel(logging.ERROR)


if __name__ == "__main__":
    sys.exit(run_in_own_session(main))
