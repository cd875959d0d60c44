"""What shows the results of a flow run: servers or the commands that start them, and the report."""

from pathlib import Path
from urllib.parse import quote

from earmark.addresses import FOR_TRAININGS
from earmark.paths import MLFLOW_DATABASE


def table(report: Path, model: str, mlflow_server: str, prefect_server: str) -> str:
    """Returns one line for each of MLflow, Prefect and the page at `report`; `model` is the registered model's name.

    The servers are addresses; where one is "", the line has the command that starts a local one.
    """
    page = f"/#/models/{quote(model)}{FOR_TRAININGS}"
    mlflow_ui = f".venv/bin/mlflow ui --backend-store-uri sqlite:///{MLFLOW_DATABASE}"
    rows = (
        (
            "MLflow UI",
            f"{mlflow_server}{page}" if mlflow_server else mlflow_ui,
            "" if mlflow_server else f"then http://127.0.0.1:5000{page}",
        ),
        (
            "Prefect UI",
            prefect_server.removesuffix("/api") or ".venv/bin/prefect server start",
            "" if prefect_server else "then http://127.0.0.1:4200",
        ),
        ("HTML report", str(report), "opens in any browser"),
    )
    width = max(len(how) for _, how, _ in rows)
    return "\n".join(f"{name:<11}  {how:<{width}}  {then}".rstrip() for name, how, then in rows)
