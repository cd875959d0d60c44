"""The flow `retrain` as `make run` starts it: with Prefect's own temporary server and the real stages."""

import json

import pytest
from conftest import SMALL, change_params, checkout, copied

from earmark.reporting import formats


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    return checkout(tmp_path_factory.mktemp("retrain"), SMALL)


@pytest.fixture(scope="module")
def first(project, run):
    return run(project, "python", "-m", "flows.retrain")


def test_where_nothing_changed_the_flow_registers_and_says_so(registered, tmp_path, run):
    project = copied(registered, tmp_path / "project")
    model = project / "models/tc_resnet/model.keras"
    before = model.stat().st_mtime_ns
    change_params(project, {"register": {"name": "again"}})
    done = run(project, "python", "-m", "flows.retrain")
    assert_registered(done, project, "again")
    assert "nothing changed" in done.stdout
    assert model.stat().st_mtime_ns == before


def assert_registered(done, project, name: str) -> None:
    """The flow ended with the table, the version, and what to open."""
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"registered tc_resnet as {name} version 1, champion" in done.stdout
    for line in ("candidates on the test split", "mlflow ui", "prefect server start", "reports/registered.html"):
        assert line in done.stdout
    accuracy = json.loads((project / "reports/metrics.json").read_text())["candidates"]["tc_resnet"]["test"]["accuracy"]
    assert formats.percent(accuracy) in done.stdout


@pytest.mark.slow
def test_on_a_new_checkout_the_flow_ends_with_the_table_the_version_and_what_to_open(first, project):
    assert_registered(first, project, "earmark")


@pytest.mark.slow
def test_a_second_run_says_that_nothing_changed(first, project, run):
    model = project / "models/tc_resnet/model.keras"
    before = model.stat().st_mtime_ns
    again = run(project, "python", "-m", "flows.retrain")
    assert again.returncode == 0, again.stdout + again.stderr
    assert "nothing changed" in again.stdout + again.stderr
    assert "nothing new to register: tc_resnet is earmark version 1 (champion)" in again.stdout
    assert model.stat().st_mtime_ns == before


@pytest.mark.slow
def test_a_users_mistake_fails_the_flow_with_its_sentence(first, project, run):
    change_params(project, {"validate": {"min_clips_per_label": 500}})
    failed = run(project, "python", "-m", "flows.retrain")
    assert failed.returncode == 2, failed.stdout + failed.stderr
    assert "at least 500 clips of each label" in failed.stderr
    assert "Traceback" not in failed.stdout + failed.stderr
