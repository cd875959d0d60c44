"""A checkout that was moved or copied with its registry: artifacts are found, and written, where it is now."""

import shutil
from pathlib import Path

import mlflow
import pytest
from mlflow import MlflowClient
from mlflow.store.tracking.dbmodels.models import SqlRun
from sqlalchemy import create_engine, text

from earmark.tracking import connection
from earmark.tracking.local_store import ADDRESSES, follow_moved_checkout


def addresses(folder: Path) -> set[str]:
    """Every address of an artifact that `mlflow.db` has."""
    engine = create_engine(f"sqlite:///{folder}/mlflow.db")
    with engine.connect() as database:
        found = {
            value
            for table, column in ADDRESSES
            for (value,) in database.execute(text(f"SELECT {column} FROM {table}"))
            if value and not value.startswith("models:/")
        }
    engine.dispose()
    return found


def enter(folder: Path, monkeypatch) -> None:
    monkeypatch.chdir(folder)
    # By its whole path: MLflow in this process keeps the connection of the relative one.
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{folder}/mlflow.db")


@pytest.fixture
def checkout(tmp_path, monkeypatch) -> Path:
    """A folder whose MLflow has one version, in a path with a character that SQL's LIKE would take for a pattern."""
    folder = tmp_path / "a_check%out"
    folder.mkdir()
    enter(folder, monkeypatch)
    connection.connect("earmark")
    with mlflow.start_run() as run:
        mlflow.log_text("some text", "model/file.txt")
    client = MlflowClient()
    client.create_registered_model("earmark")
    client.create_model_version("earmark", f"{run.info.artifact_uri}/model", run.info.run_id)
    return folder


def text_of_version() -> str:
    client = MlflowClient()
    version = client.get_model_version("earmark", "1")
    return Path(mlflow.artifacts.download_artifacts(f"{version.source}/file.txt")).read_text()


def test_a_moved_checkout_finds_its_artifacts_and_writes_beside_them(checkout, tmp_path, monkeypatch, capsys):
    moved = checkout.rename(tmp_path / "elsewhere")
    enter(moved, monkeypatch)
    connection.connect("earmark")
    assert capsys.readouterr().err == f"mlflow.db: this checkout was at {checkout}; its artifacts are at {moved} now\n"
    assert all(address.startswith(f"{moved}/") for address in addresses(moved))
    assert text_of_version() == "some text"
    with mlflow.start_run():
        mlflow.log_text("new", "new.txt")
    assert not checkout.exists()
    connection.connect("earmark")
    assert capsys.readouterr().err == ""


def test_a_copy_leaves_the_original_as_it_is(checkout, tmp_path, monkeypatch):
    before = addresses(checkout)
    copy = shutil.copytree(checkout, tmp_path / "copy")
    enter(copy, monkeypatch)
    connection.client()
    assert all(address.startswith(f"{copy}/") for address in addresses(copy))
    shutil.rmtree(checkout / "mlruns")
    assert text_of_version() == "some text"
    assert addresses(checkout) == before


def test_a_copied_file_alone_still_finds_the_artifacts_of_the_original(checkout, tmp_path, monkeypatch):
    folder = tmp_path / "other"
    folder.mkdir()
    shutil.copy(checkout / "mlflow.db", folder)
    enter(folder, monkeypatch)
    connection.client()
    assert addresses(folder) == addresses(checkout)
    assert text_of_version() == "some text"


def test_artifacts_that_are_kept_elsewhere_on_purpose_stay_there(checkout, tmp_path, monkeypatch):
    shared = tmp_path / "shared/mlruns"
    client = MlflowClient()
    kept = client.create_experiment("kept", artifact_location=str(shared / "7"))
    run = client.create_run(kept)
    client.log_text(run.info.run_id, "kept", "file.txt")
    moved = checkout.rename(tmp_path / "elsewhere")
    (moved / "mlruns/7").mkdir()
    enter(moved, monkeypatch)
    connection.client()
    assert MlflowClient().get_run(run.info.run_id).info.artifact_uri.startswith(f"{shared}/7/")
    assert text_of_version() == "some text"


def test_a_database_that_another_checkout_has_as_a_link_is_that_one_s(checkout, tmp_path, monkeypatch):
    other = tmp_path / "other"
    (other / "mlruns/1").mkdir(parents=True)
    (other / "mlflow.db").symlink_to(checkout / "mlflow.db")
    before = addresses(checkout)
    enter(other, monkeypatch)
    connection.client()
    assert addresses(checkout) == before


def test_another_name_of_the_same_folder_is_no_move(checkout, tmp_path):
    (tmp_path / "link").symlink_to(checkout)
    before = addresses(checkout)
    follow_moved_checkout(tmp_path / "link/mlflow.db")
    assert addresses(checkout) == before


def test_the_columns_are_those_that_mlflow_keeps_addresses_in():
    names, kinds = {(SqlRun.__tablename__, "artifact_uri")}, ("artifact_location", "storage_location", "artifact_uri")
    for models in ("tracking", "model_registry"):
        module = __import__(f"mlflow.store.{models}.dbmodels.models", fromlist=["Base"])
        for mapper in module.Base.registry.mappers:
            table, columns = mapper.local_table.name, [column.name for column in mapper.local_table.columns]
            names |= {(table, name) for name in columns if name in kinds}
    assert names <= set(ADDRESSES)
