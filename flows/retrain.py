"""The flow `retrain`: brings every DVC stage up to date, then registers the best candidate."""

import json
import logging
import sys
from pathlib import Path

from prefect import flow
from prefect.artifacts import create_markdown_artifact
from prefect.states import Completed, State

from earmark.paths import METRICS, REGISTERED, REPORT, VALIDATION_RESULT, VERDICT
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
    create_markdown_artifact(key="leaderboard", markdown=f"{leaderboard(metrics)}\n```\n{said}\n```\n")
    if (tasks.ROOT / VERDICT).exists():
        create_markdown_artifact(key="verdict", markdown=verdict(_read(VERDICT)))
    return Completed(message=summary, data=said)


def _show_validation() -> None:
    create_markdown_artifact(key="validation", markdown=validation(_read(VALIDATION_RESULT)))


def _read(path: Path) -> dict:
    return json.loads((tasks.ROOT / path).read_text(encoding="utf-8"))


def _summary(stages: tuple[str, ...], changed: set[str]) -> str:
    if not changed:
        return f"nothing changed: all {len(stages)} stages are up to date"
    return "changed: " + ", ".join(stage for stage in stages if stage in changed)


def validation(result: dict) -> str:
    """A Markdown table of the rules in `reports/validation/result.json`, broken ones in bold."""
    rows = ["| of | rule | outcome | observed | broken by |", "|---|---|---|--:|---|"]
    for entry in result["rules"]:
        outcome = "holds" if entry["success"] else "**broken**"
        more = [f"and {entry['failed'] - len(entry['failed_ids'])} more"] * (entry["failed"] > len(entry["failed_ids"]))
        broken_by = ", ".join([*map(_code, entry["failed_ids"]), *more])
        rows.append(f"| {entry['suite']} | {entry['rule']} | {outcome} | {entry['observed']} | {broken_by} |")
    return f"{result['sentence']}\n\n" + "\n".join(rows) + "\n"


def verdict(found: dict) -> str:
    """A Markdown table of the gate's checks in `reports/verdict.json`, failed ones in bold."""
    rows = ["| check | outcome | observed | needed |", "|---|---|---|---|"]
    for check in found["checks"]:
        outcome = "passed" if check["passed"] else "**failed**"
        rows.append(f"| {check['name']} | {outcome} | {_code(check['observed'])} | {_code(check['allowed'])} |")
    return f"{_code(found['sentence'])}\n\n" + "\n".join(rows) + "\n"


def _code(text: str) -> str:
    """`text` in a cell of a table as it is, whatever marks it holds."""
    shown = text if text.isprintable() else ascii(text)
    plain = shown.replace("`", "'").replace("|", "/")
    return f"`{plain}`"


def leaderboard(metrics: dict) -> str:
    """A Markdown table of the candidates in `reports/metrics.json`, the best one in bold.

    Scores are those of the test split, or of the validation split where there is no test split.
    """
    rows = [
        "| candidate | split | accuracy | 95 % interval | macro F1 | parameters | kB | p50 latency, ms | training, s |",
        "|---|---|--:|:-:|--:|--:|--:|--:|--:|",
    ]
    for name, entry in metrics["candidates"].items():
        rows.append(_row(f"**{name}**" if name == metrics["best"] else name, entry))
    return "\n".join(rows) + "\n"


def _row(title: str, entry: dict) -> str:
    split = "test" if "test" in entry else "validation"
    scores = entry[split]
    interval = " to ".join(f"{bound:.3f}" for bound in scores.get("accuracy_ci95", []))
    measured = f"{entry['saved_bytes'] / 1000:.0f} | {entry['latency_ms_p50']:.1f} | {entry['train_seconds']:.0f}"
    cells = f"{scores['accuracy']:.3f} | {interval} | {scores['macro_f1']:.3f} | {entry['parameters']} | {measured}"
    return f"| {title} | {split} | {cells} |"


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
