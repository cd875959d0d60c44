"""Models in MLflow: registered models by name, and downloads by address."""

from pathlib import Path

import mlflow
from mlflow import MlflowClient
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException

from earmark.errors import UserError
from earmark.tracking.connection import address, configure, few_retries, first_line, raise_unless, translated_errors


def ensure_registered_model(client: MlflowClient, name: str, description: str) -> None:
    """Creates the registered model `name` unless it exists."""
    try:
        client.get_registered_model(name)
    except MlflowException as error:
        raise_unless(error, "RESOURCE_DOES_NOT_EXIST")
        try:
            client.create_registered_model(name, description=description)
        except MlflowException as conflict:
            raise_unless(conflict, "RESOURCE_ALREADY_EXISTS")


def all_versions(client: MlflowClient, name: str | None = None) -> list[ModelVersion]:
    """Returns the versions of the registered model `name`, or of all models; the oldest of each model first."""
    query, order = f"name = '{name}'" if name else None, ["name ASC", "version_number ASC"]
    page = client.search_model_versions(query, order_by=order)
    versions = list(page)
    while page.token:
        page = client.search_model_versions(query, order_by=order, page_token=page.token)
        versions += page
    return versions


def download_model(uri: str, folder: Path) -> Path:
    """Downloads the model at a `models:/…` address to a place below `folder`, and returns its model folder.

    Raises:
        UserError: there is no such model, or earmark did not make it.
    """
    configure()
    try:
        with translated_errors(uri), few_retries():
            root = Path(mlflow.artifacts.download_artifacts(artifact_uri=uri, dst_path=str(folder)))
    except (ImportError, ValueError) as error:  # MLflow cannot parse the address, or lacks a package for it
        raise UserError(f"{uri} cannot be downloaded from MLflow at {address()}: {first_line(error)}") from None
    models = sorted(path.parent for path in root.glob("artifacts/*/model.keras"))
    if not models:
        raise UserError(f"{uri} is no model of earmark: it holds no artifacts/…/model.keras")
    return models[0]
