"""The flow `retrain` on a small DVC project with the real graph, run by real DVC, Prefect and Git.

Only the command `earmark` is a stand-in there, found before the real one on PYTHONPATH; it notes each call, and fails
on request.
"""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from subprocess import CompletedProcess

import pytest
import yaml
from conftest import BIN, ROOT, change_params
from prefect_server import PrefectServer, answers, running, serving, wait_until

from flows.retrain import leaderboard, validation, verdict

STAGES = ["ingest", "validate", "extract", "train@seed_cnn", "train@tc_resnet", "evaluate"]
SECONDS = 120

DVC_YAML = """
stages:
  ingest:
    cmd: earmark ingest
    always_changed: true
    outs: [data/raw]
  validate:
    cmd: earmark validate
    deps: [data/raw]
    outs:
      - data/accepted
      - reports/validation: {persist: true}
  extract:
    cmd: earmark extract
    deps: [data/raw]
    params: [features]
    outs: [data/features]
  train:
    foreach: ${train.candidates}
    do:
      cmd: earmark train ${item}
      deps: [data/accepted, data/features]
      params: ["train.${item}"]
      outs: ["models/${item}"]
  evaluate:
    cmd: earmark evaluate
    deps: [models]
    metrics:
      - reports/metrics.json: {cache: false}
"""
METRICS = {
    "best": "tc_resnet",
    "candidates": {
        "tc_resnet": {
            "validation": {"accuracy": 0.5, "macro_f1": 0.4},
            "test": {"accuracy": 0.91234, "accuracy_ci95": [0.9, 0.92], "macro_f1": 0.85},
            "parameters": 66000,
            "saved_bytes": 312_000,
            "latency_ms_p50": 1.25,
            "train_seconds": 61.6,
        }
    },
}
VALIDATION = {
    "sentence": "70 clips accepted, 2 quarantined",
    "rules": [
        {
            "suite": "clips",
            "rule": "decodable",
            "success": False,
            "observed": "",
            "failed": 2,
            "failed_ids": ["no/a|b`c.wav", "no/\nd.wav"],
        },
        {"suite": "data set", "rule": "drift", "success": True, "observed": "0.01", "failed": 0, "failed_ids": []},
    ],
}
VERDICT = {
    "sentence": "registered tc_resnet as earmark version 2, challenger: largest drop in recall: of 'no|yes'",
    "promoted": False,
    "checks": [
        {"name": "accuracy", "observed": "91.23%", "allowed": "at least 50.00%", "passed": True},
        {
            "name": "largest drop in recall",
            "observed": "20.00 points, of 'no|`yes'",
            "allowed": "none",
            "passed": False,
        },
    ],
}
STAND_IN = """
import json, os, pathlib, signal, sys

OUTPUTS = {"ingest": "data/raw", "validate": "data/accepted", "extract": "data/features"}
METRICS = pathlib.Path("reports/metrics.json")

def main():
    stage = "@".join(sys.argv[1:])
    with open("calls.txt", "a") as calls:
        print(stage, os.environ["EARMARK_FLOW_RUN_ID"], file=calls)
    print(f"{stage} at work")
    if stage == "validate":
        pathlib.Path("reports/validation").mkdir(parents=True, exist_ok=True)
        pathlib.Path("reports/validation/result.json").write_text(pathlib.Path("validation.txt").read_text())
    for fault in json.loads(os.environ.get("STAND_IN_FAULTS", "[]")):
        if fault["stage"] == stage and not os.path.exists(fault.get("unless", "no such file")):
            pathlib.Path("faulty").write_text(str(os.getpid()))
            fail(fault["exit_code"])
    if stage == "register":
        print("registered tc_resnet")
        pathlib.Path("verdict.txt").exists() and os.replace("verdict.txt", "reports/verdict.json")
    else:
        write(METRICS if stage == "evaluate" else pathlib.Path(OUTPUTS.get(stage) or f"models/{sys.argv[2]}"), stage)

def fail(exit_code):
    if exit_code is None:
        signal.pause()
    print("some library: a remark\\nearmark: the rates are wrong:\\n7 Hz", file=sys.stderr)
    sys.exit(exit_code)

def write(path, stage):
    path.parent.mkdir(exist_ok=True)
    if stage == "evaluate":
        path.write_text(pathlib.Path("metrics.txt").read_text())
    else:
        path.write_text(pathlib.Path("source.txt" if stage == "ingest" else "params.yaml").read_text() + stage)
"""


