"""data/raw as it grows: shards that are added and never rewritten, and a manifest that says what counts."""

import io
import json
import os
import random
import shutil
import subprocess
import tarfile
import time
import wave
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from conftest import BIN, ROOT, change_params

from earmark import params
from earmark.errors import UserError
from earmark.stages.ingest import ingest
from earmark.stores import shards

DAY = 24 * 3600


def wav(seed: int, seconds: float = 0.2) -> bytes:
    """A recording that differs from that of every other seed."""
    samples = np.random.default_rng(seed).integers(-9000, 9000, round(16_000 * seconds), dtype=np.int16)
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(16_000)
        file.writeframes(samples.tobytes())
    return buffer.getvalue()


def fill(folder: Path, recordings: dict[str, bytes]) -> Path:
    for name, content in recordings.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


RECORDINGS = {
    f"{label}/{speaker}_nohash_0.wav": wav(10 * s + n)
    for n, label in enumerate(("no", "yes"))
    for s, speaker in enumerate(("anouk", "ben", "cid"))
}
NOISE = {"_background_noise_/tap.wav": wav(999, 2.0)}


@pytest.fixture
def project(tmp_path, monkeypatch) -> Path:
    """A folder with params.yaml, whose source is the folder `recordings` beside it, as the working folder."""
    folder = tmp_path / "project"
    folder.mkdir()
    shutil.copy2(ROOT / "params.yaml", folder)
    fill(tmp_path / "recordings", RECORDINGS | NOISE)
    change_params(folder, {"dataset": {"source": "../recordings"}})
    monkeypatch.chdir(folder)
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "0")
    return folder


@pytest.fixture
def recordings(project) -> Path:
    return project.parent / "recordings"


def run_ingest(**dataset: object) -> str:
    if dataset:
        change_params(Path(), {"dataset": dataset})
    return ingest(params.load())


def manifest() -> pd.DataFrame:
    return shards.read_manifest(Path("data/raw")).set_index("id")


def contents() -> dict[str, bytes]:
    rows = manifest().reset_index()
    return dict(zip(rows["id"], shards.read_recordings(Path("data/raw"), rows), strict=True))


def shard_bytes() -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in Path("data/raw").glob("*.tar")}


def raw_bytes(folder: Path = Path("data/raw")) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_every_recording_is_there_byte_for_byte_and_described(project):
    assert run_ingest() == "6 new clips from recordings: 6 clips of 2 labels"
    assert contents() == RECORDINGS | NOISE
    row = manifest().loc["yes/anouk_nohash_0.wav"]
    assert (row["label"], row["speaker"], row["source"], row["ingested_on"]) == (
        "yes",
        "anouk",
        "recordings",
        "1970-01-01",
    )
    assert (row["format"], row["sample_rate_hz"], row["channels"], row["frames"]) == ("WAV PCM_16", 16_000, 1, 3200)
    samples = np.frombuffer(RECORDINGS["yes/anouk_nohash_0.wav"][44:], np.int16) / 32768
    assert row["peak"] == pytest.approx(np.abs(samples).max())
    assert row["rms"] == pytest.approx(np.sqrt(np.mean(samples**2)))


def test_a_shard_is_a_tar_archive_that_others_can_read(project):
    run_ingest()
    [shard] = Path("data/raw").glob("*.tar")
    with tarfile.open(shard) as archive:
        assert {member.name: archive.extractfile(member).read() for member in archive} == RECORDINGS | NOISE


def test_the_same_recordings_give_the_same_bytes_elsewhere_and_later(project, recordings, tmp_path, monkeypatch):
    run_ingest()
    first = raw_bytes()
    other = tmp_path / "elsewhere" / "project"
    other.mkdir(parents=True)
    shutil.copy2(project / "params.yaml", other)
    shutil.copytree(recordings, other.parent / "recordings", copy_function=shutil.copy)
    monkeypatch.chdir(other)
    run_ingest()
    assert raw_bytes() == first


