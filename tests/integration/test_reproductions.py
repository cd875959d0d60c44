"""`earmark reproduce` on a version whose stages take no time: what differs, what is refused, what is left."""

import hashlib
import os
import re
import signal
import subprocess
from pathlib import Path

import pytest
from conftest import BIN, copied
from support.small_version import artifact, recorded_otherwise, registry, run_id, small_version

from earmark.commands.reproduce import metric_differences
from earmark.params import yaml
from earmark.provenance import environment
from earmark.versioning import dvc_cache


@pytest.fixture
def project(tmp_path_factory, run, tmp_path, monkeypatch) -> Path:
    """A copy of the checkout as the working directory, where temporary folders are made in tmp_path/temporary."""
    folder = copied(small_version(tmp_path_factory, run), tmp_path / "project")
    (tmp_path / "temporary").mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "temporary"))
    for name in ("MLFLOW_TRACKING_URI", "EARMARK_FLOW_RUN_ID", "OTHER", "HANGS", "FAILS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(folder)
    return folder


def contents(folder: Path) -> dict[str, tuple[int, int]]:
    """Size and time of change of every file, but for Python's own and what DVC's locks leave."""
    files = (path for path in folder.rglob("*") if path.is_file() and not {"__pycache__", "tmp"} & {*path.parts})
    return {str(path.relative_to(folder)): (path.stat().st_size, path.stat().st_mtime_ns) for path in files}


def test_what_comes_out_otherwise_is_named_with_what_may_be_the_reason(project, run, tmp_path):
    registry(project).set_tag(run_id(project), "sha256.requirements.lock", "f" * 64)
    before = contents(project)
    done = run(project, "earmark", "reproduce", "1", KERAS_BACKEND="tensorflow", OTHER="25")
    assert done.returncode == 1, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    registered = hashlib.sha256(environment.LOCK.read_bytes()).hexdigest()
    patterns = (
        r"differs: earmark version 1 \(champion\), tc_resnet",
        r"  data/accepted.parquet: \w{32} -> \w{32}",
        r"  data/features: \w{32}.dir -> \w{32}.dir, first in a\.npy",
        r"  models/tc_resnet: \w{64} -> \w{64}, first in model\.keras",
        r"  test.accuracy: 0\.5 -> 0\.525",
        r"possible reasons:",
        f"  requirements.lock at training: SHA-256 {'f' * 64}; at registration: {registered}",
        r"  the backend differs: nothing -> tensorflow [\d.]+ on .+",
    )
    lines = done.stdout.splitlines()
    assert len(lines) == len(patterns)
    for line, pattern in zip(lines, patterns, strict=True):
        assert re.fullmatch(pattern, line)
    assert "train tc_resnet begins" in done.stderr
    assert "train other begins" not in done.stderr
    assert contents(project) == before
    assert not list((tmp_path / "temporary").iterdir())


def test_a_stage_that_fails_is_named_with_a_backend_that_does_not_start(project, run, tmp_path):
    done = run(project, "earmark", "reproduce", "1", KERAS_BACKEND="jaxx", FAILS="validate")
    assert done.returncode == 1, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    differences, _, reasons = done.stdout.partition("possible reasons:\n")
    assert re.search("^  the stage validate failed with exit code [1-9]", differences, re.MULTILINE)
    assert re.fullmatch("  the backend differs: nothing -> none, because .+\n", reasons)
    assert not list((tmp_path / "temporary").iterdir())


def test_one_that_is_told_to_end_leaves_nothing(project, tmp_path):
    before = contents(project)
    environment = os.environ | {"PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}", "HANGS": "validate"}
    command = [BIN / "earmark", "reproduce", "1"]
    with subprocess.Popen(command, cwd=project, env=environment, stderr=subprocess.PIPE, text=True) as process:
        assert any(line == "validate  begins\n" for line in process.stderr)
        process.send_signal(signal.SIGTERM)
        process.stderr.read()  # ends when nobody holds the other end any more: no stage goes on
        assert process.wait() == 128 + signal.SIGTERM
    assert not list((tmp_path / "temporary").iterdir())
    assert contents(project) == before


@pytest.mark.parametrize("name", ["params.yaml", "dvc.lock", "metrics.json", "code.patch", "record.json"])
def test_a_file_that_is_not_the_one_that_was_registered_is_refused_before_anything_runs(
    project, earmark, tmp_path, name
):
    artifact(name).write_text(artifact(name).read_text() + "\n")
    done = earmark(project, "reproduce", "1")
    assert done.returncode == 2
    assert f"provenance/{name} of its run was changed after registration" in done.stderr
    assert "reproduce: " not in done.stderr
    assert not list((tmp_path / "temporary").iterdir())


def register_with(params: str, project: Path) -> None:
    """As if the version had been registered with the params.yaml `params`."""
    artifact("params.yaml").write_text(params)
    sha256 = hashlib.sha256(params.encode()).hexdigest()
    recorded_otherwise(project, {"sha256.params.yaml": sha256})


def test_a_version_from_when_candidates_were_a_list_is_made_again(project, run):
    content = yaml.load(artifact("params.yaml").read_text())
    names = list(content["train"]["candidates"])
    register_with(yaml.dump(content | {"train": {"candidates": names}}), project)
    done = run(project, "earmark", "reproduce", "1")
    assert done.returncode == 0, done.stdout + done.stderr


def test_parameters_that_cannot_be_read_are_refused(project, earmark):
    register_with("train: [\n", project)
    done = earmark(project, "reproduce", "1")
    assert done.returncode == 2, done.stdout + done.stderr
    assert "the version's params.yaml cannot be read" in done.stderr


def test_recordings_that_are_nowhere_are_named(project, earmark, tmp_path):
    md5 = subprocess.run(["md5sum", "data/raw/manifest.parquet"], check=True, capture_output=True, text=True).stdout[
        :32
    ]
    for folder in (Path(".dvc/cache"), Path("storage")):
        (folder / dvc_cache.object_path(md5)).unlink()
    done = earmark(project, "reproduce", "1")
    assert done.returncode == 2
    assert "raw/manifest.parquet cannot be restored: " in done.stderr
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
    new = {
        "test": {"accuracy": 0.5, "interval": [0.4, 0.75]},
        "parameters": 8,
        "latency_ms_p50": 2.0,
        "train_seconds": 4.0,
        "new": None,
    }
    assert metric_differences(recorded, new) == [
        "gone: True -> absent",
        "new: absent -> None",
        "parameters: 7 -> 8",
        "test.interval.1: 0.6 -> 0.75",
    ]
    assert metric_differences(recorded, recorded) == []
