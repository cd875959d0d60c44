"""The flow `retrain`: brings every DVC stage up to date, then registers the best candidate."""

import json
import sys

from prefect import flow, get_run_logger
from prefect.artifacts import create_table_artifact
from prefect.states import Failed, State

from flows import tasks


@flow(name="retrain", persist_result=False)
def retrain() -> str | State:
    """Runs what is stale, stage by stage; returns the table of candidates and what became of the best one."""
    try:
        plan = tasks.plan()
    except tasks.StageFailed as error:
        return error.state
    moved = False
    for stage in plan.stages:
        before = tasks.outputs().get(stage)
        state = tasks.run_stage(stage, moved or stage in plan.stale, return_state=True)
        if state.is_failed():
            return Failed(name=state.name, message=f"{stage}: {state.message}")
        moved = moved or tasks.outputs().get(stage) != before
    if not moved:
        get_run_logger().info("nothing changed: every stage is up to date")
    registered = tasks.register(return_state=True)
    if registered.is_failed():
        return Failed(name=registered.name, message=f"register: {registered.message}")
    _show_leaderboard()
    return registered.result()


def _show_leaderboard() -> None:
    metrics = json.loads((tasks.ROOT / "reports/metrics.json").read_text(encoding="utf-8"))
    rows = [{"candidate": name, **_flat(entry)} for name, entry in metrics["candidates"].items()]
    create_table_artifact(table=rows, key="leaderboard", description=f"best: {metrics['best']}")


def _flat(entry: dict) -> dict:
    split = entry.get("test", entry["validation"])
    keys = ("parameters", "saved_bytes", "latency_ms_p50", "train_seconds")
    return {"accuracy": split["accuracy"], "macro_f1": split["macro_f1"]} | {key: entry[key] for key in keys}


NEXT_STEPS = """
MLflow UI    .venv/bin/mlflow ui --backend-store-uri sqlite:///mlflow.db    then http://127.0.0.1:5000
Prefect UI   .venv/bin/prefect server start                                 then http://127.0.0.1:4200
HTML report  reports/report.html                                            opens in any browser"""


def main() -> int:
    """Runs the flow; the exit code is 2 for a user's mistake and 1 for any other failure."""
    state = retrain(return_state=True)
    if not state.is_completed():
        print(f"\nretrain failed: {state.message}", file=sys.stderr)
        return tasks.USER_MISTAKE if state.name == tasks.REFUSED else 1
    print(f"\n{state.result()}\n{NEXT_STEPS}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