@dataclass(frozen=True)
class Project:
    """A checkout with the flows, the small graph and the stand-in."""

    root: Path
    server: PrefectServer

    def retrain(self, faults: tuple[dict, ...] = ()) -> CompletedProcess:
        (self.root / "calls.txt").unlink(missing_ok=True)
        options = {"cwd": self.root, "env": self.environment(faults), "capture_output": True, "text": True}
        return subprocess.run([sys.executable, "-m", "flows.retrain"], timeout=SECONDS, **options)

    def environment(self, faults: tuple[dict, ...] = ()) -> dict[str, str]:
        stand_in = {"PYTHONPATH": str(self.root / "stand_in"), "STAND_IN_FAULTS": json.dumps(faults)}
        return self.server.environment | stand_in

    def set(self, section: str, key: str, value: object) -> None:
        change_params(self.root, {section: {key: value}})

    @property
    def calls(self) -> list[str]:
        """The stages whose commands ran, in order."""
        return [line.split()[0] for line in self._noted()]

    @property
    def run_id(self) -> str:
        """The flow run that all commands were told they belong to."""
        (run_id,) = {line.split()[1] for line in self._noted()}
        return run_id

    def states(self, expected: int) -> dict[str, str]:
        """State names by task run; the server writes task runs down a moment after they ended."""
        wait_until(lambda: len(self._final_task_runs()) >= expected, 30, f"{expected} task runs are known")
        runs = self._final_task_runs()
        assert len(runs) == len({run["name"] for run in runs})
        return {run["name"]: run["state_name"] for run in runs}

    @property
    def artifacts(self) -> dict[str, str]:
        """What the flow run shows beside its log: Markdown by key."""
        return {each["key"]: each["data"] for each in self.server.artifacts(self.run_id)}

    def _final_task_runs(self) -> list[dict]:
        return [run for run in self.server.task_runs(self.run_id) if run["state_type"] in ("COMPLETED", "FAILED")]

    def _noted(self) -> list[str]:
        return (self.root / "calls.txt").read_text().splitlines()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PrefectServer]:
    with serving(tmp_path_factory.mktemp("prefect")) as server:
        yield server


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory, server: PrefectServer) -> tuple[Project, CompletedProcess]:
    """A new project after its first run, and what that run said."""
    project = Project(tmp_path_factory.mktemp("project"), server)
    shutil.copytree(ROOT / "flows", project.root / "flows", ignore=shutil.ignore_patterns("__pycache__"))
    package = project.root / "stand_in" / "earmark"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("__path__ = __import__('pkgutil').extend_path(__path__, __name__)\n")
    (package / "cli.py").write_text(STAND_IN)
    (project.root / "dvc.yaml").write_text(DVC_YAML)
    (project.root / "metrics.txt").write_text(json.dumps(METRICS))
    (project.root / "validation.txt").write_text(json.dumps(VALIDATION))
    (project.root / "source.txt").write_text("two recordings")
    shutil.copy(ROOT / "params.yaml", project.root)
    project.set("train", "candidates", ["seed_cnn", "tc_resnet"])
    for command in (["git", "init", "-q"], [BIN / "dvc", "init", "-q"]):
        subprocess.run(command, cwd=project.root, check=True)
    return project, project.retrain()


