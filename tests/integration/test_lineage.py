"""`earmark lineage`: the chain of a version in a real registry and DVC's cache, whole, then broken link by link."""

import hashlib
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from conftest import copied
from support.dvc_remote import set_absent_remote
from support.small_version import artifact, recorded_otherwise, registry, run_id, small_version

from earmark.errors import UserError
from earmark.provenance import environment
from earmark.tracking import connection
from earmark.versioning import dvc_cache, dvc_lock


@pytest.fixture(scope="module")
def whole(tmp_path_factory, run) -> Path:
    return small_version(tmp_path_factory, run)


@pytest.fixture
def project(whole, tmp_path, monkeypatch) -> Path:
    """A copy of the checkout as the working directory."""
    for name in ("MLFLOW_TRACKING_URI", "EARMARK_FLOW_RUN_ID"):
        monkeypatch.delenv(name, raising=False)
    folder = copied(whole, tmp_path / "project")
    monkeypatch.chdir(folder)
    return folder


def in_cache(path: str) -> Path:
    """DVC's copy of a file."""
    md5 = subprocess.run(["md5sum", path], check=True, capture_output=True, text=True).stdout.split()[0]
    return Path(".dvc/cache") / dvc_cache.object_path(md5)


def in_remote(path: str) -> Path:
    return Path("storage") / in_cache(path).relative_to(".dvc/cache")


def overwrite(path: Path) -> None:
    path.chmod(0o644)
    path.write_bytes(path.read_bytes()[::-1] + b"x")
    path.chmod(0o444)


def test_a_whole_chain_holds(project, run, earmark):
    wide = {"COLUMNS": "250"}  # a hash is not broken, however long the paths beside it
    done = run(project, "earmark", "lineage", "champion", **wide)
    assert done.returncode == 0, done.stdout + done.stderr
    lines = done.stdout.splitlines()
    assert lines[0] == "earmark version 1 (champion): tc_resnet"
    assert lines[-1] == "nothing is missing or damaged"
    head = subprocess.run(["git", "rev-parse", "HEAD"], check=True, capture_output=True, text=True).stdout.strip()
    for expected in (head, "passed: 2 accepted", "complete in DVC's cache", *dvc_lock.output_hashes().values()):
        assert expected in done.stdout
    assert "trained with" not in done.stdout
    assert earmark(project, "lineage", "1", **wide).stdout == done.stdout


def test_what_only_a_remote_has_still_holds(project, earmark):
    shutil.rmtree(".dvc/cache")
    done = earmark(project, "lineage", "1")
    assert done.returncode == 0
    assert "complete in remote 'storage'" in done.stdout


def lose_shard() -> None:
    in_cache("data/raw/a.tar").unlink()
    in_remote("data/raw/a.tar").unlink()


def lose_folder() -> None:
    md5 = dvc_lock.output_hashes()["models/tc_resnet"]
    for root in (".dvc/cache", "storage"):
        (Path(root) / dvc_cache.object_path(md5)).unlink()


def lose_commit() -> None:
    git_dir = Path(".git")
    shutil.rmtree(git_dir)
    subprocess.run(["git", "init", "-q"], check=True)


BREAKS = {
    "a shard is nowhere": (lose_shard, "raw data: data/raw/a.tar: "),
    "a list is nowhere": (lose_folder, "model: the list of the files of models/tc_resnet: "),
    "a file is damaged": (
        lambda: overwrite(in_cache("data/accepted.parquet")),
        "accepted clips: data/accepted.parquet: ",
    ),
    "the commit is not here": (lose_commit, "code: this repository has no commit "),
    "the record is another": (lambda: overwrite(artifact("record.json")), "record: provenance/record.json of the run "),
    "a kept file is gone": (lambda: artifact("params.yaml").unlink(), "parameters: provenance/params.yaml is not "),
    "a kept file is another": (lambda: overwrite(artifact("requirements.lock")), "lock file: provenance/requirements"),
    "the patch is another": (lambda: overwrite(artifact("code.patch")), "uncommitted code: provenance/code.patch"),
    "the model is another": (
        lambda: overwrite(next(Path("mlruns").rglob("model.keras"))),
        "registered model: MLflow's model has SHA-256 ",
    ),
}


