"""One run at a time in a checkout: what a second one is told, and whose runs are one."""

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from earmark.errors import UserError
from earmark.io.run_lock import RUN, only_run

PROCESS = """
import subprocess, sys
from pathlib import Path
from earmark.io.run_lock import only_run
with only_run(Path(sys.argv[1]), "earmark train slow", wait=True):
    print("holds", flush=True)
    for line in sys.stdin:
        subprocess.run([sys.executable, *sys.orig_argv[1:]], stdin=subprocess.DEVNULL)
"""
"""Holds the lock until its input ends; each line of the input makes it start itself once more."""


@contextmanager
def process(folder: Path) -> Iterator[subprocess.Popen]:
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen([sys.executable, "-c", PROCESS, folder / "run.json"], **pipes) as started:
        try:
            yield started
        finally:
            started.kill()


@pytest.fixture
def holder(tmp_path) -> Iterator[subprocess.Popen]:
    """Another process that holds the lock `run.json` until its input ends."""
    with process(tmp_path) as started:
        assert started.stdout.readline() == "holds\n"
        yield started


def test_a_second_run_is_told_what_runs_and_since_when(holder, tmp_path):
    with pytest.raises(UserError) as error, only_run(tmp_path / "run.json", "earmark ingest"):
        pytest.fail("two runs at once")
    assert str(error.value).startswith(f"'earmark train slow' (process {holder.pid}) has been running since 20")
    assert str(error.value).endswith("; try again when it has ended, or wait with --wait")


def test_what_a_run_starts_belongs_to_it(holder):
    holder.stdin.write("again\n")
    holder.stdin.flush()
    assert holder.stdout.readline() == "holds\n"


def test_a_run_that_waits_says_for_what_and_begins_when_that_has_ended(holder, tmp_path):
    with process(tmp_path) as waiting:
        assert f"waiting: 'earmark train slow' (process {holder.pid}) has been" in waiting.stderr.readline()
        holder.stdin.close()
        assert waiting.stdout.readline() == "holds\n"


def test_a_killed_run_leaves_no_lock(holder, tmp_path):
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    assert (tmp_path / "run.json").exists()
    with only_run(tmp_path / "run.json", "earmark ingest"):
        assert json.loads((tmp_path / "run.json").read_text())["command"] == "earmark ingest"
    assert not (tmp_path / "run.json").exists()


@pytest.mark.parametrize("content", ["", "{", "[]", "7", "{}", '{"token": null}'])
def test_a_record_that_cannot_be_read_is_no_fault(tmp_path, content):
    (tmp_path / "run.json").write_text(content)
    with only_run(tmp_path / "run.json", "earmark ingest"):
        pass


@pytest.mark.parametrize("record", ["{}", '{"pid": 1, "command": "earmark train"}', '{"token": null}'])
def test_a_record_without_a_token_frees_nobody_from_the_lock(tmp_path, monkeypatch, record):
    monkeypatch.delenv(RUN, raising=False)
    (tmp_path / "run.json").write_text(record)
    with only_run(tmp_path / "run.json", "earmark ingest"):
        assert json.loads((tmp_path / "run.json").read_text())["command"] == "earmark ingest"


def test_a_process_of_an_earlier_run_does_not_belong_to_the_next(holder, tmp_path, monkeypatch):
    monkeypatch.setenv(RUN, "of-an-earlier-run")
    with pytest.raises(UserError), only_run(tmp_path / "run.json", "earmark ingest"):
        pytest.fail("two runs at once")


def test_a_lock_that_cannot_be_written_is_a_sentence(tmp_path):
    (tmp_path / "logs").write_text("a file where the folder would be")
    with pytest.raises(UserError, match=r"run.json cannot be written: "), only_run(tmp_path / "logs/run.json", "x"):
        pytest.fail("no lock")
