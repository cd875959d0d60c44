"""What people do with recordings that are there: have them back as files, and have a person's removed."""

import contextlib
import json
import shutil
import sqlite3
import subprocess
from functools import partialmethod
from pathlib import Path

import pytest
from conftest import BIN
from mlflow import MlflowClient
from support.growing import (
    NOISE,
    RECORDINGS,
    contents,
    empty_registry,
    fill,
    forget,
    manifest,
    project,
    raw_bytes,
    recordings,
    run_ingest,
    shard_bytes,
    wav,
)

from earmark.errors import UserError
from earmark.registry import versions
from earmark.tracking import connection

__all__ = ["empty_registry", "forget", "project", "recordings"]  # fixtures


def test_forget_leaves_no_byte_of_a_person_and_touches_nobody_else(project, forget):
    run_ingest()
    zoe = {"yes/zoe_nohash_0.wav": wav(500), "no/zoe_nohash_0.wav": wav(501)}
    fill(project.parent / "inbox", zoe)
    fill(project.parent / "recordings", {"testing_list.txt": b"yes/anouk_nohash_0.wav\nno/anouk_nohash_5.wav\n"})
    run_ingest(inbox="../inbox")
    fill(project / "data/quarantine", {f"{row.sha256}.wav": b"x" for row in manifest().itertuples()})
    fill(project / "data", {".quarantine.killed.partial/a.wav": RECORDINGS["yes/anouk_nohash_0.wav"]})
    before, quarantined = shard_bytes(), len(list(Path("data/quarantine").iterdir()))
    assert forget("anouk").returncode == 0
    forgotten = [content[44:] for name, content in RECORDINGS.items() if "anouk" in name]
    for path in filter(Path.is_file, Path("data").rglob("*")):
        assert not any(samples[:1000] in path.read_bytes() for samples in forgotten), path
        assert b"anouk" not in path.read_bytes(), path
    assert contents() == {name: content for name, content in (RECORDINGS | NOISE).items() if "anouk" not in name} | zoe
    assert len(shard_bytes().items() & before.items()) == 1
    assert len(shard_bytes()) == len(before) == 2
    assert quarantined - len(list(Path("data/quarantine").iterdir())) == 2


def test_reports_in_which_a_person_may_be_named_or_heard_are_gone_and_it_is_said_who_has_copies(project, forget):
    run_ingest()
    fill(project / "reports", dict.fromkeys(("predictions.csv", "registered.html", "report.html", "labels.csv"), b""))
    assert "report.html, which plays the worst mistakes" in forget("anouk").stdout
    assert [path.name for path in Path("reports").iterdir()] == ["labels.csv"]


def test_the_forgotten_are_not_taken_again_and_their_record_does_not_name_them(project, forget):
    run_ingest()
    assert forget("anouk").returncode == 0
    [record] = json.loads(Path("data/raw/forgotten.json").read_text())
    assert record["recordings"] == 2
    assert "anouk" not in json.dumps(record)
    assert "2 that were forgotten are still there" in run_ingest()
    assert not any("anouk" in name for name in manifest().index)
    before = raw_bytes()
    assert "nothing new" in run_ingest()
    assert raw_bytes() == before
    again = forget("anouk")
    assert again.returncode == 2
    assert "no recording of a speaker 'anouk'" in again.stderr


def test_forget_makes_do_without_a_registry(project, run):
    """A process of its own, in a folder that has none yet."""
    run_ingest()
    done = run(project, "earmark", "forget", "--speaker", "ben", MLFLOW_TRACKING_URI="sqlite:///mlflow.db")
    assert (done.returncode, done.stderr) == (0, "")
    assert not any("ben" in name for name in manifest().index)


def test_the_same_recordings_under_another_name_go_too_and_are_named(project, recordings, forget):
    fill(recordings, {"no/twin_nohash_0.wav": RECORDINGS["yes/anouk_nohash_0.wav"]})  # under another label
    fill(recordings, {"yes/aaa_nohash_0.wav": RECORDINGS["yes/ben_nohash_0.wav"]})  # left out, or ben's is
    run_ingest()
    report = forget("anouk").stdout
    assert "the same recordings under other names: no/twin_nohash_0.wav" in report
    assert "they may still be in recordings" in report
    report = forget("ben").stdout
    assert "yes/aaa_nohash_0.wav" in report
    forgotten = [content[44:1044] for name, content in RECORDINGS.items() if "anouk" in name or "ben" in name]
    assert not any(samples in content for samples in forgotten for content in shard_bytes().values())


