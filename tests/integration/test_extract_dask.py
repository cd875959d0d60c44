"""Extraction on a Dask cluster of separate processes: the same code, the same bytes, here or in a bucket."""

import os
import shutil
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import distributed
import pytest
from conftest import change_params
from support import dask_cluster, s3_server
from support.growing import manifest
from test_extract import FEATURES, shard_bytes
from test_extract_workers import eight_shards, finished, sharded, start, when_a_shard_is_there
from upath import UPath

from earmark.features.reader import FeatureReader
from earmark.params import environment

__all__ = ["eight_shards", "sharded"]  # fixtures


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """A scheduler, which has no workers but those of the test that runs."""
    with dask_cluster.scheduler() as address:
        yield address


def use_cluster(address: str, **places: str) -> None:
    """For every process that this test starts from here on."""
    os.environ[environment.SCHEDULER] = address
    change_params(Path(), {"extract": {"raw": "data/raw", "features": "data/features"} | places})


@pytest.fixture(autouse=True)
def _no_cluster_is_left_to_later_tests() -> Iterator[None]:
    yield
    os.environ.pop(environment.SCHEDULER, None)


def wait_for_jobs(address: str, count: int) -> None:
    """Returns when the scheduler has that many jobs."""
    with distributed.Client(address, set_as_default=False) as client:
        while client.run_on_scheduler(lambda dask_scheduler: len(dask_scheduler.tasks)) < count:
            time.sleep(0.01)


def test_a_cluster_makes_the_same_bytes_when_a_worker_dies_at_work(eight_shards, address):
    with dask_cluster.workers(address, 2) as (doomed, _):
        use_cluster(address)
        # Stopped, it is given shards and never finishes one: they are under way when it dies.
        doomed.send_signal(signal.SIGSTOP)
        process = start()
        when_a_shard_is_there(process)
        assert process.poll() is None
        doomed.kill()
        assert "8 of 8 shards were new" in finished(process)
    assert shard_bytes() == eight_shards


IMPATIENT = """
from earmark import cli
from earmark.io import worker_pool
worker_pool._PATIENCE_SECONDS = 0.5
cli.main(["extract"])
"""


def test_the_loss_of_all_workers_is_a_sentence_and_the_next_run_goes_on(eight_shards, address):
    with dask_cluster.workers(address, 1) as (doomed,):
        use_cluster(address)
        doomed.send_signal(signal.SIGSTOP)
        process = start([sys.executable, "-c", IMPATIENT])
        wait_for_jobs(address, 8)
        doomed.kill()
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 2, errors
    assert "workers were killed" in errors
    with dask_cluster.workers(address, 1):
        finished(start())
    assert shard_bytes() == eight_shards


@pytest.fixture
def bucket(monkeypatch, tmp_path):
    with s3_server.bucket("sounds", monkeypatch, tmp_path) as client:
        yield client
        UPath("s3://sounds").fs.clear_instance_cache()


def objects(client, prefix: str) -> dict[str, bytes]:
    listed = client.list_objects_v2(Bucket="sounds", Prefix=prefix).get("Contents", [])
    keys = [entry["Key"] for entry in listed if "/shard-" in entry["Key"]]
    return {key.removeprefix(prefix): client.get_object(Bucket="sounds", Key=key)["Body"].read() for key in keys}


def test_raw_shards_and_features_may_both_be_in_a_bucket(eight_shards, bucket, address):
    for path in Path("data/raw").iterdir():
        bucket.upload_file(str(path), "sounds", f"raw/{path.name}")
    clips = manifest().sample(frac=0.5, random_state=1)
    shutil.rmtree("data")
    places = {"raw": "s3://sounds/raw", "features": "s3://sounds/features"}
    with dask_cluster.workers(address, 2):
        use_cluster(address, **places)
        assert "8 of 8 shards were new" in finished(start())
        assert objects(bucket, "features/") == eight_shards
        assert "0 of 8 shards were new" in finished(start())
    assert not FEATURES.exists()
    held = FeatureReader(UPath("s3://sounds/features/log_mel"), clips, in_memory=True)
    streamed = FeatureReader(UPath("s3://sounds/features/log_mel"), clips, in_memory=False)
    assert (held.epoch().rows(0, len(clips)) == streamed.epoch().rows(0, len(clips))).all()
    # Without a cluster, and to other settings and back.
    use_cluster("", **places)
    change_params(Path(), {"features": {"stride_ms": 20.0}})
    assert "8 of 8 shards were new" in finished(start())
    change_params(Path(), {"features": {"stride_ms": 10.0}})
    assert "0 of 8 shards were new" in finished(start())
    assert objects(bucket, "features/") == eight_shards


QUICK = {"DASK_DISTRIBUTED__COMM__TIMEOUTS__CONNECT": "1s"}


def refusal(address: str) -> str:
    use_cluster(address)
    process = start(**QUICK)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 2, errors
    assert "Traceback" not in errors
    return errors


def test_a_cluster_that_does_not_answer_is_a_sentence(eight_shards):
    assert "no Dask scheduler answers at tcp://127.0.0.1:9" in refusal("tcp://127.0.0.1:9")


def test_a_cluster_without_workers_is_a_sentence(eight_shards, address):
    assert f"{address} has no workers; start some with 'dask worker {address} --nworkers auto" in refusal(address)


def test_workers_that_do_not_see_the_shards_are_a_sentence(eight_shards, address):
    with dask_cluster.workers(address, 1):
        use_cluster(address, raw="data/elsewhere")
        shutil.copytree("data/raw", "data/elsewhere")
        next(Path("data/elsewhere").glob("*.tar")).unlink()
        process = start()
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 2, errors
    assert os.path.join("data", "elsewhere") in errors
    assert "is missing; run 'dvc checkout' or 'dvc pull' to restore it" in errors


def test_a_bucket_that_is_not_there_is_a_sentence(eight_shards, bucket):
    use_cluster("", features="s3://nowhere/features")
    process = start()
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 2, errors
    assert "s3://nowhere/features cannot be used" in errors
    assert "Traceback" not in errors
