"""data/raw as a copy in a bucket: what is sent, what is deleted, and what an interruption leaves."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import boto3
import pytest
from conftest import ROOT, change_params
from support import s3_server
from support.growing import fill, run_ingest, wav
from upath import UPath

from earmark import params
from earmark.commands.upload import upload
from earmark.errors import UserError
from earmark.stages.extract import extract

BUCKET = "sounds"
RECORDINGS = {"no/a_nohash_0.wav": wav(0, 1.0), "yes/b_nohash_0.wav": wav(1, 1.0)}
MORE = {"no/c_nohash_0.wav": wav(7, 1.0)}


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with s3_server.serving() as port:  # one for all tests: s3fs remembers where it was
        yield f"http://127.0.0.1:{port}"


@pytest.fixture
def bucket(server, tmp_path, monkeypatch):
    folder = tmp_path / "project"
    folder.mkdir()
    shutil.copy2(ROOT / "params.yaml", folder)
    monkeypatch.chdir(folder)
    change_params(Path(), {"dataset": {"source": "../recordings"}, "extract": {"raw": f"s3://{BUCKET}/raw"}})
    fill(tmp_path / "recordings", RECORDINGS)
    run_ingest()
    s3_server.use(server, monkeypatch, tmp_path)
    client = boto3.client("s3")
    client.create_bucket(Bucket=BUCKET)
    UPath(f"s3://{BUCKET}").fs.invalidate_cache()  # s3fs remembers what the bucket of the test before held
    yield client
    for key in stored(client):
        client.delete_object(Bucket=BUCKET, Key=key)
    client.delete_bucket(Bucket=BUCKET)


def stored(bucket) -> dict[str, bytes]:
    listed = bucket.list_objects_v2(Bucket=BUCKET).get("Contents", [])
    return {entry["Key"]: bucket.get_object(Bucket=BUCKET, Key=entry["Key"])["Body"].read() for entry in listed}


def expected() -> dict[str, bytes]:
    files = [*Path("data/raw").glob("shard-*.tar"), Path("data/raw/manifest.parquet")]
    return {f"raw/{path.name}": path.read_bytes() for path in files}


def test_the_copy_has_the_shards_and_the_manifest_and_grows_with_them(bucket, tmp_path):
    with pytest.raises(UserError, match=r"s3://sounds/raw has no copy of data/raw; run 'earmark upload' first"):
        extract(params.load())
    assert upload(params.load()) == "1 of 1 shards were new in s3://sounds/raw; 0 were deleted there"
    assert stored(bucket) == expected()
    assert upload(params.load()).startswith("0 of 1 shards were new")
    fill(tmp_path / "recordings", MORE)
    run_ingest()
    with pytest.raises(UserError, match=r"is an outdated copy of data/raw; run 'earmark upload' first"):
        extract(params.load())
    assert upload(params.load()).startswith("1 of 2 shards were new")
    assert stored(bucket) == expected()


def test_shards_that_are_gone_are_deleted_and_nothing_else(bucket):
    upload(params.load())
    bucket.put_object(Bucket=BUCKET, Key="raw/shard-0123456789abcdef.tar", Body=b"forgotten")
    bucket.put_object(Bucket=BUCKET, Key="raw/notes.txt", Body=b"a person's")
    assert upload(params.load()).endswith("; 1 were deleted there")
    assert stored(bucket) == expected() | {"raw/notes.txt": b"a person's"}


def test_what_an_interrupted_upload_left_is_sent_again(bucket):
    [shard] = Path("data/raw").glob("shard-*.tar")
    bucket.put_object(Bucket=BUCKET, Key=f"raw/{shard.name}", Body=shard.read_bytes()[:1000])
    assert upload(params.load()).startswith("1 of 1 shards were new")
    assert stored(bucket) == expected()


def test_a_copy_of_other_recordings_is_left_alone(bucket, tmp_path):
    upload(params.load())
    theirs = stored(bucket)
    shutil.rmtree("data")
    shutil.rmtree(tmp_path / "recordings")
    fill(tmp_path / "recordings", {"no/c_nohash_0.wav": wav(7, 1.0), "yes/c_nohash_0.wav": wav(8, 1.0)})
    run_ingest()
    with pytest.raises(UserError, match=r"extract.raw s3://sounds/raw has 2 recordings that data/raw never had"):
        upload(params.load())
    assert stored(bucket) == theirs


def test_a_shard_that_is_missing_here_leaves_the_copy_as_it_was(bucket, tmp_path):
    upload(params.load())
    before = stored(bucket)
    fill(tmp_path / "recordings", MORE)
    run_ingest()
    for shard in Path("data/raw").glob("shard-*.tar"):
        shard.unlink()
    with pytest.raises(UserError, match=r"data/raw was changed after ingest; restore it with 'dvc checkout data/raw'"):
        upload(params.load())
    assert stored(bucket) == before


def test_shards_of_others_beside_no_manifest_stay(bucket):
    bucket.put_object(Bucket=BUCKET, Key="raw/shard-0123456789abcdef.tar", Body=b"somebody's")
    assert upload(params.load()).endswith("; 0 were deleted there")
    assert stored(bucket)["raw/shard-0123456789abcdef.tar"] == b"somebody's"


@pytest.mark.parametrize("place", ["data/raw", "data", "data/raw/copy"])
def test_data_raw_is_no_copy_of_itself(bucket, place):
    change_params(Path(), {"extract": {"raw": place}})
    with pytest.raises(UserError, match=rf"params.yaml: extract.raw {place} overlaps data/raw; expected an address"):
        upload(params.load())


@pytest.mark.parametrize("place", ["s3://absent/raw", "params.yaml/raw", "/proc/raw"])
def test_a_place_that_cannot_be_used_is_one_sentence(bucket, place):
    change_params(Path(), {"extract": {"raw": place}})
    with pytest.raises(UserError, match=rf"{place} cannot be used: "):
        upload(params.load())