def test_new_recordings_are_added_and_old_shards_keep_their_bytes(project, recordings, monkeypatch):
    run_ingest()
    before, old_rows = shard_bytes(), manifest()
    fill(recordings, {"yes/dora_nohash_0.wav": wav(77)})
    monkeypatch.setenv("SOURCE_DATE_EPOCH", str(DAY))
    assert run_ingest() == "1 new clips from recordings: 7 clips of 2 labels"
    after = shard_bytes()
    assert before.items() <= after.items()
    assert len(after) == 2
    assert contents()["yes/dora_nohash_0.wav"] == wav(77)
    assert manifest().loc["yes/dora_nohash_0.wav", "ingested_on"] == "1970-01-02"
    pd.testing.assert_frame_equal(manifest().loc[old_rows.index], old_rows)


def test_nothing_new_leaves_every_file_untouched(project):
    run_ingest()
    before = {path: path.stat().st_mtime_ns for path in Path("data").rglob("*")}
    assert run_ingest() == "nothing new in recordings"
    assert {path: path.stat().st_mtime_ns for path in Path("data").rglob("*")} == before


def test_content_that_is_there_is_not_stored_twice(project, recordings):
    run_ingest()
    before = shard_bytes()
    fill(recordings, {"yes/eve_nohash_0.wav": RECORDINGS["yes/anouk_nohash_0.wav"]})
    run_ingest()
    assert shard_bytes() == before
    assert "yes/eve_nohash_0.wav" not in manifest().index


def test_content_under_two_labels_is_stored_once_and_listed_twice(project, recordings):
    fill(recordings, {"no/eve_nohash_0.wav": RECORDINGS["yes/anouk_nohash_0.wav"]})
    run_ingest()
    rows = manifest().loc[["no/eve_nohash_0.wav", "yes/anouk_nohash_0.wav"]]
    assert rows[["shard", "offset", "member"]].nunique().tolist() == [1, 1, 1]
    assert rows["label"].tolist() == ["no", "yes"]


def test_a_duplicate_takes_the_place_of_a_recording_that_went(project, recordings):
    fill(recordings, {"yes/eve_nohash_0.wav": RECORDINGS["yes/anouk_nohash_0.wav"]})
    run_ingest()
    before = shard_bytes()
    (recordings / "yes/anouk_nohash_0.wav").unlink()
    run_ingest()
    assert {"yes/eve_nohash_0.wav"} == set(manifest().index) & {"yes/eve_nohash_0.wav", "yes/anouk_nohash_0.wav"}
    assert shard_bytes() == before


def test_a_changed_recording_replaces_the_one_of_its_name(project, recordings):
    run_ingest()
    before = shard_bytes()
    fill(recordings, {"yes/anouk_nohash_0.wav": wav(78)})
    assert "1 gone or replaced" in run_ingest()
    assert contents() == RECORDINGS | NOISE | {"yes/anouk_nohash_0.wav": wav(78)}
    assert before.items() <= shard_bytes().items()


def test_where_a_clip_stands_in_its_shard_stays_when_others_are_replaced(project, recordings):
    run_ingest()
    before = manifest()["member"]
    fill(recordings, {"no/anouk_nohash_0.wav": wav(78)})
    run_ingest()
    kept = before.index.drop("no/anouk_nohash_0.wav")
    assert (manifest().loc[kept, "member"] == before[kept]).all()


def test_a_recording_that_its_source_no_longer_has_is_gone(project, recordings):
    run_ingest()
    (recordings / "yes/anouk_nohash_0.wav").unlink()
    assert "1 gone or replaced" in run_ingest()
    assert "yes/anouk_nohash_0.wav" not in manifest().index


