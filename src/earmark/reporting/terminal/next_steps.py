"""What shows the results of a flow run: commands, and the report."""

from pathlib import Path

from earmark.paths import MLFLOW_DATABASE


def table(report: Path) -> str:
    """Returns one line for each of MLflow, Prefect and the page at `report`."""
    mlflow_ui = f".venv/bin/mlflow ui --backend-store-uri sqlite:///{MLFLOW_DATABASE}"
    rows = (
        ("MLflow UI", mlflow_ui, "then http://127.0.0.1:5000"),
        ("Prefect UI", ".venv/bin/prefect server start", "then http://127.0.0.1:4200"),
        ("HTML report", str(report), "opens in any browser"),
    )
    return "\n".join(f"{name:<11}  {how:<61}  {then}" for name, how, then in rows)
