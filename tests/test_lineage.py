"""`earmark lineage`: the chain of a version in a real registry and DVC's cache, whole, then broken link by link."""

import contextlib
import hashlib
import json
import re
import shutil
import subprocess
from pathlib import Path

import mlflow
import pandas as pd
import pytest
import yaml
from conftest import ROOT, copied
from dvc_remote import set_absent_remote, set_remote

from earmark import params
from earmark.errors import UserError
from earmark.stages import origin
from earmark.stores import origins, provenance, tracking

STAGES = {
    "make": {
        "cmd": "true",
        "outs": [
            {path: {"persist": True}}
            for path in ("data/raw", "data/accepted.parquet", "data/features", "models/tc_resnet")
        ],
    }
}
OUTPUTS = ("data/raw/manifest.parquet", "data/raw/a.tar", "data/features/a.npy", "models/tc_resnet/model.keras")


@pytest.fixture(scope="module")
def whole(tmp_path_factory, run) -> Path:
    """A checkout with a registered version of outputs that DVC has in its cache, and in a remote; tests change copies
    of it."""
    folder = tmp_path_factory.mktemp("lineage") / "project"
    folder.mkdir()
    with contextlib.chdir(folder):
        shutil.copy(ROOT / "params.yaml", "params.yaml")
        Path("dvc.yaml").write_text(yaml.safe_dump({"stages": STAGES}))
        Path(".gitignore").write_text("/mlflow.db\n/mlruns\n/storage\n")
        for path in OUTPUTS:
            Path(path).parent.mkdir(parents=True, exist_ok=True)
            Path(path).write_text(path)
        pd.DataFrame({"speaker": ["anouk", "ben"]}).to_parquet("data/accepted.parquet")
        Path("reports/validation").mkdir(parents=True)
        Path("reports/metrics.json").write_text("{}")
        Path("reports/validation/result.json").write_text(json.dumps({"passed": True, "sentence": "2 accepted"}))
        for command in (["init", "-q"], ["config", "user.name", "t"], ["config", "user.email", "t@example.invalid"]):
            subprocess.run(["git", *command], check=True)
        assert run(folder, "dvc", "init", "-q").returncode == 0
        set_remote(url="../storage")
        for command in ("repro", "push"):
            assert run(folder, "dvc", command, "-q").returncode == 0
        for command in (["add", "-A"], ["commit", "-qm", "made"]):
            subprocess.run(["git", *command], check=True)
        Path("src").mkdir()
        Path("src/new.py").write_text("uncommitted = True\n")
        with pytest.MonkeyPatch.context() as environment:  # which set_tracking_uri changes
            environment.setenv("MLFLOW_TRACKING_URI", database(folder))
            register(folder)
    return folder


def database(folder: Path) -> str:
    return f"sqlite:///{folder}/mlflow.db"


def register(folder: Path) -> None:
    mlflow.set_tracking_uri(database(folder))
    client = mlflow.MlflowClient()
    found = origin.gather("tc_resnet", params.load())
    mlflow.set_experiment("earmark")
    with mlflow.start_run() as started:
        machine = {"cpu": provenance.cpu(), "trained_by": "nothing", **provenance.requirements()}
        mlflow.set_tags({"git_commit": found.tags["git_commit"], **machine})
        mlflow.log_artifacts("models/tc_resnet", "model/artifacts/tc_resnet")
        kept = origins.keep(started.info.run_id, found.files)
    content = provenance.content_sha256(Path("models/tc_resnet"))
    client.create_registered_model("earmark")
    source = f"{started.info.artifact_uri}/model"
    tags = {**found.tags, **kept, "candidate": "tc_resnet", "content_sha256": content}
    client.create_model_version("earmark", source, started.info.run_id, tags=tags)
    client.set_registered_model_alias("earmark", "champion", "1")


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
    return Path(".dvc/cache") / provenance.object_path(md5)


def in_remote(path: str) -> Path:
    return Path("storage") / in_cache(path).relative_to(".dvc/cache")


def artifact(name: str) -> Path:
    return next(Path("mlruns").rglob(f"provenance/*/{name}"))


def registry(project: Path) -> mlflow.MlflowClient:
    return mlflow.MlflowClient(database(project))


def run_id(project: Path) -> str:
    return registry(project).get_model_version("earmark", "1").run_id


def overwrite(path: Path) -> None:
    path.chmod(0o644)
    path.write_bytes(path.read_bytes()[::-1] + b"x")
    path.chmod(0o444)


