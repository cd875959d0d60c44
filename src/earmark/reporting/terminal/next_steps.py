"""What shows the results of a flow run: servers or the commands that start them, and the report."""

from pathlib import Path
from urllib.parse import quote

from earmark.addresses import FOR_TRAININGS
from earmark.paths import MLFLOW_DATABASE


def table(report: Path, model: str, mlflow_server: str, prefect_server: str) -> str:
    """Returns where MLflow, Prefect and the page at `report` are; `model` is the registered model's name.

    The servers are addresses; where one is "", a line has the command that starts a local one, the next its address.
    """
    page = f"/#/models/{quote(model)}{FOR_TRAININGS}"
    mlflow_ui = (
        (f"{mlflow_server}{page}",)
        if mlflow_server
        else (f".venv/bin/mlflow ui --backend-store-uri sqlite:///{MLFLOW_DATABASE}", f"http://127.0.0.1:5000{page}")
    )
    prefect_ui = (
        (prefect_server.removesuffix("/api"),)
        if prefect_server
        else (".venv/bin/prefect server start", "http://127.0.0.1:4200")
    )
    rows = (("MLflow UI", mlflow_ui), ("Prefect UI", prefect_ui), ("HTML report", (str(report),)))
    lines = [(name if number == 0 else "", line) for name, group in rows for number, line in enumerate(group)]
    return "\n".join(f"{name:<11}  {line}" for name, line in lines)
