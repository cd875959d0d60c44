"""The flow `retrain`: brings every DVC stage up to date, then registers the best candidate."""

import json
import sys

from prefect import flow, get_run_logger
from prefect.artifacts import create_table_artifact

from flows import tasks


@flow(name="retrain", log_prints=False)
def retrain() -> str:
    """Runs what is stale, stage by stage; returns the table of candidates and what became of the best one."""
    logger = get_run_logger()
    plan = tasks.plan()
    ran = set()
    moved = False
    for stage in plan.stages:
        before = tasks.outputs().get(stage)
        stale = moved or stage in plan.stale
        tasks.run_stage(stage, stale)
        if tasks.outputs().get(stage) != before:
            moved = True
            ran.add(stage)
    if not ran:
        logger.info("nothing changed: every stage is up to date")
    result = tasks.register()
    _show_leaderboard()
    return result


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
    result = state.result(raise_on_failure=False)
    if isinstance(result, BaseException):
        print(f"\nretrain failed: {result}", file=sys.stderr)
        return tasks.USER_MISTAKE if getattr(result, "code", 1) == tasks.USER_MISTAKE else 1
    print(f"\n{result}\n{NEXT_STEPS}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
