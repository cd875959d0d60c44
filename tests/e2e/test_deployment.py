"""The weekly deployment for real: a server, `prefect deploy`, a worker, and a run of all stages that ends Completed.

With stages that take no time it is in test_flow.
"""

import pytest
from conftest import BIN, SMALL, checkout
from support.prefect_server import run_weekly, serving, wait_until

STAGES = {"ingest", "validate", "extract", "train@tc_resnet", "evaluate", "register"}


@pytest.mark.slow
def test_the_deployment_runs_through_a_worker(tmp_path):
    project, home, log = checkout(tmp_path / "project", SMALL), tmp_path / "home", tmp_path / "worker.log"
    home.mkdir()
    with serving(home) as server:
        environment = server.environment | {"PATH": f"{BIN}:{server.environment['PATH']}", "NO_PROXY": "127.0.0.1"}
        run = run_weekly(server, project, environment, log)
        assert run["state_type"] == "COMPLETED", log.read_text()
        wait_until(lambda: len(server.task_runs(run["id"])) == len(STAGES), 30, "all task runs are known")
        tasks = server.task_runs(run["id"])
    assert {task["name"] for task in tasks} == STAGES
    assert {task["state_type"] for task in tasks} == {"COMPLETED"}
    assert (project / "reports/report.html").exists()
