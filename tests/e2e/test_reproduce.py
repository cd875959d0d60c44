"""`earmark reproduce`: a version is made again for real, bit for bit.

With stages that take no time it is in test_reproductions.
"""

import contextlib
import hashlib
import json
import os
import re
import signal
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from conftest import BIN, change_params, copied
from mlflow import MlflowClient

from earmark.params import yaml

CANDIDATE = '''"""A small network that no commit has."""

FRONT_END = "{front_end}"


def build(input_shape: tuple[int, int], labels: int, *, units: int):
    from keras import Sequential, layers

    pooled = [layers.GlobalAveragePooling1D(), layers.BatchNormalization(momentum=0.5)]
    dense = [layers.Dense(units, activation="relu"), layers.Dense(labels, activation="softmax")]
    return Sequential([layers.Input(input_shape), *pooled, *dense], name="{name}")
'''
FRONT_ENDS = {"tiny": "log_mel", "tinier": "spectrogram"}
SETTINGS = {
    "tiny": {
        "epochs": 16,
        "batch_size": 16,
        "optimizer": {"name": "adamw", "learning_rate": 0.01},
        "network": {"units": 64},
    },
    "tinier": {
        "epochs": 1,
        "batch_size": 16,
        "optimizer": {"name": "sgd", "learning_rate": 1e-6},
        "network": {"units": 1},
    },
}


STAGES = """
import subprocess, sys
from earmark import cli

for command in (["extract"], ["train", "tiny"], ["train", "tinier"], ["evaluate"]):
    cli.main(command, standalone_mode=False)
subprocess.run([sys.argv[1], "commit", "--quiet", "--force"], check=True)
cli.main(["register"])
"""
"""As `dvc repro` and `earmark register`, with one start of Python for all."""


@pytest.fixture(scope="module")
def project(tmp_path_factory, run, registered) -> Path:
    """A checkout with a version of a candidate whose module git does not know; the worse one beside it has another
    front end, so that it has features too."""
    folder = copied(registered, tmp_path_factory.mktemp("reproduce") / "project")
    change_params(folder, {"train": {"candidates": SETTINGS}, "register": {"name": "again"}})
    for name, front_end in FRONT_ENDS.items():
        module = folder / f"src/earmark/models/candidates/{name}.py"
        module.write_text(CANDIDATE.format(name=name, front_end=front_end))
    done = run(folder, "python", "-c", STAGES, str(BIN / "dvc"), PYTHONPATH=str(folder / "src"))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "registered tiny as again version 1" in done.stdout
    return folder


@pytest.fixture
def temporary(monkeypatch) -> Iterator[Path]:
    """Where temporary folders are made: a short path, since processes meet at sockets in it, whose names are short."""
    with tempfile.TemporaryDirectory() as folder:
        monkeypatch.setenv("TMPDIR", folder)
        monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
        yield Path(folder)


@pytest.fixture
def here(project, temporary, monkeypatch) -> Path:
    """The checkout as the working directory."""
    monkeypatch.chdir(project)
    return project


def contents(folder: Path) -> dict[str, tuple[int, int]]:
    """Size and time of change of every file, but for Python's own and what DVC's locks leave."""
    files = (path for path in folder.rglob("*") if path.is_file() and not {"__pycache__", "tmp"} & {*path.parts})
    return {str(path.relative_to(folder)): (path.stat().st_size, path.stat().st_mtime_ns) for path in files}


def reproduce(run, folder: Path) -> subprocess.CompletedProcess:
    return run(folder, "earmark", "reproduce", "1", PYTHONPATH=str(folder / "src"))


def test_a_version_is_made_again_bit_for_bit_and_nothing_here_changes(registered, run, tmp_path, temporary):
    project = copied(registered, tmp_path / "project")
    before = contents(project)
    done = reproduce(run, project)
    assert done.returncode == 0, done.stdout + done.stderr
    same = "accepted clips, features, weights and metrics"
    assert done.stdout == f"identical: earmark version 1 (champion), tc_resnet: {same}\n"
    assert contents(project) == before
    assert not list(temporary.iterdir())


@pytest.mark.slow
def test_code_that_git_does_not_know_makes_the_same_again_without_the_other_candidate(here, run, temporary):
    before = contents(here)
    done = reproduce(run, here)
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.match(r"identical: again version 1 \(\w+\), tiny: accepted clips, features, weights and ", done.stdout)
    assert "train: tinier" not in done.stderr
    assert contents(here) == before
    assert not list(temporary.iterdir())


@pytest.mark.slow
def test_other_parameters_and_another_figure_are_found_out(here, run):
    def others(text: str) -> str:
        params = yaml.load(text)
        params["dataset"]["unknown_labels"] = ["yes"]
        params["features"]["log_mel"]["bands"] = 39
        return yaml.dump(params | {"seed": 2})

    def raised(text: str) -> str:
        metrics = json.loads(text)
        metrics["candidates"]["tiny"]["test"]["accuracy"] = 2.0
        return json.dumps(metrics)

    with registered_with(here, "params.yaml", others), registered_with(here, "metrics.json", raised):
        done = reproduce(run, here)
    assert done.returncode == 1, done.stdout + done.stderr
    lines = done.stdout.splitlines()
    assert re.fullmatch(r"differs: again version 1 \(\w+\), tiny", lines[0])
    assert re.fullmatch(r"  data/accepted.parquet: \w{32} -> \w{32}", lines[1])
    assert re.fullmatch(r"  data/features: \w{32}.dir -> \w{32}.dir, first in log_mel/.+", lines[2])
    assert re.fullmatch(r"  models/tiny: \w{64} -> \w{64}, first in .+", lines[3])
    assert re.search(r"^  test.accuracy: 2.0 -> 0\.\d+$", done.stdout, re.MULTILINE)


@pytest.mark.slow
def test_one_that_is_told_to_end_in_training_leaves_nothing(here, temporary):
    before = contents(here)
    environment = os.environ | {"PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}", "PYTHONPATH": str(here / "src")}
    command = [BIN / "earmark", "reproduce", "1"]
    with subprocess.Popen(command, cwd=here, env=environment, stderr=subprocess.PIPE, text=True) as process:
        assert any(line.startswith("tiny: 16 epochs") for line in process.stderr), "training has begun"
        process.send_signal(signal.SIGTERM)
        process.stderr.read()  # ends when nobody holds the other end any more: no stage goes on
        assert process.wait() == 128 + signal.SIGTERM
    assert not list(temporary.iterdir())
    assert contents(here) == before


def artifact(folder: Path, name: str) -> Path:
    """A file that was kept with the version; the project that this one is a copy of kept such files too."""
    run_id = MlflowClient(f"sqlite:///{folder}/mlflow.db").get_model_version("again", "1").run_id
    return next((folder / "mlruns").rglob(f"{run_id}/artifacts/provenance/*/{name}"))


@contextlib.contextmanager
def registered_with(folder: Path, name: str, change: Callable[[str], str]) -> Iterator[None]:
    """As if the version had been registered with another text of the file `name`."""
    client, tag, path = MlflowClient(f"sqlite:///{folder}/mlflow.db"), f"sha256.{name}", artifact(folder, name)
    before, text = client.get_model_version("again", "1").tags[tag], path.read_text()
    path.write_text(change(text))
    assert path.read_text() != text
    try:
        client.set_model_version_tag("again", "1", tag, hashlib.sha256(path.read_bytes()).hexdigest())
        yield
    finally:
        path.write_text(text)
        client.set_model_version_tag("again", "1", tag, before)