@pytest.fixture
def registered(empty_registry, tmp_path, monkeypatch) -> Path:
    """The database of a registry with three versions of two models."""
    database = Path(shutil.copy2(empty_registry, tmp_path))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{database}")
    client = connection.client()
    for name in ("earmark", "whistles"):
        client.create_registered_model(name)
    for name, clips in (("earmark", "a"), ("whistles", "b"), ("earmark", "c")):
        client.create_model_version(name, str(tmp_path), tags={"dvc.data/accepted.parquet": clips})
    client.set_registered_model_alias("earmark", "champion", "2")
    return database


def test_every_version_of_whatever_name_is_asked_what_it_was_trained_on(registered, monkeypatch):
    one_a_page = partialmethod(MlflowClient.search_model_versions, max_results=1)
    monkeypatch.setattr(MlflowClient, "search_model_versions", one_a_page)
    assert [(version.title, version.accepted_md5) for version in versions.trained_versions("earmark")] == [
        ("earmark version 1", "a"),
        ("earmark version 2 (champion)", "c"),
        ("whistles version 1", "b"),
    ]


def test_a_registry_that_cannot_tell_its_versions_is_a_sentence(registered):
    with contextlib.closing(sqlite3.connect(registered)) as database:
        database.execute("drop table model_versions")
    with pytest.raises(UserError, match=r"does not answer: .*model_versions"):
        versions.trained_versions("earmark")


class TestFilesBack:
    def test_ls_names_each_recording_and_cat_gives_its_bytes(self, project, earmark):
        run_ingest()
        lines = earmark(Path(), "ls").stdout.splitlines()
        assert {line.split("\t")[0] for line in lines} == set(RECORDINGS | NOISE)
        assert [line.split("\t")[1] for line in lines if line.startswith("yes/cid")] == ["cid"]
        there, unknown = (
            subprocess.run([BIN / "earmark", "cat", name], capture_output=True)
            for name in ("yes/cid_nohash_0.wav", "yes/nobody.wav")
        )
        assert (there.returncode, there.stdout) == (0, RECORDINGS["yes/cid_nohash_0.wav"])
        assert (unknown.returncode, unknown.stdout) == (2, b"")
        assert b"yes/nobody.wav" in unknown.stderr

    def test_unpack_gives_a_source_of_the_same_recordings(self, project, recordings, tmp_path, earmark):
        fill(recordings, {"testing_list.txt": b"yes/anouk_nohash_0.wav\n"})
        run_ingest()
        assert earmark(project, "unpack", "../unpacked").returncode == 0
        unpacked = {
            path.relative_to(tmp_path / "unpacked").as_posix(): path.read_bytes()
            for path in (tmp_path / "unpacked").rglob("*")
            if path.is_file()
        }
        assert unpacked == RECORDINGS | NOISE | {"testing_list.txt": b"yes/anouk_nohash_0.wav\n"}

    def test_unpack_of_nothing_is_an_empty_folder(self, project, tmp_path, earmark, forget):
        run_ingest()
        for speaker in ("anouk", "ben", "cid"):
            assert forget(speaker).returncode == 0
        done = earmark(project, "unpack", "../unpacked")
        assert done.returncode == 0, done.stderr
        assert [path.name for path in (tmp_path / "unpacked").iterdir()] == ["_background_noise_"]

    @pytest.mark.parametrize("place", ["a_file/x", "/proc/x"])
    def test_unpack_to_where_nothing_can_be_is_refused_in_a_sentence(self, project, earmark, place):
        (project / "a_file").touch()
        refused = earmark(project, "unpack", place)
        assert (refused.returncode, refused.stderr.count("\n")) == (2, 1)
        assert f"{place} cannot be written" in refused.stderr

    def test_unpack_never_mixes_with_what_is_there(self, project, recordings, earmark):
        run_ingest()
        refused = earmark(project, "unpack", str(recordings))
        assert refused.returncode == 2
        assert "exists already" in refused.stderr