@pytest.fixture
def project(first, tmp_path: Path) -> Project:
    """A copy of the project as its first run left it."""
    shutil.copytree(first[0].root, tmp_path / "project")
    return Project(tmp_path / "project", first[0].server)


def test_first_run_runs_every_stage_once_and_shows_what_register_says(first):
    project, ended = first
    assert ended.returncode == 0, ended.stderr
    assert set(project.calls) == {*STAGES, "register"} and len(project.calls) == 7
    assert project.calls.index("ingest") == 0 and project.calls[-2:] == ["evaluate", "register"]
    assert project.states(7) == dict.fromkeys([*STAGES, "register"], "Completed")
    assert "registered tc_resnet" in ended.stdout and "train@seed_cnn at work" in ended.stderr
    assert "Running stage" not in ended.stderr
    assert set(project.artifacts) == {"validation", "leaderboard"}
    assert "registered tc_resnet" in project.artifacts["leaderboard"]
    assert "70 clips accepted" in project.artifacts["validation"]


def test_second_run_shows_everything_but_the_source_as_cached(project: Project):
    ended = project.retrain()
    assert ended.returncode == 0, ended.stderr
    assert project.calls == ["ingest", "register"]
    assert project.states(7) == dict.fromkeys(STAGES[1:], "Cached") | {"ingest": "Completed", "register": "Completed"}
    assert "nothing changed: all 6 stages are up to date" in ended.stdout
    assert set(project.artifacts) == {"leaderboard"}


def test_news_from_the_source_reaches_every_stage(project: Project):
    (project.root / "source.txt").write_text("three recordings")
    ended = project.retrain()
    assert ended.returncode == 0, ended.stderr
    assert project.calls[0] == "ingest" and set(project.calls) >= {"validate", "extract"}
    assert "changed: ingest" in ended.stdout


def test_parameter_of_one_candidate_trains_that_one_only(project: Project):
    settings = yaml.safe_load((project.root / "params.yaml").read_text())["train"]["tc_resnet"]
    project.set("train", "tc_resnet", settings | {"batch_size": settings["batch_size"] * 2})
    ended = project.retrain()
    assert ended.returncode == 0, ended.stderr
    assert project.calls == ["ingest", "train@tc_resnet", "evaluate", "register"]
    assert project.states(7)["train@seed_cnn"] == "Cached"


@pytest.mark.parametrize(("stage", "exit_code"), [("ingest", 2), ("extract", 2), ("extract", 1), ("register", 2)])
def test_failure_ends_the_run_with_what_the_stage_said(project: Project, stage: str, exit_code: int):
    project.set("features", "fft_length", 1024)
    ended = project.retrain(({"stage": stage, "exit_code": exit_code},))
    assert ended.returncode == exit_code
    assert ended.stderr.endswith(f"\nretrain failed: {stage}: earmark: the rates are wrong:\n7 Hz\n")
    assert "Traceback" not in ended.stderr and "NoneType" not in ended.stderr
    assert project.calls[-1] == stage and project.calls.count(stage) == 1
    assert project.server.flow_run(project.run_id)["state_name"] == "Failed"


def test_a_refusal_by_validate_is_shown_with_its_rules(project: Project):
    refused = VALIDATION | {"sentence": "data/raw is refused"}
    (project.root / "validation.txt").write_text(json.dumps(refused))
    (project.root / "source.txt").write_text("three recordings")
    ended = project.retrain(({"stage": "validate", "exit_code": 2},))
    assert ended.returncode == 2
    assert project.artifacts == {"validation": validation(refused)}


def test_a_verdict_is_shown_with_its_checks_by_each_run_that_it_stands_for(project: Project):
    (project.root / "verdict.txt").write_text(json.dumps(VERDICT))
    for _ in range(2):  # the second may come after a kill, with nothing left to do
        assert project.retrain().returncode == 0
        assert project.artifacts["verdict"] == verdict(VERDICT)
    (project.root / "reports/verdict.json").unlink()
    assert project.retrain().returncode == 0
    assert "verdict" not in project.artifacts


