"""Ingestions that are killed, that run at once, or that find the disk full."""

import os
import random
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from conftest import BIN
from support.growing import (
    NOISE,
    RECORDINGS,
    contents,
    fill,
    project,
    raw_bytes,
    recordings,
    run_ingest,
    shard_bytes,
    wav,
)

__all__ = ["project", "recordings"]  # fixtures


@pytest.fixture
def many(project, recordings) -> dict[str, bytes]:
    """Some hundred more recordings, so that an ingestion takes a moment."""
    more = {f"{label}/{n:04x}_nohash_0.wav": wav(5000 + n) for n in range(400) for label in (("no", "yes")[n % 2],)}
    fill(recordings, more)
    return RECORDINGS | NOISE | more


def start(project: Path) -> subprocess.Popen:
    return subprocess.Popen(
        [BIN / "earmark", "ingest", "--wait"], cwd=project, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def partial_folders() -> set[Path]:
    """What ingestions, killed ones too, write into before it becomes data/raw."""
    return set(Path("data").glob(".raw.*.partial"))


def started_writing() -> subprocess.Popen:
    """An ingestion that has just begun to write, or had nothing to write any more."""
    left = partial_folders()
    process = start(Path())
    while not partial_folders() - left and process.poll() is None:
        pass
    return process


def writing_seconds() -> float:
    """How long an ingestion that nobody disturbs takes to write."""
    process = started_writing()
    began = time.monotonic()
    assert process.wait() == 0
    return time.monotonic() - began


def is_killed(moment: float) -> bool:
    """Starts an ingestion and kills it so many seconds after it has begun to write; not where it is done by then."""
    process = started_writing()
    with suppress(subprocess.TimeoutExpired):
        process.wait(moment)
    process.kill()
    return process.wait() == -signal.SIGKILL


@pytest.mark.parametrize("kills", [3, pytest.param(20, marks=pytest.mark.slow)])
def test_kill_at_random_moments_then_the_next_run_gives_the_very_bytes(project, many, kills):
    seconds = writing_seconds()
    undisturbed = raw_bytes()
    shutil.rmtree("data")
    shutil.rmtree("downloads")
    moments, killed = random.Random(3), 0
    while killed < kills:
        if is_killed(moments.uniform(0, 0.9) * seconds):
            killed += 1
        else:
            assert raw_bytes() == undisturbed
            shutil.rmtree("data")
    done = start(project)
    assert done.wait() == 0, done.stderr.read()
    assert raw_bytes() == undisturbed
    assert [path.name for path in Path("data").iterdir() if not path.name.endswith(".lock")] == ["raw"]


@pytest.mark.parametrize("kills", [3, pytest.param(20, marks=pytest.mark.slow)])
def test_kill_at_random_moments_of_a_later_ingestion_loses_nothing(project, recordings, many, kills):
    seconds = writing_seconds()
    shutil.copytree("data", "before")
    before = shard_bytes()
    more = {f"yes/late{n:03x}_nohash_0.wav": wav(9000 + n) for n in range(200)}
    fill(recordings, more)
    moments, killed = random.Random(4), 0
    while killed < kills:
        if is_killed(moments.uniform(0, 0.9) * seconds):
            killed += 1
        else:
            shutil.rmtree("data")
            shutil.copytree("before", "data")
    assert start(project).wait() == 0
    assert contents() == many | more
    assert before.items() <= shard_bytes().items()


def test_two_ingestions_at_once_take_turns(project, many):
    both = [start(project), start(project)]
    outputs = [process.communicate()[0] for process in both]
    assert [process.returncode for process in both] == [0, 0]
    assert sorted("nothing new" in output for output in outputs) == [False, True]
    assert contents() == many


def test_a_full_disk_is_said_and_the_previous_state_stays(project, recordings, many, small_disk: Callable):
    run_ingest()
    fill(recordings, {f"yes/big{n}_nohash_0.wav": wav(n, 10.0) for n in range(10)})
    shutil.copytree("data/raw", project / "before")
    done = small_disk(project, "data", "earmark ingest; echo code=$?; diff -r data/raw before && echo same; ls -A data")
    assert "code=2" in done.stdout, done.stdout + done.stderr
    assert "No space left on device" in done.stderr
    assert "Traceback" not in done.stderr
    assert "same" in done.stdout
    assert set(done.stdout.partition("same\n")[2].split()) == {".raw.lock", "raw"}


@pytest.fixture
def small_disk() -> Callable[..., subprocess.CompletedProcess]:
    """Runs a shell command in a folder of which one subfolder is a disk that its content nearly fills."""

    def call(folder: Path, name: str, command: str) -> subprocess.CompletedProcess:
        kilobytes = sum(path.stat().st_size for path in (folder / name).rglob("*") if path.is_file()) // 1024 + 1500
        mount = f"cp -a {name} kept && mount -t tmpfs -o size={kilobytes}k none {name} && cp -a kept/. {name}"
        script = f"{mount} && {{ {command}; }}"
        environment = os.environ | {"PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}"}
        probe = subprocess.run(["unshare", "-Urm", "true"], capture_output=True)
        if probe.returncode:
            pytest.skip("no namespace of one's own for a small disk on this machine")
        return subprocess.run(
            ["unshare", "-Urm", "sh", "-c", script], cwd=folder, env=environment, capture_output=True, text=True
        )

    return call
