"""A small DVC project with the real flows and graph, run by real DVC, Prefect and Git.

Only the command `earmark` is a stand-in there, found before the real one on PYTHONPATH; it notes each call, and fails
on request.
"""

import json
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from subprocess import CompletedProcess

from conftest import BIN, ROOT, candidates, change_params

from support.prefect_server import PrefectServer, wait_until

STAGES = ["ingest", "validate", "extract", "train@seed_cnn", "train@tc_resnet", "evaluate"]
SECONDS = 120
RETRAIN = ("-m", "flows.retrain")

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
      cmd: earmark train ${key}
      deps: [data/accepted, data/features]
      params: ["train.candidates.${key}"]
      outs: ["models/${key}"]
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
            "validation": {
                "accuracy": 0.5,
                "accuracy_ci95": [0.4, 0.6],
                "macro_f1": 0.4,
                "macro_f1_ci95": [0.3, 0.5],
            },
            "test": {
                "accuracy": 0.91234,
                "accuracy_ci95": [0.9, 0.92],
                "macro_f1": 0.85,
                "macro_f1_ci95": [0.8, 0.9],
            },
            "parameters": 66000,
            "multiply_adds": 3_200_000,
            "saved_bytes": 312_000,
            "latency_ms_p50": 1.25,
            "latency_ms_p99": 2.5,
            "train_seconds": 61.6,
            "train_clips_per_second": 540.4,
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
        {"name": "accuracy", "outcome": "passed", "observed": "91.23\u00a0%", "expected": "at least 50.00\u00a0%"},
        {"name": "accuracy at 10 dB", "outcome": "not measured", "observed": "no noise", "expected": "at least one"},
        {
            "name": "largest drop in recall",
            "outcome": "failed",
            "observed": "20.00 points, of 'no|`yes'",
            "expected": "none",
        },
    ],
}
STAND_IN = """
import json, os, pathlib, signal, sys

OUTPUTS = {"ingest": "data/raw", "validate": "data/accepted", "extract": "data/features"}
METRICS = pathlib.Path("reports/metrics.json")

def main():
    stage = "@".join(word for word in sys.argv[1:] if sys.argv[1] == "train" or word == sys.argv[1])
    with open("calls.txt", "a") as calls:
        print(stage, os.environ["EARMARK_FLOW_RUN_ID"], file=calls)
    print(f"{stage} at work")
    if stage == "validate":
        pathlib.Path("reports/validation").mkdir(parents=True, exist_ok=True)
        pathlib.Path("reports/validation/result.json").write_text(pathlib.Path("validation.txt").read_text())
    for fault in json.loads(os.environ.get("STAND_IN_FAULTS", "[]")):
        if fault["stage"] == stage and not os.path.exists(fault.get("unless", "no such file")):
            pathlib.Path("faulty.partial").write_text(str(os.getpid()))
            os.replace("faulty.partial", "faulty")
            fail(fault["exit_code"])
    if stage in ("fetch", "publish"):
        print(*sys.argv[2:])
    elif stage == "register":
        print("─ a table ─\\n\\nregistered tc_resnet")
        pathlib.Path("verdict.txt").exists() and os.replace("verdict.txt", "reports/verdict.json")
    else:
        write(METRICS if stage == "evaluate" else pathlib.Path(OUTPUTS.get(stage) or f"models/{sys.argv[2]}"), stage)

def fail(exit_code):
    if exit_code is None:
        signal.pause()
    if exit_code < 0:
        os.kill(os.getpid(), -exit_code)
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

    def retrain(self, faults: tuple[dict, ...] = (), command: tuple[str, ...] = RETRAIN) -> CompletedProcess:
        (self.root / "calls.txt").unlink(missing_ok=True)
        options = {"cwd": self.root, "env": self.environment(faults), "capture_output": True, "text": True}
        return subprocess.run([sys.executable, *command], timeout=SECONDS, **options)

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
        return {artifact["key"]: artifact["data"] for artifact in self.server.artifacts(self.run_id)}

    def _final_task_runs(self) -> list[dict]:
        return [run for run in self.server.task_runs(self.run_id) if run["state_type"] in ("COMPLETED", "FAILED")]

    def _noted(self) -> list[str]:
        return (self.root / "calls.txt").read_text().splitlines()


def new_project(root: Path, server: PrefectServer) -> Project:
    """A project in the folder `root`, in which nothing has run yet."""
    project = Project(root, server)
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
    project.set("train", "candidates", candidates("seed_cnn", "tc_resnet"))
    for command in (["git", "init", "-q"], [BIN / "dvc", "init", "-q"]):
        subprocess.run(command, cwd=project.root, check=True)
    return project
