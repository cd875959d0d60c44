"""A team with a bucket: recordings arrive in it, DVC keeps the data in it, and a fresh clone asks for nothing twice."""

import contextlib
import subprocess
from pathlib import Path

import boto3
import pandas as pd
import pytest
from conftest import SMALL, change_params, checkout
from support.dvc_remote import set_remote
from support.s3_server import proxying, serving, use

from earmark.dataset.sources import synthetic

BUCKET = "recordings"
DATA = ("data/raw", "data/features", "data/accepted.parquet", "data/quarantine")


@pytest.fixture
def proxy(tmp_path, monkeypatch):
    with serving() as port, proxying(port) as proxy:
        use(proxy.url, monkeypatch, tmp_path)
        boto3.client("s3").create_bucket(Bucket=BUCKET)
        yield proxy


def put(recordings: dict[str, bytes]) -> None:
    for name, content in recordings.items():
        boto3.client("s3").put_object(Bucket=BUCKET, Key=f"inbox/{name}", Body=content)


def files(folder: Path) -> dict[str, bytes]:
    paths = [
        path for name in DATA for path in ((folder / name).rglob("*") if (folder / name).is_dir() else [folder / name])
    ]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths if path.is_file()}


def test_recordings_from_a_bucket_through_the_data_stages_and_back_into_a_fresh_clone(tmp_path, proxy, run, earmark):
    origin, clone = checkout(tmp_path / "origin", SMALL), tmp_path / "clone"
    change_params(origin, {"dataset": {"inbox": f"s3://{BUCKET}/inbox"}})
    spoken = {name.replace("_nohash_0", "_nohash_7"): content for name, content in synthetic.entries(99, 6)}
    arrived = dict(list(spoken.items())[10::6])
    put(arrived | {"../yes/out.wav": b"hostile", "Yes/a.wav": b"hostile"})

    def dvc(folder: Path, *arguments: str) -> str:
        done = run(folder, "dvc", *arguments)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    output = dvc(origin, "repro", "validate", "extract")
    assert "2 files are refused" in output
    manifest = pd.read_parquet(origin / "data/raw/manifest.parquet")
    assert set(manifest.loc[manifest["source"] == f"s3://{BUCKET}/inbox", "id"]) == set(arrived)
    refused = pd.read_csv(origin / "data/quarantine/quarantined.csv", keep_default_na=False)
    assert {"../yes/out.wav", "Yes/a.wav"} <= set(refused["id"])

    with contextlib.chdir(origin):
        set_remote(url=f"s3://{BUCKET}/store", endpointurl=proxy.url)
    dvc(origin, "push")
    subprocess.run(["git", "add", "-A"], cwd=origin, check=True)
    subprocess.run(["git", "commit", "-qm", "data"], cwd=origin, check=True)
    subprocess.run(["git", "clone", "-q", origin, clone], check=True)
    dvc(clone, "pull", "--allow-missing", *DATA)
    assert files(clone) == files(origin)

    proxy.gets.clear()
    assert "nothing new" in earmark(clone, "ingest").stdout
    assert not [key for key in proxy.gets if key.startswith("inbox/")]
    assert files(clone) == files(origin)
