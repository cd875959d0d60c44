"""`dvc repro` and bin/earmark where no environment is activated, wherever the checkout lies."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import BIN, checkout
from growing import RECORDINGS, fill

NOTHING_ACTIVATED = {"PATH": "/usr/bin:/bin", "HOME": os.environ.get("HOME", "/")}


@pytest.fixture
def project(tmp_path) -> Path:
    """A checkout with a space in its path, in a subfolder of another git repository, with this environment as .venv."""
    subprocess.run(["git", "init", "-q", tmp_path], check=True)
    folder = tmp_path / "team tools" / "earmark"
    folder.mkdir(parents=True)
    checkout(folder, {"dataset": {"source": "recordings"}})
    fill(folder / "recordings", RECORDINGS)
    (folder / ".venv").symlink_to(sys.prefix)
    return folder


def launched(folder: Path, launcher: Path) -> subprocess.CompletedProcess:
    command = [launcher, "--version"]
    return subprocess.run(command, cwd=folder, env=NOTHING_ACTIVATED, capture_output=True, text=True)


def test_dvc_runs_a_stage_from_any_folder_of_the_checkout(project):
    command = [BIN / "dvc", "repro", "../dvc.yaml:ingest"]
    done = subprocess.run(command, cwd=project / "src", env=NOTHING_ACTIVATED, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{len(RECORDINGS)} new clips" in done.stdout


def test_the_launcher_finds_the_environment_of_its_checkout_also_from_a_copy_within_it(project):
    copy = project / ".dvc/tmp/exps/copy/bin/earmark"
    copy.parent.mkdir(parents=True)
    copy.write_bytes((project / "bin/earmark").read_bytes())
    copy.chmod(0o755)
    for launcher in (project / "bin/earmark", copy):
        done = launched(project.parent, launcher)
        assert done.returncode == 0 and "version" in done.stdout, done.stderr


def test_without_an_environment_it_says_what_makes_one(project):
    (project / ".venv").unlink()
    done = launched(project, project / "bin/earmark")
    assert done.returncode == 2
    assert done.stderr == "earmark: there is no .venv here, and no earmark on the PATH; 'make setup' makes one\n"
