"""Models in MLflow: registered ones by name, and the folder behind an address."""

from pathlib import Path

import mlflow
from mlflow import MlflowClient
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException

from earmark.errors import UserError
from earmark.tracking.connection import address, answering, first_line, impatient, require, start


def make_model(client: MlflowClient, name: str, description: str) -> None:
    """Makes sure that there is a registered model of this name."""
    try:
        client.get_registered_model(name)
    except MlflowException as error:
        require(error, "RESOURCE_DOES_NOT_EXIST")
        try:
            client.create_registered_model(name, description=description)
        except MlflowException as beaten:
            require(beaten, "RESOURCE_ALREADY_EXISTS")


def all_versions(client: MlflowClient, name: str | None = None) -> list[ModelVersion]:
    """Every version of the registered model `name`, or else of all of them, the first one of each first."""
    wanted, order = f"name = '{name}'" if name else None, ["name ASC", "version_number ASC"]
    found = page = client.search_model_versions(wanted, order_by=order)
    while page.token:
        page = client.search_model_versions(wanted, order_by=order, page_token=page.token)
        found = [*found, *page]
    return list(found)


def download_model(uri: str, folder: Path) -> Path:
    """The model folder behind a `models:/…` address, below `folder`; UserError where there is none."""
    start()
    try:
        with answering(uri), impatient():
            root = Path(mlflow.artifacts.download_artifacts(artifact_uri=uri, dst_path=str(folder)))
    except (ImportError, ValueError) as error:  # an address of no kind that is known here
        raise UserError(f"{uri} cannot be had from MLflow at {address()}: {first_line(error)}") from None
    models = sorted(path.parent for path in root.glob("artifacts/*/model.keras"))
    if not models:
        raise UserError(f"{uri} is no model of earmark: it holds no artifacts/…/model.keras")
    return models[0]
