"""`earmark reproduce`: a version is made again for real, of code that git does not know, and what differs is named."""

import contextlib
import hashlib
import json
import os
import re
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from conftest import BIN, SMALL, checkout
from mlflow import MlflowClient

from earmark.params import yaml
from earmark.reproduce import metric_differences
from earmark.stores import provenance
from earmark.stores.objects import objects

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
    "candidates": ["tiny", "tinier"],
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


@pytest.fixture(scope="module")
def project(tmp_path_factory, run) -> Path:
    """A checkout with a version of a candidate whose module git does not know; the worse one beside it has another
    front end, so that it has features too."""
    folder = checkout(tmp_path_factory.mktemp("reproduce") / "project", SMALL | {"train": SMALL["train"] | SETTINGS})
    for name, front_end in FRONT_ENDS.items():
        module = folder / f"src/earmark/learning/candidates/{name}.py"
        module.write_text(CANDIDATE.format(name=name, front_end=front_end))
    for command in (["dvc", "repro"], ["earmark", "register"]):
        done = run(folder, *command, PYTHONPATH=str(folder / "src"))
        assert done.returncode == 0, done.stdout + done.stderr
    assert "registered tiny as earmark version 1" in done.stdout
    return folder


@pytest.fixture
def here(project, tmp_path, monkeypatch) -> Path:
    """The checkout as the working directory, where temporary folders are made in tmp_path/temporary."""
    (tmp_path / "temporary").mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "temporary"))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.chdir(project)
    return project


def contents(folder: Path) -> dict[str, tuple[int, int]]:
    """Size and time of change of every file, but for Python's own and what DVC's locks leave."""
    files = (path for path in folder.rglob("*") if path.is_file() and not {"__pycache__", "tmp"} & {*path.parts})
    return {str(path.relative_to(folder)): (path.stat().st_size, path.stat().st_mtime_ns) for path in files}


def reproduce(run, folder: Path, **environment: str) -> subprocess.CompletedProcess:
    return run(folder, "earmark", "reproduce", "1", PYTHONPATH=str(folder / "src"), **environment)


def test_a_version_is_made_again_bit_for_bit_and_nothing_here_changes(here, run, tmp_path):
    before = contents(here)
    done = reproduce(run, here)
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.match(r"identical: earmark version 1 \(\w+\), tiny: accepted clips, features, weights and ", done.stdout)
    assert "train: tinier" not in done.stderr
    assert contents(here) == before
    assert not list((tmp_path / "temporary").iterdir())


def test_other_parameters_are_found_out_in_clips_features_and_weights(here, run):
    def others(text: str) -> str:
        params = yaml.loaded(text)
        params["dataset"]["unknown_labels"] = ["yes"]
        params["features"]["log_mel"]["bands"] = 39
        return yaml.dumped(params | {"seed": 2})

    with registered_with(here, "params.yaml", others):
        done = reproduce(run, here)
    assert done.returncode == 1, done.stdout + done.stderr
    lines = done.stdout.splitlines()
    assert re.fullmatch(r"differs: earmark version 1 \(\w+\), tiny", lines[0])
    assert re.fullmatch(r"  data/accepted.parquet: \w{32} -> \w{32}", lines[1])
    assert re.fullmatch(r"  data/features: \w{32}.dir -> \w{32}.dir, first in log_mel/.+", lines[2])
    assert re.fullmatch(r"  models/tiny: \w{64} -> \w{64}, first in .+", lines[3])


@pytest.mark.parametrize("name", ["params.yaml", "dvc.lock", "metrics.json", "code.patch"])
def test_a_file_that_is_not_the_one_that_was_registered_is_refused_before_anything_runs(here, run, tmp_path, name):
    with changed(artifact(here, name), lambda text: text + "\n"):
        done = reproduce(run, here)
    assert done.returncode == 2
    assert f"provenance/{name} of its run is not the one that it was registered with" in done.stderr
    assert "reproduce: " not in done.stderr
    assert not list((tmp_path / "temporary").iterdir())


