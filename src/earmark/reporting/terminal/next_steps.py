"""What shows the results of a flow run: servers or the commands that start them, and the report."""

from pathlib import Path

from earmark.paths import MLFLOW_DATABASE


def table(report: Path, mlflow_server: str, prefect_server: str) -> str:
    """Returns one line for each of MLflow, Prefect and the page at `report`.

    The servers are addresses; where one is "", the line has the command that starts a local one.
    """
    mlflow_ui = f".venv/bin/mlflow ui --backend-store-uri sqlite:///{MLFLOW_DATABASE}"
    rows = (
        ("MLflow UI", mlflow_server or mlflow_ui, "" if mlflow_server else "then http://127.0.0.1:5000"),
        (
            "Prefect UI",
            prefect_server.removesuffix("/api") or ".venv/bin/prefect server start",
            "" if prefect_server else "then http://127.0.0.1:4200",
        ),
        ("HTML report", str(report), "opens in any browser"),
    )
    width = max(len(how) for _, how, _ in rows)
    return "\n".join(f"{name:<11}  {how:<{width}}  {then}".rstrip() for name, how, then in rows)
