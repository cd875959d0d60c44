"""An inbox only adds: in folders and archives here, in a bucket in test_s3."""

import io
import shutil
import tarfile

import pytest
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

__all__ = ["empty_registry", "forget", "project", "recordings"]  # fixtures


def test_an_inbox_adds_and_what_it_brought_stays_when_it_is_emptied(project, tmp_path):
    fill(tmp_path / "inbox", {"yes/new_nohash_0.wav": wav(1000)})
    run_ingest(inbox="../inbox")
    assert contents() == RECORDINGS | NOISE | {"yes/new_nohash_0.wav": wav(1000)}
    assert manifest().loc["yes/new_nohash_0.wav", "source"] == "inbox/inbox"
    shutil.rmtree(tmp_path / "inbox")
    fill(tmp_path / "inbox", {"no/later_nohash_0.wav": wav(1001)})
    run_ingest()
    run_ingest(inbox="")
    assert {"yes/new_nohash_0.wav", "no/later_nohash_0.wav"} < set(contents())


def test_an_inbox_may_be_empty(project, tmp_path):
    (tmp_path / "inbox").mkdir()
    run_ingest(inbox="../inbox")
    assert contents() == RECORDINGS | NOISE


def test_what_the_inbox_brought_takes_over_when_the_source_loses_the_same_recording(project, recordings, tmp_path):
    fill(tmp_path / "more", {"yes/new_nohash_0.wav": RECORDINGS["yes/anouk_nohash_0.wav"]})
    shutil.make_archive(str(tmp_path / "more"), "zip", tmp_path / "more")
    run_ingest(inbox="../more.zip")
    assert "yes/new_nohash_0.wav" not in manifest().index
    (recordings / "yes/anouk_nohash_0.wav").unlink()
    run_ingest()
    assert contents()["yes/new_nohash_0.wav"] == RECORDINGS["yes/anouk_nohash_0.wav"]


def test_a_file_beyond_the_limit_is_refused_and_named(project, recordings):
    with (recordings / "yes/endless_nohash_0.wav").open("wb") as file:
        file.truncate(300 * 2**20)  # a hole, which takes no disk
    sentence = run_ingest()
    assert "1 files are refused" in sentence
    assert "yes/endless_nohash_0.wav" in sentence
    assert contents() == RECORDINGS | NOISE


def test_an_archive_can_be_an_inbox(project, tmp_path):
    fill(tmp_path / "more", {"yes/new_nohash_0.wav": wav(1000)})
    shutil.make_archive(str(tmp_path / "more"), "zip", tmp_path / "more")
    assert run_ingest(inbox="../more.zip").startswith("7 new clips from inbox/more.zip and recordings")
    assert run_ingest() == "nothing new in inbox/more.zip and recordings"


def test_a_recording_in_the_inbox_replaces_the_one_of_its_name(project, tmp_path):
    run_ingest()
    fill(tmp_path / "inbox", {"yes/anouk_nohash_0.wav": wav(1000)})
    run_ingest(inbox="../inbox")
    assert contents()["yes/anouk_nohash_0.wav"] == wav(1000)
    assert "nothing new" in run_ingest()


def test_what_the_inbox_replaces_at_once_leaves_no_byte_that_forget_would_miss(project, tmp_path, forget):
    fill(tmp_path / "inbox", {"yes/anouk_nohash_0.wav": wav(1000)})
    run_ingest(inbox="../inbox")
    assert contents() == RECORDINGS | NOISE | {"yes/anouk_nohash_0.wav": wav(1000)}
    assert forget("anouk").returncode == 0
    samples = RECORDINGS["yes/anouk_nohash_0.wav"][44:]
    assert not any(samples[:1000] in content for content in shard_bytes().values())


def test_a_hostile_archive_in_the_inbox_is_named_and_changes_nothing(project, tmp_path):
    run_ingest()
    before = raw_bytes()
    with tarfile.open(tmp_path / "evil.tar", "w") as archive:
        member = tarfile.TarInfo("../../escaped/a.wav")
        member.size = 3
        archive.addfile(member, io.BytesIO(b"bad"))
    with pytest.raises(UserError, match=r"escaped/a\.wav"):
        run_ingest(inbox="../evil.tar")
    assert raw_bytes() == before
    assert not list(tmp_path.parent.rglob("escaped"))


def test_a_name_that_no_file_can_have_is_refused(project, tmp_path):
    with tarfile.open(tmp_path / "long.tar", "w") as archive:
        archive.addfile(tarfile.TarInfo(f"yes/{'l' * 300}.wav"))
    with pytest.raises(UserError, match="at most 255 bytes"):
        run_ingest(inbox="../long.tar")


@pytest.mark.parametrize("inbox", ["data", "data/quarantine", "./data/raw"])
def test_what_earmark_itself_makes_is_no_inbox(project, inbox):
    run_ingest()
    with pytest.raises(UserError, match=f"dataset.inbox: '{inbox}' is a folder that earmark writes to"):
        run_ingest(inbox=inbox)
    assert contents() == RECORDINGS | NOISE
