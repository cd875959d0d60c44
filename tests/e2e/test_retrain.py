"""The flow `retrain` as `make run` starts it: with Prefect's own temporary server, twice, and with a mistake."""

import json

import pytest
from conftest import SMALL, change_params, checkout


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    return checkout(tmp_path_factory.mktemp("retrain"), SMALL)


@pytest.fixture(scope="module")
def first(project, run):
    return run(project, "python", "-m", "flows.retrain")


def test_the_flow_ends_with_the_table_the_version_and_what_to_open(first, project):
    assert first.returncode == 0, first.stdout + first.stderr
    assert "registered tc_resnet as earmark version 1, champion" in first.stdout
    for said in ("candidates on the test split", "mlflow ui", "prefect server start", "reports/registered.html"):
        assert said in first.stdout
    accuracy = json.loads((project / "reports/metrics.json").read_text())["candidates"]["tc_resnet"]["test"]["accuracy"]
    assert f"{accuracy:.2%}" in first.stdout


def test_a_second_run_says_that_nothing_changed(first, project, run):
    model = project / "models/tc_resnet/model.keras"
    before = model.stat().st_mtime_ns
    again = run(project, "python", "-m", "flows.retrain")
    assert again.returncode == 0, again.stdout + again.stderr
    assert "nothing changed" in again.stdout + again.stderr
    assert "nothing new to register: tc_resnet is earmark version 1 (champion)" in again.stdout
    assert model.stat().st_mtime_ns == before


def test_a_users_mistake_fails_the_flow_with_its_sentence(first, project, run):
    change_params(project, {"validate": {"min_clips_per_label": 500}})
    failed = run(project, "python", "-m", "flows.retrain")
    assert failed.returncode == 2, failed.stdout + failed.stderr
    assert "at least 500 clips of each label" in failed.stderr
    assert "Traceback" not in failed.stdout + failed.stderr