@pytest.mark.parametrize(("damage", "named"), BREAKS.values(), ids=BREAKS)
def test_a_broken_link_is_named(project, earmark, damage, named):
    damage()
    done = earmark(project, "lineage", "champion")
    assert done.returncode == 1, done.stderr
    listed = done.stdout.partition("missing or damaged:\n")[2].splitlines()
    assert any(line.startswith(f"  {named}") for line in listed), done.stdout


def test_a_changed_record_and_a_damaged_verdict_are_named_by_show(project, earmark):
    overwrite(artifact("record.json"))
    shown = earmark(project, "registry", "show", "1")
    assert shown.returncode == 0, shown.stderr
    assert "record.json is missing or was changed; see 'earmark lineage 1'" in " ".join(shown.stdout.split())
    verdict = next(Path("mlruns").rglob(f"{run_id(project)}/artifacts")) / "verdict/verdict.json"
    verdict.parent.mkdir(parents=True)
    verdict.write_text("[")
    assert "verdict.json of the run is damaged" in earmark(project, "registry", "show", "1").stdout


def test_a_run_that_is_gone_is_named(project, earmark):
    registry(project).delete_run(run_id(project))
    done = earmark(project, "lineage", "1")
    assert done.returncode == 1
    assert "run: MLflow has no run" in done.stdout


def test_a_remote_that_does_not_answer_has_a_row_of_its_own(project, earmark):
    set_absent_remote()
    in_cache("data/raw/a.tar").unlink()
    done = earmark(project, "lineage", "1", AWS_MAX_ATTEMPTS="1", AWS_EC2_METADATA_DISABLED="true")
    assert done.returncode == 1
    assert re.search(r"^remote 'storage' +does not answer: ", done.stdout, re.MULTILINE)
    assert re.search(r"^dvc.lock +agrees$", done.stdout, re.MULTILINE)


def test_a_lock_file_that_was_edited_after_training_is_told_from_the_one_of_training(project, earmark):
    registry(project).set_tag(run_id(project), "sha256.requirements.lock", "f" * 64)
    done = earmark(project, "lineage", "1", COLUMNS="250")
    assert done.returncode == 0
    registered = hashlib.sha256(environment.LOCK.read_bytes()).hexdigest()
    assert re.search(f"^lock file +{registered} +holds; trained with {'f' * 64}$", done.stdout, re.MULTILINE)


def test_other_speakers_than_recorded_are_named(project, earmark):
    recorded_otherwise(project, {"speakers_sha256": "0" * 64})
    done = earmark(project, "lineage", "1")
    assert done.returncode == 1
    assert "speakers: those of data/accepted.parquet" in done.stdout


def test_a_version_without_provenance_says_what_is_not_recorded(project, earmark):
    for tag in registry(project).get_model_version("earmark", "1").tags:
        registry(project).delete_model_version_tag("earmark", "1", tag)
    done = earmark(project, "lineage", "1")
    assert done.returncode == 1
    assert "raw data: the version has no hash of data/raw" in done.stdout
    again = earmark(project, "reproduce", "1")
    assert again.returncode == 2
    assert "cannot be rebuilt: it has no record of candidate" in again.stderr


@pytest.mark.parametrize(
    ("command", "version"),
    [*(("lineage", version) for version in ("2", "nobody", "a/b", "9" * 40, "")), ("reproduce", "../x")],
)
def test_what_is_no_version_is_refused(project, earmark, command, version):
    done = earmark(project, command, "--", version)
    assert done.returncode == 2, done.stdout + done.stderr
    assert done.stderr.startswith(f"earmark: earmark has no version or alias {version!r}")
    assert "expected one of 1, champion" in done.stderr


ADDRESSES = {
    "down": "http://127.0.0.1:9",
    "no address": "http://[bad",
    "without a driver": "postgresql://127.0.0.1:9/x",
}


@pytest.mark.parametrize("address", ADDRESSES.values(), ids=ADDRESSES)
def test_a_registry_that_does_not_answer_is_refused(project, earmark, address):
    at = {"MLFLOW_TRACKING_URI": address, "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0"}
    done = earmark(project, "lineage", "1", **at)
    assert done.returncode == 2
    assert done.stderr.startswith(f"earmark: MLflow at {address} does not answer: ")
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("address", ["http://[bad", "postgresql://127.0.0.1:9/x"])
def test_runs_at_such_an_address_are_refused_too(monkeypatch, address):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
    with pytest.raises(UserError, match="does not answer: "):
        connection.connect("earmark")
