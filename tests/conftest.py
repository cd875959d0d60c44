"""What several tests stand on: a fresh checkout of this tree, and a way to run commands in it."""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import hypothesis
import pytest
from click.testing import CliRunner
from filelock import FileLock
from support.shipped import ROOT, candidates

from earmark.params import yaml

THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS")
if "PYTEST_XDIST_WORKER" in os.environ:
    # Workers share the cores; a library that takes them all for itself makes the others wait.
    for name in THREADS:
        os.environ.setdefault(name, "1")

# No test depends on how fast the machine is.
hypothesis.settings.register_profile("earmark", deadline=None)
hypothesis.settings.load_profile("earmark")

BIN = Path(sys.executable).parent
EXCERPT = ROOT.parent / "shared/data/speech_commands_v0.01_excerpt.tar.gz"
"""Real recordings, which the project does not ship; a test that wants them is skipped where they are not."""
EXTRACTED_EPOCHS = 8
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
# A network that takes seconds to train on eight speakers, until it tells most words apart.
FAST_TC_RESNET = {
    "epochs": 30,
    "batch_size": 15,
    "optimizer": {"name": "adamw", "learning_rate": 0.004, "decay": "cosine"},
    "augmentation": {"shift_ms": 100.0, "speed_percent": 10.0},
    "network": {"channels": [16, 24, 32, 48], "blocks_per_stage": 1, "kernel_size": 9, "dropout": 0.1},
}
REGISTERED = {
    "dataset": {"speakers": 8},
    "train": {"candidates": {"tc_resnet": FAST_TC_RESNET}},
    "register": {"gate": OPEN_GATE},
}


# Two epochs of the fast candidate on six speakers: the whole pipeline in seconds.
SMALL = {
    "dataset": {"speakers": 6},
    "train": {"candidates": candidates("tc_resnet"), "epochs": 2},
    "register": {"gate": OPEN_GATE},
}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Puts the files in an order in which the workers wait least for each other.

    One worker makes the project that most tests copy while the other begins with files that do without it; the many
    short files come last, so that both end together.
    """
    files: dict[Path, list[pytest.Item]] = {}
    for item in items:
        files.setdefault(item.path, []).append(item)
    copying = [path for path, tests in files.items() if any("registered" in test.fixturenames for test in tests)]

    def rank(path: Path) -> int:
        if copying and path == copying[0]:
            return 0
        return 3 if path.is_relative_to(ROOT / "tests/unit") else 2 if path in copying else 1

    items[:] = [item for path in sorted(files, key=rank) for item in files[path]]


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
    params = yaml.load(path.read_text(encoding="utf-8"))
    for section, values in changes.items():
        if isinstance(values, dict):
            params[section].update(values)
        else:
            params[section] = values
    path.write_text(yaml.dump(params), encoding="utf-8")


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
def earmark() -> Callable[..., subprocess.CompletedProcess]:
    """Runs the command `earmark` in this process, in a folder, with the folder's own mlflow.db: as `run` without the
    seconds that a start costs. What it changes in the environment is undone."""

    def call(folder: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess:
        from earmark import cli

        _forget_other_checkouts()
        with _restored_environment(), contextlib.chdir(folder):
            os.environ.update({"MLFLOW_TRACKING_URI": f"sqlite:///{Path(folder).resolve()}/mlflow.db"} | environment)
            done = CliRunner().invoke(cli.main, [str(argument) for argument in arguments], prog_name="earmark")
        if done.exception and not isinstance(done.exception, SystemExit):
            raise done.exception
        return subprocess.CompletedProcess(["earmark", *arguments], done.exit_code, done.stdout, done.stderr)

    return call


def _forget_other_checkouts() -> None:
    """What this process keeps of the command before, which may have run in another checkout."""
    # A layer's name counts those before it in the process, and stands in the saved model.
    if "keras" in sys.modules:
        sys.modules["keras"].utils.clear_session(free_memory=False)  # whose collection takes half a second
    # MLflow keeps where a run's artifacts are.
    if "mlflow.tracking._tracking_service.utils" in sys.modules:
        sys.modules["mlflow.tracking._tracking_service.utils"]._artifact_repos_cache.clear()


@contextlib.contextmanager
def _restored_environment() -> Iterator[None]:
    before = dict(os.environ)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def made_once(tmp_path_factory, name: str, make: Callable[[Path], object]) -> Path:
    """The folder `name`, filled by `make` in whichever of pytest's workers comes first; no test changes it."""
    root = tmp_path_factory.getbasetemp()
    root = root.parent if "PYTEST_XDIST_WORKER" in os.environ else root
    folder = root / name
    with FileLock(root / f"{name}.lock"):
        if not (root / f"{name}.made").exists():
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            make(folder)
            (root / f"{name}.made").touch()
    return folder


def copied(project: Path, folder: Path) -> Path:
    """A copy of a project as `folder`, whose registry finds its artifacts in the copy."""
    from earmark.tracking.local_store import follow_moved_checkout

    shutil.copytree(project, folder, symlinks=True)
    follow_moved_checkout(folder / "mlflow.db")
    return folder


@pytest.fixture(scope="session")
def registered(tmp_path_factory, run) -> Path:
    """A checkout in which `dvc repro` and `earmark register` have run once; tests change copies of it (`copied`)."""

    def make(folder: Path) -> None:
        checkout(folder, REGISTERED)
        for command in (["dvc", "repro"], ["earmark", "register"]):
            done = run(folder, *command)
            assert done.returncode == 0, done.stdout + done.stderr
        assert "registered tc_resnet as earmark version 1, champion" in done.stdout

    return made_once(tmp_path_factory, "registered", make)


@pytest.fixture(scope="session")
def extracted(tmp_path_factory, registered) -> Path:
    """The same before any training, with the settings of training that params.yaml has; no test changes it."""

    def make(folder: Path) -> None:
        names = (
            "models/tc_resnet",
            "dvc.lock",
            "mlflow.db",
            "mlruns",
            "logs",
            "reports/training",
            "reports/metrics.json",
        )
        shutil.copytree(registered, folder, symlinks=True, dirs_exist_ok=True)
        for name in names:
            path = folder / name
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        shutil.copy2(ROOT / "params.yaml", folder)
        train = {"candidates": candidates("tc_resnet"), "epochs": EXTRACTED_EPOCHS}
        change_params(folder, {"dataset": REGISTERED["dataset"], "train": train})

    return made_once(tmp_path_factory, "extracted", make)


@pytest.fixture
def project(extracted, tmp_path) -> Path:
    """A copy of `extracted` for one test."""
    return copied(extracted, tmp_path / "project")