def test_another_source_takes_the_place_of_the_former_and_its_shards(project, tmp_path):
    run_ingest()
    other = {"left/a.wav": wav(1000), "right/b.wav": wav(1001)}
    fill(tmp_path / "other", other)
    run_ingest(source="../other")
    assert contents() == other
    assert len(shard_bytes()) == 1


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
    said = run_ingest()
    assert "1 files are refused" in said
    assert "yes/endless_nohash_0.wav" in said
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


def test_what_the_inbox_replaces_at_once_leaves_no_byte_that_forget_would_miss(project, tmp_path):
    fill(tmp_path / "inbox", {"yes/anouk_nohash_0.wav": wav(1000)})
    run_ingest(inbox="../inbox")
    assert contents() == RECORDINGS | NOISE | {"yes/anouk_nohash_0.wav": wav(1000)}
    assert forget("anouk").returncode == 0
    gone = RECORDINGS["yes/anouk_nohash_0.wav"][44:]
    assert not any(gone[:1000] in content for content in shard_bytes().values())


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


def test_another_split_changes_the_manifest_only(project):
    run_ingest()
    before = shard_bytes()
    change_params(
        Path(), {"split": {"method": "random", "fractions": {"training": 0.5, "validation": 0.5, "testing": 0.0}}}
    )
    run_ingest()
    assert shard_bytes() == before
    assert set(manifest()["split"]) == {"training", "validation", "noise"}


def test_lists_of_a_split_are_followed_also_by_recordings_that_came_before(project, recordings):
    change_params(Path(), {"split": {"method": "lists"}})
    fill(recordings, {"testing_list.txt": b"yes/anouk_nohash_0.wav\n"})
    run_ingest()
    assert manifest().loc["yes/anouk_nohash_0.wav", "split"] == "testing"
    fill(recordings, {"validation_list.txt": b"no/ben_nohash_0.wav\n"})
    run_ingest()
    assert manifest().loc["no/ben_nohash_0.wav", "split"] == "validation"
    assert manifest().loc["yes/anouk_nohash_0.wav", "split"] == "testing"


def test_lists_that_the_source_no_longer_has_are_followed_no_more(project, recordings):
    change_params(Path(), {"split": {"method": "lists"}})
    fill(recordings, {"testing_list.txt": b"yes/anouk_nohash_0.wav\n"})
    run_ingest()
    (recordings / "testing_list.txt").unlink()
    with pytest.raises(UserError, match="neither a validation_list"):
        run_ingest()


def test_a_damaged_data_raw_is_refused_and_not_started_anew(project):
    run_ingest()
    [shard] = Path("data/raw").glob("*.tar")
    shard.write_bytes(shard.read_bytes()[:-1])
    with pytest.raises(UserError, match="dvc checkout data/raw"):
        run_ingest()


def test_shards_stay_below_their_limit(tmp_path):
    limit = 200_000
    with shards.ShardWriter(tmp_path, limit) as writer:
        places = [writer.add(f"{'x' * n}/{n}.wav", wav(n), f"{n}") for n in range(1, 150)]
    sizes = [path.stat().st_size for path in tmp_path.iterdir()]
    assert len(sizes) > 3
    assert max(sizes) <= limit
    for number, (shard, offset, length) in enumerate(places, 1):
        with (tmp_path / writer.names[shard]).open("rb") as file:
            file.seek(offset)
            assert file.read(length) == wav(number)


@pytest.fixture
def many(project, recordings) -> dict[str, bytes]:
    """Some hundred more recordings, so that an ingestion takes a moment."""
    more = {f"{label}/{n:04x}_nohash_0.wav": wav(5000 + n) for n in range(400) for label in (("no", "yes")[n % 2],)}
    fill(recordings, more)
    return RECORDINGS | NOISE | more


