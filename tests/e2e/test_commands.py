"""Every command as a process of its own: its start, its streams, its exit code."""

import os
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor

import click
import pytest
from conftest import BIN, ROOT

from earmark.cli import SECTIONS, main
from earmark.io.run_lock import RUN, only_run
from earmark.paths import RUN as RUN_FILE

ARGUMENTS = {
    "train": ["tc_resnet"],
    "tune": ["tc_resnet"],
    "cat": ["yes/0000_nohash_0.wav"],
    "unpack": ["recordings"],
    "forget": ["--speaker", "0000"],
    "lineage": ["1"],
    "reproduce": ["1"],
    "predict": ["recording.wav"],
    "export": ["1", "exported", "--format", "onnx"],
    "listen": ["recording.wav"],
    "registry show": ["1"],
    "registry promote": ["1", "--why", "a test"],
    "registry rollback": ["--why", "a test"],
}


def commands(group: click.Group = main, before: str = "") -> list[str]:
    """All of them, by their names on the command line."""
    names = []
    for name, command in group.commands.items():
        inner = isinstance(command, click.Group)
        names += commands(command, f"{before}{name} ") if inner else [before + name]
    return names


WRITING = (*SECTIONS["Pipeline"], "forget", "upload", *SECTIONS["Team"])


@pytest.mark.parametrize("name", WRITING)
def test_a_command_that_writes_is_refused_beside_another_one(tmp_path, earmark, name):
    shutil.copy(ROOT / "params.yaml", tmp_path)
    with only_run(tmp_path / RUN_FILE, "earmark ingest"):
        done = earmark(tmp_path, name, *ARGUMENTS.get(name, []), **{RUN: ""})
    assert done.returncode == 2
    assert done.stderr.startswith(f"earmark: 'earmark ingest' (process {os.getpid()}) has been running since ")


@pytest.fixture(scope="module")
def ended(tmp_path_factory) -> dict[str, subprocess.CompletedProcess]:
    """How each ends in an empty folder."""
    folder = tmp_path_factory.mktemp("empty")
    environment = {key: value for key, value in os.environ.items() if key != "MLFLOW_TRACKING_URI"}

    def run(name: str) -> subprocess.CompletedProcess:
        line = [BIN / "earmark", *name.split(), *ARGUMENTS.get(name, [])]
        return subprocess.run(line, cwd=folder, env=environment, capture_output=True, text=True, timeout=120)

    with ThreadPoolExecutor(2) as pool:
        return dict(zip(commands(), pool.map(run, commands()), strict=True))


@pytest.mark.parametrize("name", commands())
def test_a_command_that_finds_nothing_says_so_in_one_line_with_exit_code_2(ended, name):
    done = ended[name]
    assert (done.returncode, done.stdout) == (2, ""), done.stderr
    assert done.stderr.startswith("earmark: ")
    assert done.stderr.count("\n") == 1
