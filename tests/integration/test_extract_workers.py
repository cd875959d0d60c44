"""Extraction by many workers: the same bytes from any number of them, and nothing lost when some of them die."""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import psutil
import pytest
from conftest import BIN, ROOT, candidates, change_params, made_once
from support.growing import NOISE, RECORDINGS, fill, run_ingest, wav
from test_extract import FEATURES, shard_bytes, times

from earmark.dataset import shards


@pytest.fixture(scope="session")
def sharded(tmp_path_factory) -> Path:
    """A project with eight raw shards of some three hundred short recordings each, and beside it the bytes of their
    features as one worker makes them; no test changes it."""

    def make(folder: Path) -> None:
        fill(folder / "recordings", {f"yes/{n:04x}_nohash_0.wav": wav(5000 + n, 0.1) for n in range(2400)})
        fill(folder / "recordings", RECORDINGS | NOISE)
        project = folder / "project"
        project.mkdir()
        shutil.copy2(ROOT / "params.yaml", project)
        change_params(project, {"dataset": {"source": "../recordings"}})
        with contextlib.chdir(project), pytest.MonkeyPatch.context() as patch:
            patch.setattr(shards.ShardWriter.__init__, "__defaults__", (1_250_000,))
            run_ingest()
            assert len(list(Path("data/raw").glob("*.tar"))) == 8
            finished(start(EARMARK_WORKERS="1"))
            FEATURES.rename("../features")

    return made_once(tmp_path_factory, "sharded", make)


@pytest.fixture
def eight_shards(sharded, tmp_path, monkeypatch) -> dict[str, bytes]:
    """The features that the eight shards of a new project must get, with the project as the working folder."""
    monkeypatch.chdir(shutil.copytree(sharded / "project", tmp_path / "project"))
    return shard_bytes(sharded / "features")


def start(command: Sequence = (BIN / "earmark", "extract"), **environment: str) -> subprocess.Popen:
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(command, env=os.environ | environment, start_new_session=True, **pipes)


def finished(process: subprocess.Popen) -> str:
    output, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    return output


def when_a_shard_is_there(process: subprocess.Popen) -> None:
    """Waits until the first shard has been written, or the process has ended."""
    while process.poll() is None and not list(FEATURES.glob("*/shard-*")):
        time.sleep(0.005)


def descendants(process: subprocess.Popen) -> list[psutil.Process]:
    return psutil.Process(process.pid).children(recursive=True)


def workers(process: subprocess.Popen) -> list[psutil.Process]:
    """The processes that a process of this one has started: it is the server that forks workers."""
    return [child for child in descendants(process) if child.ppid() != process.pid]


def test_the_bytes_are_the_same_from_any_number_of_workers(eight_shards):
    assert "8 of 8 shards were new" in finished(start(EARMARK_WORKERS="3"))
    assert shard_bytes() == eight_shards


def test_a_killed_run_leaves_no_worker_behind_and_the_next_goes_on(eight_shards):
    process = start(EARMARK_WORKERS="2")
    when_a_shard_is_there(process)
    left_behind = descendants(process)
    process.kill()
    process.communicate()
    assert process.returncode == -9
    assert left_behind
    assert not psutil.wait_procs(left_behind, timeout=30)[1]
    times_before = times()
    assert times_before
    finished(start())
    assert shard_bytes() == eight_shards
    assert times_before.items() <= times().items()
    assert not list(FEATURES.glob("*/.*"))


def test_a_killed_worker_is_said_and_the_next_run_goes_on(eight_shards):
    process = start(EARMARK_WORKERS="2")
    when_a_shard_is_there(process)
    workers(process)[0].kill()
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 2
    assert "workers were killed" in errors
    assert "Traceback" not in errors
    finished(start())
    assert shard_bytes() == eight_shards


def test_ctrl_c_ends_it_without_a_word_from_its_workers(eight_shards):
    process = start(EARMARK_WORKERS="2")
    when_a_shard_is_there(process)
    os.killpg(process.pid, signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode != 0
    assert "ForkServerProcess" not in errors


def test_two_at_once_take_turns(eight_shards):
    both = [start((BIN / "earmark", "extract", "--wait")) for _ in range(2)]
    outputs = [finished(process) for process in both]
    assert sorted("0 of 8 shards were new" in output for output in outputs) == [False, True]


@pytest.mark.parametrize("workers", ["0", "-1", "many", "1.5", "99999"])
def test_a_bad_count_of_workers_is_a_sentence(eight_shards, earmark, workers):
    done = earmark(Path(), "extract", EARMARK_WORKERS=workers)
    assert done.returncode == 2
    assert f"EARMARK_WORKERS is {workers!r}; expected a whole number from 1 to 1024" in done.stderr


def test_extraction_does_not_import_tensorflow(eight_shards):
    change_params(Path(), {"train": {"candidates": candidates("tc_resnet")}})
    script = (
        "import sys\n"
        "from earmark import params\n"
        "from earmark.stages.extract import extract\n"
        "if __name__ == '__main__':\n"
        "    extract(params.load())\n"
        "    print(*{'tensorflow', 'keras', 'mlflow', 'distributed'} & sys.modules.keys())\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert (done.returncode, done.stdout.strip()) == (0, ""), done.stderr