def start(project: Path) -> subprocess.Popen:
    return subprocess.Popen(
        [BIN / "earmark", "ingest"], cwd=project, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def test_kill_at_twenty_random_moments_then_the_next_run_gives_the_very_bytes(project, many):
    began = time.monotonic()
    assert start(project).wait() == 0
    undisturbed, seconds = raw_bytes(), time.monotonic() - began
    shutil.rmtree("data")
    shutil.rmtree("downloads")
    moments, killed = random.Random(3), 0
    while killed < 20:
        process = start(project)
        try:
            process.wait(moments.uniform(0.2, 0.9) * seconds)
            assert raw_bytes() == undisturbed  # it was done before its moment came: from the start again
            shutil.rmtree("data")
        except subprocess.TimeoutExpired:
            process.kill()
            killed += process.wait() == -9
    done = start(project)
    assert done.wait() == 0, done.stderr.read()
    assert raw_bytes() == undisturbed
    assert [path.name for path in Path("data").iterdir() if not path.name.endswith(".lock")] == ["raw"]


def test_kill_at_random_moments_of_a_later_ingestion_loses_nothing(project, recordings, many):
    run_ingest()
    before = shard_bytes()
    more = {f"yes/late{n:03x}_nohash_0.wav": wav(9000 + n) for n in range(200)}
    fill(recordings, more)
    moments = random.Random(4)
    for _ in range(5):
        process = start(project)
        try:
            process.wait(moments.uniform(0.5, 1.5))
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
    assert start(project).wait() == 0
    assert contents() == many | more
    assert before.items() <= shard_bytes().items()


def test_two_ingestions_at_once_take_turns(project, many):
    both = [start(project), start(project)]
    said = [process.communicate()[0] for process in both]
    assert [process.returncode for process in both] == [0, 0]
    assert sorted("nothing new" in each for each in said) == [False, True]
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


def forget(speaker: str) -> subprocess.CompletedProcess:
    environment = os.environ | {"MLFLOW_TRACKING_URI": "sqlite:///mlflow.db"}
    command = [BIN / "earmark", "forget", "--speaker", speaker]
    return subprocess.run(command, capture_output=True, text=True, env=environment)


def test_forget_leaves_no_byte_of_a_person_and_touches_nobody_else(project):
    run_ingest()
    zoe = {"yes/zoe_nohash_0.wav": wav(500), "no/zoe_nohash_0.wav": wav(501)}
    fill(project.parent / "inbox", zoe)
    fill(project.parent / "recordings", {"testing_list.txt": b"yes/anouk_nohash_0.wav\nno/anouk_nohash_5.wav\n"})
    run_ingest(inbox="../inbox")
    fill(project / "data/quarantine", {f"{row.sha256}.wav": b"x" for row in manifest().itertuples()})
    fill(project / "data", {".quarantine.killed.partial/a.wav": RECORDINGS["yes/anouk_nohash_0.wav"]})
    before, quarantined = shard_bytes(), len(list(Path("data/quarantine").iterdir()))
    assert forget("anouk").returncode == 0
    gone = [content[44:] for name, content in RECORDINGS.items() if "anouk" in name]
    for path in filter(Path.is_file, Path("data").rglob("*")):
        assert not any(samples[:1000] in path.read_bytes() for samples in gone), path
        assert b"anouk" not in path.read_bytes(), path
    assert contents() == {name: each for name, each in (RECORDINGS | NOISE).items() if "anouk" not in name} | zoe
    assert len(shard_bytes().items() & before.items()) == 1
    assert len(shard_bytes()) == len(before) == 2
    assert quarantined - len(list(Path("data/quarantine").iterdir())) == 2


def test_the_forgotten_are_not_taken_again_and_their_record_does_not_name_them(project):
    run_ingest()
    assert forget("anouk").returncode == 0
    [record] = json.loads(Path("data/raw/forgotten.json").read_text())
    assert record["recordings"] == 2
    assert "anouk" not in json.dumps(record)
    assert "2 that were forgotten are still there" in run_ingest()
    assert not any("anouk" in each for each in manifest().index)
    before = raw_bytes()
    assert "nothing new" in run_ingest()
    assert raw_bytes() == before
    again = forget("anouk")
    assert again.returncode == 2
    assert "no recording of a speaker 'anouk'" in again.stderr


def test_the_same_recordings_under_another_name_go_too_and_are_named(project, recordings):
    fill(recordings, {"no/twin_nohash_0.wav": RECORDINGS["yes/anouk_nohash_0.wav"]})  # under another label
    fill(recordings, {"yes/aaa_nohash_0.wav": RECORDINGS["yes/ben_nohash_0.wav"]})  # left out, or ben's is
    run_ingest()
    said = forget("anouk").stdout
    assert "the same recordings under other names: no/twin_nohash_0.wav" in said
    assert "they may still be in recordings" in said
    said = forget("ben").stdout
    assert "yes/aaa_nohash_0.wav" in said
    gone = [content[44:1044] for name, content in RECORDINGS.items() if "anouk" in name or "ben" in name]
    assert not any(each in content for each in gone for content in shard_bytes().values())


def test_data_raw_that_is_gone_is_not_started_anew_where_dvc_knows_it(project):
    Path("dvc.lock").write_text("stages:\n  ingest:\n    outs:\n    - path: data/raw\n      md5: 0.dir\n")
    with pytest.raises(UserError, match="dvc checkout data/raw"):
        run_ingest()
    assert not Path("data/raw").exists()


def test_a_name_that_no_file_can_have_is_refused(project, tmp_path):
    with tarfile.open(tmp_path / "long.tar", "w") as archive:
        archive.addfile(tarfile.TarInfo(f"yes/{'l' * 300}.wav"))
    with pytest.raises(UserError, match="at most 255 bytes"):
        run_ingest(inbox="../long.tar")


class TestFilesBack:
    def run(self, *arguments: str) -> subprocess.CompletedProcess:
        return subprocess.run([BIN / "earmark", *arguments], capture_output=True)

    def test_ls_names_each_recording_and_cat_gives_its_bytes(self, project):
        run_ingest()
        lines = self.run("ls").stdout.decode().splitlines()
        assert {line.split("\t")[0] for line in lines} == set(RECORDINGS | NOISE)
        assert [line.split("\t")[1] for line in lines if line.startswith("yes/cid")] == ["cid"]
        assert self.run("cat", "yes/cid_nohash_0.wav").stdout == RECORDINGS["yes/cid_nohash_0.wav"]
        unknown = self.run("cat", "yes/nobody.wav")
        assert unknown.returncode == 2
        assert b"yes/nobody.wav" in unknown.stderr
        assert unknown.stdout == b""

    def test_unpack_gives_a_source_of_the_same_recordings(self, project, recordings, tmp_path):
        fill(recordings, {"testing_list.txt": b"yes/anouk_nohash_0.wav\n"})
        run_ingest()
        assert self.run("unpack", "../unpacked").returncode == 0
        found = {
            path.relative_to(tmp_path / "unpacked").as_posix(): path.read_bytes()
            for path in (tmp_path / "unpacked").rglob("*")
            if path.is_file()
        }
        assert found == RECORDINGS | NOISE | {"testing_list.txt": b"yes/anouk_nohash_0.wav\n"}

    def test_unpack_of_nothing_is_an_empty_folder(self, project, recordings, tmp_path):
        run_ingest()
        for speaker in ("anouk", "ben", "cid"):
            assert forget(speaker).returncode == 0
        done = self.run("unpack", "../unpacked")
        assert done.returncode == 0, done.stderr
        assert [path.name for path in (tmp_path / "unpacked").iterdir()] == ["_background_noise_"]

    def test_unpack_never_mixes_with_what_is_there(self, project, recordings):
        run_ingest()
        refused = self.run("unpack", str(recordings))
        assert refused.returncode == 2
        assert b"is there already" in refused.stderr