def test_another_figure_is_found_out(here, run):
    def raised(text: str) -> str:
        metrics = json.loads(text)
        metrics["candidates"]["tiny"]["test"]["accuracy"] = 2.0
        return json.dumps(metrics)

    with registered_with(here, "metrics.json", raised):
        done = reproduce(run, here)
    assert done.returncode == 1, done.stdout + done.stderr
    assert re.search(r"^  test.accuracy: 2.0 -> 0\.\d+$", done.stdout, re.MULTILINE)
    assert not re.search("^  (data|models)/", done.stdout, re.MULTILINE)


def test_one_that_is_told_to_end_leaves_nothing(here, tmp_path):
    before = contents(here)
    environment = os.environ | {"PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}", "PYTHONPATH": str(here / "src")}
    command = [BIN / "earmark", "reproduce", "1"]
    with subprocess.Popen(command, cwd=here, env=environment, stderr=subprocess.PIPE, text=True) as process:
        assert any(line.startswith("tiny: epoch 1") for line in process.stderr), "training has begun"
        process.send_signal(signal.SIGTERM)
        process.stderr.read()  # ends when nobody holds the other end any more: no stage goes on
        assert process.wait() == 128 + signal.SIGTERM
    assert not list((tmp_path / "temporary").iterdir())
    assert contents(here) == before


def test_recordings_that_are_nowhere_are_named(here, run, tmp_path):
    manifest = Path("data/raw/manifest.parquet")
    with objects() as dvc:
        cached = Path(".dvc/cache") / provenance.object_path(dvc.md5(manifest))
    cached.rename(tmp_path / "elsewhere")
    try:
        done = reproduce(run, here)
    finally:
        (tmp_path / "elsewhere").rename(cached)
    assert done.returncode == 2
    assert "raw/manifest.parquet cannot be had: " in done.stderr
    assert "Traceback" not in done.stderr
    assert not list((tmp_path / "temporary").iterdir())


def test_figures_are_compared_at_every_depth_but_for_times():
    recorded = {
        "test": {"accuracy": 0.5, "interval": [0.4, 0.6]},
        "parameters": 7,
        "latency_ms_p50": 1.0,
        "train_seconds": 3.0,
        "gone": True,
    }
    found = {
        "test": {"accuracy": 0.5, "interval": [0.4, 0.75]},
        "parameters": 8,
        "latency_ms_p50": 2.0,
        "train_seconds": 4.0,
        "new": None,
    }
    assert metric_differences(recorded, found) == [
        "gone: True -> absent",
        "new: absent -> None",
        "parameters: 7 -> 8",
        "test.interval.1: 0.6 -> 0.75",
    ]
    assert metric_differences(recorded, recorded) == []


def artifact(folder: Path, name: str) -> Path:
    return next((folder / "mlruns").rglob(f"provenance/*/{name}"))


@contextlib.contextmanager
def changed(path: Path, change: Callable[[str], str]) -> Iterator[None]:
    """The file with its text changed, and as it was before at the end."""
    text = path.read_text()
    path.write_text(change(text))
    assert path.read_text() != text
    try:
        yield
    finally:
        path.write_text(text)


@contextlib.contextmanager
def registered_with(folder: Path, name: str, change: Callable[[str], str]) -> Iterator[None]:
    """As if the version had been registered with another text of the file `name`."""
    client, tag = MlflowClient(f"sqlite:///{folder}/mlflow.db"), f"sha256.{name}"
    before = client.get_model_version("earmark", "1").tags[tag]
    with changed(artifact(folder, name), change):
        now = hashlib.sha256(artifact(folder, name).read_bytes()).hexdigest()
        client.set_model_version_tag("earmark", "1", tag, now)
        try:
            yield
        finally:
            client.set_model_version_tag("earmark", "1", tag, before)
