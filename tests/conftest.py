"""What several tests stand on: a fresh checkout of this tree, and a way to run commands in it."""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from earmark.params import yaml

ROOT = Path(__file__).parents[1]
BIN = Path(sys.executable).parent
EXCERPT = ROOT.parent / "shared/data/speech_commands_v0.01_excerpt.tar.gz"
"""Real recordings, which the project does not ship; a test that wants them is skipped where they are not."""
EXTRACTED_EPOCHS = 6
OPEN_GATE = {
    "min_accuracy": 0.0,
    "min_accuracy_at_10_db": 0.0,
    "max_label_drop": 1.0,
    "max_saved_bytes": 30_000_000,
    "max_latency_ms_p99": 10_000.0,
    "equal_within": 0.005,
    "min_saving": 0.2,
}
"""A gate without limits, for models that have hardly been trained."""
# Two epochs of the fast candidate on six speakers: the whole pipeline in seconds.
SMALL = {
    "dataset": {"speakers": 6},
    "train": {"candidates": ["tc_resnet"], "epochs": 2},
    "register": {"gate": OPEN_GATE},
}


@pytest.fixture(autouse=True, scope="session")
def _nothing_phones_home():
    for name in ("DO_NOT_TRACK", "MLFLOW_DISABLE_TELEMETRY", "DVC_NO_ANALYTICS"):
        os.environ[name] = "true"


@pytest.fixture(autouse=True, scope="session")
def _ctrl_c_reaches_commands():
    # A suite that was started in the background ignores it, and so would every command that a test interrupts.
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True, scope="session")
def _commands_are_as_silent_as_they_are_alone():
    # JAX, imported by one test, would set a level at which the commands that later tests start show remarks.
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"


def checkout(folder: Path, changes: dict) -> Path:
    """A git repository in `folder` with this tree's files, committed, and params.yaml changed by `changes`."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        check=True,
    )
    for name in filter(None, listed.stdout.decode().split("\0")):
        if (ROOT / name).is_file() and name != "dvc.lock":
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)
    change_params(folder, changes)
    identity = (["config", "user.name", "test"], ["config", "user.email", "test@example.invalid"])
    for command in (["init", "-q"], *identity, ["add", "-A"], ["commit", "-qm", "checkout"]):
        subprocess.run(["git", *command], cwd=folder, check=True)
    return folder


def change_params(folder: Path, changes: dict) -> None:
    """Sets the keys of `changes`, two levels deep, in the checkout's params.yaml."""
    path = folder / "params.yaml"
    params = yaml.loaded(path.read_text(encoding="utf-8"))
    for section, values in changes.items():
        if isinstance(values, dict):
            params[section].update(values)
        else:
            params[section] = values
    path.write_text(yaml.dumped(params), encoding="utf-8")


@pytest.fixture(scope="session")
def run() -> Callable[..., subprocess.CompletedProcess]:
    """Runs a command of the virtual environment in a folder, capturing its output."""

    def call(folder: Path, command: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess:
        path = f"{BIN}{os.pathsep}{os.environ['PATH']}"
        return subprocess.run(
            [BIN / command, *arguments],
            cwd=folder,
            env=os.environ | {"PATH": path} | environment,
            capture_output=True,
            text=True,
            timeout=600,
        )

    return call


@pytest.fixture(scope="session")
def extracted(tmp_path_factory, run) -> Path:
    """A checkout with features of a small embedded data set, which no test changes."""
    changes = {"dataset": {"speakers": 8}, "train": {"candidates": ["tc_resnet"], "epochs": EXTRACTED_EPOCHS}}
    folder = checkout(tmp_path_factory.mktemp("extracted"), changes)
    for stage in ("ingest", "validate", "extract"):
        done = run(folder, "earmark", stage)
        assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture
def project(extracted, tmp_path) -> Path:
    """A copy of `extracted` for one test."""
    shutil.copytree(extracted, tmp_path / "project")
    return tmp_path / "project"