def test_ingest_is_tried_again_after_a_fault(project: Project):
    ended = project.retrain(({"stage": "ingest", "exit_code": 1, "unless": "faulty"},))
    assert ended.returncode == 0, ended.stderr
    assert project.calls == ["ingest", "ingest", "register"]


def test_wrong_parameter_is_refused_before_any_stage(project: Project):
    project.set("dataset", "sample_rate_hz", 7)
    ended = project.retrain()
    assert ended.returncode == 2
    assert "dataset.sample_rate_hz is 7" in ended.stderr.splitlines()[-1] and "Traceback" not in ended.stderr
    assert not (project.root / "calls.txt").exists()


def test_damaged_graph_is_reported_in_the_words_of_dvc(project: Project):
    (project.root / "dvc.yaml").write_text("stages: 7")
    ended = project.retrain()
    assert ended.returncode == 1
    assert "dvc.yaml" in ended.stderr.splitlines()[-1] and "Traceback" not in ended.stderr


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_what_ends_a_terminal_s_processes_ends_all_of_the_flow_and_is_one_sentence(project: Project, number):
    command = [sys.executable, "-m", "flows.retrain"]
    environment = project.environment(({"stage": "ingest", "exit_code": None},))
    environment.pop("PREFECT_API_URL")  # a temporary server, which the terminal interrupts too
    apart = {"cwd": project.root, "env": environment, "start_new_session": True}
    with running(command, project.root / "run.log", **apart) as process:
        wait_until((project.root / "faulty").exists, SECONDS, "ingest hangs")
        os.killpg(process.pid, number)  # as a terminal does it
        assert process.wait(SECONDS) == 130
    said = (project.root / "run.log").read_text()
    assert said.splitlines()[-1] == "retrain was interrupted; the next run goes on from here"
    assert "Traceback" not in said
    address = re.search(r"temporary server on (http://127.0.0.1:\d+)", said)[1]
    wait_until(lambda: not answers(f"{address}/api/health"), 10, "Prefect's temporary server has ended")
    stage = int((project.root / "faulty").read_text())
    wait_until(lambda: not _is_alive(stage), 10, "the stage's own process has ended")


def _is_alive(process_id: int) -> bool:
    try:
        os.kill(process_id, 0)
    except ProcessLookupError:
        return False
    return True


def test_leaderboard_scores_on_the_test_split_where_there_is_one():
    without_test = {"validation": {"accuracy": 0.5, "macro_f1": 0.25}, **METRICS["candidates"]["tc_resnet"]}
    del without_test["test"]
    table = leaderboard({"best": "tc_resnet", "candidates": METRICS["candidates"] | {"seed_cnn": without_test}})
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()[2:]]
    assert rows[0] == ["**tc_resnet**", "test", "0.912", "0.900 to 0.920", "0.850", "66000", "312", "1.2", "62"]
    assert rows[1][:5] == ["seed_cnn", "validation", "0.500", "", "0.400"]


def test_rules_of_validation_are_one_row_each_whatever_clips_are_called():
    heading, _, *table = validation(VALIDATION).splitlines()
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in table[2:]]
    assert heading == "70 clips accepted, 2 quarantined"
    assert rows == [
        ["clips", "decodable", "**broken**", "", "`no/a/b'c.wav`, `'no/\\nd.wav'`"],
        ["data set", "drift", "holds", "0.01", ""],
    ]


def test_checks_of_the_gate_are_one_row_each_whatever_labels_are_called():
    heading, _, *table = verdict(VERDICT).splitlines()
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in table[2:]]
    assert heading == f"`{VERDICT['sentence'].replace('|', '/')}`"
    assert rows == [
        ["accuracy", "passed", "`91.23%`", "`at least 50.00%`"],
        ["largest drop in recall", "**failed**", "`20.00 points, of 'no/'yes'`", "`none`"],
    ]