def test_a_whole_chain_holds(project, run, earmark):
    done = run(project, "earmark", "lineage", "champion")
    assert done.returncode == 0, done.stdout + done.stderr
    lines = done.stdout.splitlines()
    assert lines[0] == "earmark version 1 (champion): tc_resnet"
    assert lines[-1] == "nothing is missing, and nothing is damaged"
    head = subprocess.run(["git", "rev-parse", "HEAD"], check=True, capture_output=True, text=True).stdout.strip()
    for expected in (head, "passed: 2 accepted", "whole in DVC's cache", *provenance.dvc_hashes().values()):
        assert expected in done.stdout
    assert "that of training" not in done.stdout
    assert earmark(project, "lineage", "1").stdout == done.stdout


def test_what_only_a_remote_has_still_holds(project, earmark):
    shutil.rmtree(".dvc/cache")
    done = earmark(project, "lineage", "1")
    assert done.returncode == 0
    assert "whole in remote 'storage'" in done.stdout


def lose_shard() -> None:
    in_cache("data/raw/a.tar").unlink()
    in_remote("data/raw/a.tar").unlink()


def lose_folder() -> None:
    md5 = provenance.dvc_hashes()["dvc:models/tc_resnet"]
    for root in (".dvc/cache", "storage"):
        (Path(root) / provenance.object_path(md5)).unlink()


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
    "a kept file is gone": (lambda: artifact("params.yaml").unlink(), "parameters: provenance/params.yaml is not "),
    "a kept file is another": (lambda: overwrite(artifact("requirements.lock")), "lock file: provenance/requirements"),
    "the patch is another": (lambda: overwrite(artifact("code.patch")), "code beyond it: provenance/code.patch"),
    "the model is another": (
        lambda: overwrite(next(Path("mlruns").rglob("model.keras"))),
        "registered model: MLflow has a model with SHA-256 ",
    ),
}


@pytest.mark.parametrize(("damage", "named"), BREAKS.values(), ids=BREAKS)
def test_a_broken_link_is_named(project, earmark, damage, named):
    damage()
    done = earmark(project, "lineage", "champion")
    assert done.returncode == 1, done.stderr
    listed = done.stdout.partition("missing or damaged:\n")[2].splitlines()
    assert any(line.startswith(f"  {named}") for line in listed), done.stdout


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
    assert re.search(r"^dvc.lock then +agrees$", done.stdout, re.MULTILINE)


def test_a_lock_file_that_was_edited_after_training_is_told_from_the_one_of_training(project, earmark):
    registry(project).set_tag(run_id(project), "sha256.requirements.lock", "f" * 64)
    done = earmark(project, "lineage", "1", COLUMNS="250")
    assert done.returncode == 0
    registered = hashlib.sha256(provenance.LOCK.read_bytes()).hexdigest()
    assert re.search(f"^lock file +{registered} +holds; that of training: {'f' * 64}$", done.stdout, re.MULTILINE)


@pytest.mark.parametrize(("backend", "here"), [("tensorflow", r"tensorflow [\d.]+ on .+"), ("jaxx", "none, since .+")])
def test_what_may_be_the_reason_that_a_version_is_not_made_again_is_named(project, run, backend, here):
    registry(project).set_tag(run_id(project), "sha256.requirements.lock", "f" * 64)
    done = run(project, "earmark", "reproduce", "1", KERAS_BACKEND=backend)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    reasons = done.stdout.partition("what may be the reason:\n")[2].splitlines()
    registered = hashlib.sha256(provenance.LOCK.read_bytes()).hexdigest()
    assert len(reasons) == 2
    assert (
        reasons[0]
        == f"  requirements.lock when it was trained: SHA-256 {'f' * 64}; when it was registered: {registered}"
    )
    assert re.fullmatch(f"  the backend is another: nothing -> {here}", reasons[1])


def test_other_speakers_than_recorded_are_named(project, earmark):
    registry(project).set_model_version_tag("earmark", "1", "speakers_sha256", "0" * 64)
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
    assert "cannot be made again, since these are not recorded: the tag candidate" in again.stderr


def test_parameters_that_cannot_be_read_are_refused(project, earmark):
    artifact("params.yaml").write_text("train: [\n")
    now = hashlib.sha256(b"train: [\n").hexdigest()
    registry(project).set_model_version_tag("earmark", "1", "sha256.params.yaml", now)
    done = earmark(project, "reproduce", "1")
    assert done.returncode == 2, done.stdout + done.stderr
    assert "the version's params.yaml cannot be read" in done.stderr


@pytest.mark.parametrize(
    ("command", "wanted"),
    [*(("lineage", wanted) for wanted in ("2", "nobody", "a/b", "9" * 40, "")), ("reproduce", "../x")],
)
def test_what_is_no_version_is_refused(project, earmark, command, wanted):
    done = earmark(project, command, "--", wanted)
    assert done.returncode == 2, done.stdout + done.stderr
    assert done.stderr.startswith(f"earmark: earmark has no version or alias {wanted!r}")
    assert "allowed are 1, champion" in done.stderr


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
        tracking.connect("earmark")
