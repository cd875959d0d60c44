"""Features in a bucket: extracted from there to there and trained on, all through DVC."""

import shutil

import pytest
from conftest import FAST_TC_RESNET, change_params, copied
from support import s3_server


@pytest.fixture
def bucket(monkeypatch, tmp_path):
    with s3_server.bucket("sounds", monkeypatch, tmp_path) as client:
        yield client


@pytest.mark.slow
def test_dvc_extracts_in_a_bucket_and_trains_from_there(tmp_path, run, bucket, registered):
    folder = copied(registered, tmp_path / "project")
    shutil.rmtree(folder / "data/features")
    shutil.rmtree(folder / "models/tc_resnet")
    places = {"raw": "s3://sounds/raw", "features": "s3://sounds/features"}
    short = FAST_TC_RESNET | {"epochs": 1}
    change_params(folder, {"extract": places, "train": {"candidates": {"tc_resnet": short}}})
    pipeline = (folder / "dvc.yaml").read_text()
    edited = pipeline.replace(
        "${extract.features}: {persist: true}", "${extract.features}: {persist: true, cache: false}"
    )
    assert edited != pipeline
    (folder / "dvc.yaml").write_text(edited)
    assert run(folder, "earmark", "upload").returncode == 0
    done = run(folder, "dvc", "repro", "train@tc_resnet")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "tc_resnet reached" in done.stdout
    assert (folder / "models/tc_resnet/model.keras").exists()
    assert not (folder / "data/features").exists()
    again = run(folder, "dvc", "repro", "train@tc_resnet")
    assert again.returncode == 0, again.stdout + again.stderr
    assert "Stage 'extract' didn't change" in again.stdout
    assert "Stage 'train@tc_resnet' didn't change" in again.stdout
