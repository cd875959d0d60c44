"""`dvc repro` and bin/earmark where no environment is activated, wherever the checkout lies."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import BIN, checkout
from support.growing import RECORDINGS, fill

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


def launched(folder: Path, launcher: Path, **environment: str) -> subprocess.CompletedProcess:
    command, environment = [launcher, "--version"], NOTHING_ACTIVATED | environment
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=60)


@pytest.mark.parametrize(("folder", "target"), [("src", "../dvc.yaml:ingest"), ("data", "--all-pipelines")])
def test_dvc_runs_stages_from_any_folder_of_the_checkout(project, folder, target):
    (project / folder).mkdir(exist_ok=True)
    command = [BIN / "dvc", "repro", target]
    done = subprocess.run(command, cwd=project / folder, env=NOTHING_ACTIVATED, capture_output=True, text=True)
    # Of so few recordings validation refuses to go on.
    assert done.returncode == 0 or "failed to run: bin/earmark validate" in done.stderr, done.stdout + done.stderr
    assert f"{len(RECORDINGS)} new clips" in done.stdout


def test_the_launcher_finds_the_environment_of_its_checkout_also_from_a_copy_within_it(project):
    copy = project / ".dvc/tmp/exps/copy/bin/earmark"
    copy.parent.mkdir(parents=True)
    copy.write_bytes((project / "bin/earmark").read_bytes())
    copy.chmod(0o755)
    for launcher in (project / "bin/earmark", copy):
        done = launched(project.parent, launcher)
        assert done.returncode == 0, done.stderr
        assert "version" in done.stdout


def test_the_launcher_is_not_led_elsewhere(project, tmp_path):
    """By CDPATH, by a link to it, or by an environment in a folder around the checkout."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/earmark").symlink_to(project / "bin/earmark")
    assert launched(project, Path("bin/earmark"), CDPATH=str(tmp_path)).returncode == 0
    assert launched(tmp_path, tmp_path / "bin/earmark").returncode == 0
    (project / ".venv").rename(tmp_path / ".venv")
    assert launched(project, project / "bin/earmark").returncode == 2
    assert launched(project, project / "bin/earmark", PATH=f"{tmp_path / '.venv/bin'}:/usr/bin:/bin").returncode == 0


def test_an_environment_that_was_moved_with_its_checkout_is_not_used(project, tmp_path):
    (project / ".venv").unlink()
    (project / ".venv/bin").mkdir(parents=True)
    (project / ".venv/bin/earmark").touch()
    (project / ".venv/.made").write_text("/where/it/was/.venv")
    done = launched(project, project / "bin/earmark")
    assert done.returncode == 2
    assert "was made at another place; 'make setup' makes it again" in done.stderr


def test_the_launcher_does_not_look_for_itself(project, tmp_path):
    (project / ".venv").unlink()
    shutil.copytree(project / "bin", tmp_path / "other/bin")
    for path in ("", f"{project / 'bin'}:", f"{project / 'bin'}:{tmp_path / 'other/bin'}:"):
        done = launched(project, project / "bin/earmark", PATH=f"{path}/usr/bin:/bin")
        assert done.returncode == 2
        assert done.stderr == (
            f"earmark: there is no .venv in {project}, and no earmark on the PATH; 'make setup' makes one\n"
        )
