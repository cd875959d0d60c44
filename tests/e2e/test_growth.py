"""A data set that grows and shrinks, through DVC: what is computed again, and what is left of a person."""

import json
from pathlib import Path

import pandas as pd
import pytest
from conftest import FAST_TC_RESNET, change_params, copied

from earmark.dataset.sources import synthetic


@pytest.fixture(autouse=True)
def dvc_day(monkeypatch):
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "0")


@pytest.fixture(scope="module")
def project(tmp_path_factory, registered):
    """A checkout with a registered version, and an inbox beside it that is still empty."""
    folder = copied(registered, tmp_path_factory.mktemp("growth") / "project")
    (folder.parent / "inbox").mkdir()
    short = FAST_TC_RESNET | {"epochs": 1}
    change_params(folder, {"dataset": {"inbox": "../inbox"}, "train": {"candidates": {"tc_resnet": short}}})
    return folder


def all_bytes(folder: Path, pattern: str) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.glob(pattern) if path.is_file()}


def test_what_arrives_in_the_inbox_is_added_and_old_features_keep_their_bytes(project, run):
    raw, features = all_bytes(project, "data/raw/*.tar"), all_bytes(project, "data/features/*/shard-*.npy")
    arrived = {name: content for name, content in synthetic.entries(99, 6) if not name.startswith("_")}
    for name, content in list(arrived.items())[::20]:
        path = project.parent / "inbox" / name.replace("_nohash_0", "_nohash_9")
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content)
    done = run(project, "dvc", "repro", "extract")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "9 new clips from inbox/inbox and synthetic" in done.stdout
    assert "1 of 2 shards were new" in done.stdout
    assert raw.items() < all_bytes(project, "data/raw/*.tar").items()
    assert features.items() < all_bytes(project, "data/features/*/shard-*.npy").items()


def test_a_forgotten_person_is_named_with_the_versions_and_leaves_data_and_cache(project, run):
    manifest = pd.read_parquet(project / "data/raw/manifest.parquet")
    training = manifest[(manifest["split"] == "training") & (manifest["source"] == "synthetic")]
    speaker = training["speaker"].iloc[0]
    rows = manifest[manifest["speaker"] == speaker]
    samples = [run_cat(project, row) for row in rows.itertuples()]
    report = run(project, "earmark", "forget", "--speaker", speaker)
    assert report.returncode == 0, report.stderr
    assert f"removed {len(rows)} recordings; rewrote 1 shards without them" in report.stdout
    assert "trained on them: earmark version 1 (champion)" in report.stdout
    listed = [line.strip() for line in report.stdout.splitlines() if line.startswith("  files/md5/")]
    assert listed
    assert all((project / ".dvc/cache" / path).is_file() for path in listed)
    assert not holding(project / "data", samples, speaker)
    assert holding(project / ".dvc/cache", samples, speaker)
    again = run(project, "dvc", "repro")
    assert again.returncode == 0, again.stdout + again.stderr
    collected = run(project, "dvc", "gc", "--workspace", "--force")
    assert collected.returncode == 0, collected.stderr
    assert not any((project / ".dvc/cache" / path).exists() for path in listed)
    assert not holding(project / "data", samples, speaker)
    assert not holding(project / ".dvc/cache/files", samples, speaker)


def run_cat(project: Path, row) -> bytes:
    with (project / "data/raw" / row.shard).open("rb") as shard:
        shard.seek(row.offset + 44)
        return shard.read(row.length - 44)[8000:9000]


def holding(folder: Path, samples: list[bytes], speaker: str) -> list[Path]:
    """The files that hold a recording's samples, or name the speaker."""
    files = []
    for path in filter(Path.is_file, folder.rglob("*")):
        content = path.read_bytes()
        if speaker.encode() in content or any(sample in content for sample in samples):
            files.append(path)
    return files


def test_the_champion_is_compared_on_what_is_left(project, earmark):
    registered = earmark(project, "register")
    assert registered.returncode == 0, registered.stderr
    assert "earmark version 2" in registered.stdout
    record = json.loads((project / "data/raw/forgotten.json").read_text())
    assert record[0]["recordings"] > 0


def test_a_second_person_is_named_with_the_objects_of_every_version_that_the_cache_knows(project, earmark):
    manifest = pd.read_parquet(project / "data/raw/manifest.parquet")
    first, second = manifest.loc[manifest["source"] == "synthetic", "speaker"].replace("", pd.NA).dropna().unique()[:2]
    assert earmark(project, "forget", "--speaker", first).returncode == 0
    report = earmark(project, "forget", "--speaker", second)
    listed = {line.strip() for line in report.stdout.splitlines() if line.startswith("  files/md5/")}
    cache = project / ".dvc/cache/files"
    shards = {f"files/{path.relative_to(cache)}" for path in holding(cache, [], second) if is_tar(path)}
    assert shards
    assert shards <= listed


def is_tar(path: Path) -> bool:
    return path.read_bytes()[257:262] == b"ustar"
