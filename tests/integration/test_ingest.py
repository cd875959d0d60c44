"""data/raw as it grows: shards that are added and never rewritten, and a manifest that says what counts."""

import shutil
import tarfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from conftest import change_params
from support.growing import (
    NOISE,
    RECORDINGS,
    contents,
    fill,
    manifest,
    project,
    raw_bytes,
    recordings,
    run_ingest,
    shard_bytes,
    wav,
)

from earmark.dataset import shards
from earmark.errors import UserError

__all__ = ["project", "recordings"]  # fixtures


DAY = 24 * 3600


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
    remaining = before.index.drop("no/anouk_nohash_0.wav")
    assert (manifest().loc[remaining, "member"] == before[remaining]).all()


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


def test_another_split_changes_the_manifest_only(project):
    run_ingest()
    before = shard_bytes()
    change_params(
        Path(), {"split": {"method": "random", "fractions": {"training": 0.5, "validation": 0.5, "test": 0.0}}}
    )
    run_ingest()
    assert shard_bytes() == before
    assert set(manifest()["split"]) == {"training", "validation", "noise"}


def test_lists_of_a_split_are_followed_also_by_recordings_that_came_before(project, recordings):
    change_params(Path(), {"split": {"method": "lists"}})
    fill(recordings, {"testing_list.txt": b"yes/anouk_nohash_0.wav\n"})
    run_ingest()
    assert manifest().loc["yes/anouk_nohash_0.wav", "split"] == "test"
    fill(recordings, {"validation_list.txt": b"no/ben_nohash_0.wav\n"})
    run_ingest()
    assert manifest().loc["no/ben_nohash_0.wav", "split"] == "validation"
    assert manifest().loc["yes/anouk_nohash_0.wav", "split"] == "test"


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


def test_data_raw_that_is_gone_is_not_started_anew_where_dvc_knows_it(project):
    Path("dvc.lock").write_text("stages:\n  ingest:\n    outs:\n    - path: data/raw\n      md5: 0.dir\n")
    with pytest.raises(UserError, match="dvc checkout data/raw"):
        run_ingest()
    assert not Path("data/raw").exists()
